# SPDX-License-Identifier: Apache-2.0
"""Figures of an experiment, for EXP/figures and for report.html.

A `*_panel` function draws on a matplotlib axis and returns the content in words, for readers who cannot see it.
Only this module imports matplotlib, and only inside functions.
"""

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path
from rawnext.results.analysis.curves import LOG_ODDS, Curves
from rawnext.results.rows import Row, durations_of, label_of, seconds

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # safe for colour-blind readers
BRANCH_COLOURS = {"low": COLOURS[0], "original": COLOURS[2], "high": COLOURS[1]}
DASHES = ("-", "--", ":", "-.")
GREY = "#777777"
DET_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60)  # %
TRAINING = (("loss", "training loss", 1), ("acc", "training accuracy (%)", 100), ("lr", "learning rate", 1),
            ("eer_dev", "validation EER (%)", 1))     # column of train.tsv, label, factor
Measured = Mapping[str, tuple[float, Sequence[float] | None]]  # duration -> (value, interval if known)


# --- files

def new_figure(num_rows: int, num_columns: int, width: float, height: float):
    """A figure without a window, and its (num_rows, num_columns) axes of width x height inches each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def arrange(figure) -> None:
    """Place the axes so that no labels overlap. Without this, saving would do so twice and draw twice."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(None)


def save(figure, *paths: PathLike) -> None:
    arrange(figure)
    for path in paths:
        if (kind := Path(path).suffix[1:].lower()) not in figure.canvas.get_supported_filetypes():
            raise InputError(path, None, "expected a name that ends in .png, .pdf or .svg")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=120)


def svg(figure) -> str:
    """The figure as SVG whose text stays text. Paths are rounded to tenths of a point, and white space is removed."""
    from matplotlib import rc_context

    arrange(figure)
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "rawnext", "font.sans-serif": ["DejaVu Sans"]}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = re.sub(r">\s+<", "><", buffer.getvalue())
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", re.sub(r"\s*\n", "", path[0])), text)


def add_legend(axis, **options: Any) -> None:
    """A legend of matplotlib with these options; a `$` in a name is not mathematics."""
    for text in axis.legend(**options).get_texts():
        text.set_parse_math(False)


# --- panels

