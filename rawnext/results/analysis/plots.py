# SPDX-License-Identifier: Apache-2.0
"""Pictures of an experiment: DET curves, EER against duration, the course of training, activations in an utterance.

The only place that imports matplotlib, and only inside functions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rawnext.files import PathLike, atomic_path
from rawnext.results.rows import durations_of, seconds
from rawnext.scoring.metrics import Det

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # safe for colour-blind eyes
PAPER_COLOUR = "#777777"
DET_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 60)  # %


def new_figure(num_rows: int, num_columns: int, width: float, height: float):
    """A figure without a window, and its (num_rows, num_columns) axes of width x height inches each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, squeeze=False)


def save(figure, path: PathLike) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix[1:], dpi=120)


def label_of(duration: str) -> str:
    return duration if duration == "full" else f"{duration} s"


def plot_det(curves: Mapping[tuple[str, str], Mapping[str, tuple[Det, float]]], path: PathLike) -> None:
    """DET curves on normal-deviate axes: a panel for each list and scoring, a curve for each duration.

    Args:
        curves: (list, scoring) -> duration -> (curve, EER in %).
    """
    rows: dict[str, list[str]] = {}  # list -> its scorings; another data set's lists have others
    for name, scoring in curves:
        rows.setdefault(name, []).append(scoring)
    figure, axes = new_figure(len(rows), max(map(len, rows.values())), 5.2, 5)
    durations = durations_of([{"duration": d} for panel in curves.values() for d in panel])
    for (name, scoring), panel in curves.items():
        axis = axes[list(rows).index(name)][rows[name].index(scoring)]
        for duration, (det, eer) in panel.items():
            axis.plot(*det_line(det), color=COLOURS[durations.index(duration) % len(COLOURS)],
                      label=f"{label_of(duration)}: EER {eer:.2f} %")
        axis.set_title(f"{name}, {scoring}")
        # a poor system's curves pass through the upper right corner
        det_axes(axis, "upper right" if max(eer for _, eer in panel.values()) < 15 else "lower left")
    for axis in axes.flat:
        if not axis.lines:
            axis.set_visible(False)
    save(figure, path)


def det_line(det: Det) -> tuple[np.ndarray, np.ndarray]:
    """Normal deviates of false alarm and miss rate, at the corners of the curve only.

    A rate of 0 has no deviate: it is drawn half an error above.
    """
    from scipy.special import ndtri

    false_alarms, misses = np.diff(det.num_false_accepts), np.diff(det.num_misses)
    # between two steps in the same direction nothing bends
    straight = ((false_alarms[1:] == 0) & (false_alarms[:-1] == 0)) | ((misses[1:] == 0) & (misses[:-1] == 0))
    keep = np.r_[True, ~straight, True]
    return (ndtri(np.clip(det.fpr[keep], 0.5 / det.num_nontargets, 1 - 0.5 / det.num_nontargets)),
            ndtri(np.clip(det.fnr[keep], 0.5 / det.num_targets, 1 - 0.5 / det.num_targets)))


def det_axes(axis, legend: str) -> None:
    """Ticks in per cent, the diagonal of equal errors, legend."""
    from scipy.special import ndtri

    places = ndtri(np.array(DET_TICKS) / 100)
    for which in (axis.xaxis, axis.yaxis):
        which.set_ticks(places, labels=[f"{tick:g}" for tick in DET_TICKS])
    axis.set(xlim=places[[0, -1]], ylim=places[[0, -1]], xlabel="false alarm rate (%)", ylabel="miss rate (%)",
             aspect="equal")
    axis.plot(places[[0, -1]], places[[0, -1]], color="#bbbbbb", linewidth=0.8, linestyle=":")
    axis.grid(alpha=0.3)
    axis.legend(loc=legend, fontsize="small")


def plot_durations(lines: Mapping[str, Mapping[str, Mapping[str, float]]], path: PathLike) -> None:
    """EER against the test side's duration: a panel for each list that has several, a line for each scoring.

    The published figures are dashed.

    Args:
        lines: list -> scoring, or `published` -> duration -> EER in %.
    """
    several = [name for name, panel in lines.items() if any(len(line) > 1 for line in panel.values())]
    lists = several or list(lines)
    figure, axes = new_figure(1, len(lists), 7, 4)
    durations = durations_of([{"duration": d} for panel in lines.values() for line in panel.values() for d in line])
    durations.reverse()
    scorings = list(dict.fromkeys(name for panel in lines.values() for name in panel if name != "published"))
    for axis, name in zip(axes[0], lists):
        for scoring, line in lines[name].items():
            known = sorted(line, key=seconds)
            style: dict[str, Any] = {"color": PAPER_COLOUR, "linestyle": "--", "marker": "o"}
            if scoring != "published":  # another marker when the colours begin again
                again, place = divmod(scorings.index(scoring), len(COLOURS))
                style = {"color": COLOURS[place], "marker": "os^v"[again % 4]}
            axis.plot([durations.index(d) for d in known], [line[d] for d in known], label=scoring, **style)
        axis.set_xticks(range(len(durations)), [label_of(d) for d in durations])
        axis.set(title=name, xlabel="test duration", ylabel="EER (%)", xlim=(-0.3, len(durations) - 0.7))
        axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))  # beside the lines, which may be a dozen
    save(figure, path)


def plot_training(table: Mapping[str, np.ndarray], path: PathLike) -> None:
    """Loss, accuracy, learning rate and validation EER over epochs.

    Args:
        table: columns of train.tsv: epoch, loss, acc (0..1), lr, eer_dev (%), each (E,); NaN where not measured.
    """
    figure, axes = new_figure(2, 2, 5, 3.2)
    panels = (("loss", "training loss", 1), ("acc", "training accuracy (%)", 100), ("lr", "learning rate", 1),
              ("eer_dev", "validation EER (%)", 1))
    for axis, (name, label, factor), colour in zip(axes.flat, panels, COLOURS):
        known = np.isfinite(table[name])
        axis.plot(table["epoch"][known], factor * table[name][known], color=colour, marker=".")
        axis.set(ylabel=label, xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        if name == "lr" and (table[name][known] > 0).any():
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
        if not known.any():
            axis.set(xticks=[], yticks=[])
            axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=PAPER_COLOUR)
    save(figure, path)


def plot_activation(wave: np.ndarray, energies: np.ndarray, activation: np.ndarray, rate: float, hop: float,
                    ticks: Mapping[int, float], title: str, path: PathLike) -> None:
    """An utterance's waveform, its log-mel energies, and an activation map over them.

    Args:
        wave: (T,).   energies: (bands, frames).   activation: (bands, frames), 0...1.
        rate: samples in a second.   hop: samples from the middle of a frame to that of the next.
        ticks: frequency in Hz -> its place among the bands, 0 the first one's.
    """
    figure, axes = new_figure(3, 1, 9, 2)
    top, middle, bottom = axes[:, 0]
    duration, (num_bands, num_frames) = len(wave) / rate, energies.shape
    edges = np.linspace(0, len(wave), num=min(len(wave), 4000) + 1, dtype=int)[:-1]  # no more than can be seen
    top.fill_between(edges / rate, np.minimum.reduceat(wave, edges), np.maximum.reduceat(wave, edges),
                     color=PAPER_COLOUR, linewidth=0.3)
    top.set(ylabel="amplitude", title=title)
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