def det_panel(axis, curves: Sequence[Curves]) -> str:
    """DET curves on normal-deviate axes: a colour for each duration, a dash for each system."""
    durations = durations_of([c.row for c in curves])
    systems = list(dict.fromkeys(c.system for c in curves))
    for c in curves:
        points = np.round(np.array(c.det) * 200) / 200  # of points closer than a pixel, the first is enough
        points = points[:, np.r_[True, np.diff(points).any(axis=0)]]
        axis.plot(*points, color=COLOURS[durations.index(c.row["duration"]) % len(COLOURS)], label=c.eer,
                  linestyle=DASHES[systems.index(c.system) % len(DASHES)])
    places = ndtri(np.array(DET_TICKS) / 100)
    for which in (axis.xaxis, axis.yaxis):
        which.set_ticks(places, labels=[f"{tick:g}" if tick != 0.2 else "" for tick in DET_TICKS])  # no space for 0.2
    ends = places[[0, -1]]
    axis.set(xlim=ends, ylim=ends, xlabel="false alarm rate (%)", ylabel="miss rate (%)", aspect="equal")
    axis.plot(ends, ends, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axis.grid(alpha=0.3)
    return f"DET curves. {'; '.join(c.eer for c in curves)}."


def histogram_panel(axis, c: Curves) -> str:
    """Densities of target and nontarget scores, and the thresholds."""
    for name, density, colour in (("nontarget", c.nontarget, COLOURS[1]), ("target", c.target, COLOURS[0])):
        axis.stairs(density, c.edges, fill=True, color=colour, alpha=0.4, label=name)
    labels = []
    for place, (name, score) in enumerate(c.marks):
        labels.append(f"{name}: {'reject all' if np.isinf(score) else f'{score:.3g}'}")
        if c.edges[0] <= score <= c.edges[-1]:
            axis.axvline(score, color=COLOURS[2 + place], linestyle=DASHES[place % 3], label=labels[-1])
        else:
            labels[-1] += " (not shown)"
            axis.plot([], [], " ", label=labels[-1])
    axis.set(xlim=c.edges[[0, -1]], xlabel="score (LLR)" if c.bayes else "score", ylabel="density")
    axis.set_ylim(bottom=0)
    return f"Histogram of target and nontarget scores. Thresholds: {', '.join(labels)}."


def bayes_panel(axis, curves: Sequence[Curves]) -> str:
    """Normalised Bayes error against prior log-odds: actual (solid) and minimum (dashed)."""
    for place, c in enumerate(curves):
        assert c.bayes
        for kind, error, dash in zip(("actual", "minimum"), c.bayes, DASHES):
            axis.plot(LOG_ODDS, error, color=COLOURS[place % len(COLOURS)], linestyle=dash, label=f"{c.name}: {kind}")
    axis.set(xlim=LOG_ODDS[[0, -1]], ylim=(0, 1.2), xlabel="logit of the prior P_target",
             ylabel="normalised Bayes error")
    axis.grid(alpha=0.3)
    return "Normalised Bayes error of the scores against prior log-odds, actual and minimum."


def duration_panel(axis, lines: Mapping[str, Measured], names: Sequence[str], durations: Sequence[str] = (),
                   unit: str = "EER (%)") -> str:
    """A measure against duration; bands are 95 % intervals, the published line is dashed.

    Args: names: all lines of the figure, `published` aside; their order selects colour, marker and dashes.
        durations: ticks, from left to right; by default those of any line, shortest first.
    """
    durations = durations or sorted({d for line in lines.values() for d in line}, key=seconds)
    for name, line in lines.items():
        known = sorted(line, key=seconds)
        style = {"color": GREY, "linestyle": "--", "marker": "o"}
        if name != "published":
            place = names.index(name)  # hollow markers and dashes: a line on top of another hides none of it
            style = {"color": COLOURS[place % len(COLOURS)], "marker": "os^vD"[place % 5], "fillstyle": "none",
                     "linestyle": DASHES[place % len(DASHES)]}
        axis.plot([durations.index(d) for d in known], [line[d][0] for d in known], label=name, **style)
        bands = [(durations.index(d), *ends) for d in known if (ends := line[d][1])]
        if bands:
            axis.fill_between(*zip(*bands), color=style["color"], alpha=0.15, linewidth=0)
    axis.set_xticks(range(len(durations)), [label_of(d) for d in durations])
    highest = max(max([value, *(ends or ())]) for line in lines.values() for value, ends in line.values())
    axis.set(xlabel="duration", ylabel=unit, xlim=(-0.3, len(durations) - 0.7), ylim=(0, 1.1 * highest or 1))
    axis.grid(alpha=0.3)
    return f"{unit} against duration. " + "; ".join(
        f"{name}: " + ", ".join(f"{label_of(d)} {line[d][0]:.3g}" for d in durations if d in line)
        for name, line in lines.items()) + "."


def training_panel(axis, name: str, tables: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """One column of train.tsv over epochs, a line for each system; missing values are left out.

    Args: tables: system -> columns of train.tsv, (E,) each, NaN if not measured.
    """
    from matplotlib.ticker import LogFormatter, MaxNLocator

    label, factor = next((label, factor) for column, label, factor in TRAINING if column == name)
    last = []
    for place, (system, table) in enumerate(tables.items()):
        if (known := np.isfinite(table[name])).any():
            values = factor * table[name][known]
            axis.plot(table["epoch"][known], values, color=COLOURS[place % len(COLOURS)], marker=".", label=system)
            last.append(f"{system} ends at {values[-1]:.3g}")
    axis.set(ylabel=label, xlabel="epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.grid(alpha=0.3)
    if name == "lr" and any((table[name] > 0).any() for table in tables.values()):
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(LogFormatter())
    else:
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1])  # no line on the frame
    if not last:
        axis.set(xticks=[], yticks=[])
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=GREY)
    return f"{label} over epochs: {'; '.join(last) or 'not measured'}."


# --- figures of several panels

def plot_det(panels: Mapping[str, Sequence[Curves]], path: PathLike) -> None:
    """A grid of DET panels.   Args: panels: title -> curves."""
    num_columns = min(4, math.ceil(math.sqrt(len(panels))))
    figure, axes = new_figure(math.ceil(len(panels) / num_columns), num_columns, 4.2, 4.3)
    for axis, (title, curves) in zip(axes.flat, panels.items()):
        det_panel(axis, curves)
        axis.set_title(title, fontsize="medium", parse_math=False)
        # a poor system's curves pass through the upper right corner
        good = max(c.row["eer"] for c in curves) < 15
        add_legend(axis, loc="upper right" if good else "lower left", fontsize="small")
    for axis in axes.flat[len(panels):]:
        axis.set_visible(False)
    save(figure, path)


def plot_durations(panels: Mapping[str, Mapping[str, Measured]], *paths: PathLike,
                   durations: Sequence[str] | None = None) -> None:
    """A row of EER against duration: one panel for each that has several durations, or for all if none has.

    Args: panels: title -> line -> duration -> (EER in %, interval).   durations: ticks (default: all durations of
        the lines).
    """
    several = {title: lines for title, lines in panels.items() if any(len(line) > 1 for line in lines.values())}
    panels = several or panels
    durations = durations or durations_of([{"duration": d} for lines in panels.values() for line in lines.values()
                                           for d in line])[::-1]
    names = unique_names(panels.values())
    figure, axes = new_figure(1, len(panels), 7 if len(names) > 7 else 5.5, 4)
    for axis, (title, lines) in zip(axes[0], panels.items()):
        duration_panel(axis, lines, names, durations)
        axis.set_title(title, parse_math=False)
        if axis is axes[0, -1] or list(lines) != names:  # one legend for panels with the same lines
            add_legend(axis, loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")  # outside, for a dozen lines
    highest = max(axis.get_ylim()[1] for axis in axes[0])
    for axis in axes[0]:
        axis.set_ylim(0, highest)
    save(figure, *paths)


def duration_lines(cells: Iterable[tuple[str, str, Row, str]], intervals: bool = True) -> dict[str, dict[str, dict]]:
    """Panel -> line -> duration -> (value, interval).   Args: cells: (panel, line, evaluation, measure)."""
    panels: dict[str, dict[str, dict]] = {}
    for panel, line, row, name in cells:
        if name in row:
            ends = row.get(f"{name}_interval") if intervals else None
            panels.setdefault(panel, {}).setdefault(line, {})[row["duration"]] = row[name], ends
    return panels


def unique_names(panels: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of the lines of several panels, without `published`, each once."""
    return list(dict.fromkeys(name for lines in panels for name in lines if name != "published"))


def plot_training(table: Mapping[str, np.ndarray], path: PathLike) -> None:
    """Loss, accuracy, learning rate and validation EER over epochs.   Args: table: columns of train.tsv, (E,) each."""
    figure, axes = new_figure(2, 2, 5, 3.2)
    for axis, (name, _, _) in zip(axes.flat, TRAINING):
        training_panel(axis, name, {"": table})
    save(figure, path)


def plot_branches(durations: Sequence[float], lines: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str,
                  *paths: PathLike) -> None:
    """Variation scores of the branches against the utterance's length, with bands of two standard errors to each side.

    Args: durations: L, in seconds.   lines: branch -> (score, its standard error), (L,) each.
    """
    figure, axes = new_figure(1, 1, 5.5, 4)
    axis = axes[0, 0]
    for branch, (score, error) in lines.items():
        axis.plot(durations, score, marker="o", color=BRANCH_COLOURS[branch], label=branch)
        axis.fill_between(durations, score - 2 * error, score + 2 * error, color=BRANCH_COLOURS[branch], alpha=0.2,
                          linewidth=0)
    axis.axhline(0, color="#bbbbbb", linewidth=0.8)
    axis.set(xlabel="utterance length (s)", ylabel="variation score (against 1 s)")
    axis.set_title(title, fontsize="small", parse_math=False)
    axis.grid(alpha=0.3)
    axis.legend(title="resolution")
    save(figure, *paths)


def plot_activation(wave: np.ndarray, energies: np.ndarray, activation: np.ndarray, rate: float, hop: float,
                    ticks: Mapping[int, float], title: str, path: PathLike) -> None:
    """An utterance's waveform, its log-mel energies, and the activation map drawn over them.

    Args:
        wave: (T,).   energies: (bands, frames).   activation: (bands, frames), 0...1.
        rate: samples per second.   hop: samples from the middle of one frame to the middle of the next.
        ticks: frequency in Hz -> its position among the bands, 0 for the first band.
    """
    figure, axes = new_figure(3, 1, 9, 2)
    top, middle, bottom = axes[:, 0]
    duration, (num_bands, num_frames) = len(wave) / rate, energies.shape
    edges = np.linspace(0, len(wave), num=min(len(wave), 4000) + 1, dtype=int)[:-1]  # as many as can be seen
    top.fill_between(edges / rate, np.minimum.reduceat(wave, edges), np.maximum.reduceat(wave, edges), color=GREY,
                     linewidth=0.3)
    top.set_ylabel("amplitude")
    top.set_title(title, parse_math=False)
    place: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest",
                             "extent": (-hop / 2 / rate, (num_frames - 0.5) * hop / rate, -0.5, num_bands - 0.5)}
    for axis in (middle, bottom):
        axis.imshow(energies, cmap="Greys", **place)
        axis.set_yticks(list(ticks.values()), [f"{hz:g}" for hz in ticks])
        axis.set(ylabel="Hz (mel scale)")
    image = bottom.imshow(activation, cmap="plasma", vmin=0, vmax=1, alpha=0.8 * np.sqrt(activation), **place)
    bottom.set(xlabel="time (s)")
    for axis in (top, middle, bottom):
        axis.set_xlim(0, duration)
    figure.colorbar(image, ax=axes[:, 0].tolist(), label="activation / its maximum", fraction=0.03)
    save(figure, path)
