# SPDX-License-Identifier: Apache-2.0
"""The charts of an experiment's page, from evaluations and their scores."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from rawnext.results.analysis.chart import SQUARE, Axis, Chart, Line, Plane, axis
from rawnext.results.analysis.plots import DET_TICKS, det_line, label_of
from rawnext.results.rows import Row, seconds
from rawnext.scoring.det import Det, det_points
from rawnext.scoring.metrics import act_dcf_of, min_dcf_of

BINS = 60
PRIORS = (0.01, 0.05)              # P_target at which thresholds are marked
LOG_ODDS = np.linspace(-7, 7, 57)  # natural logarithms of P_target / (1 - P_target)
TRAINING = (("loss", "training loss", 1), ("acc", "training accuracy (%)", 100), ("lr", "learning rate", 1),
            ("eer_dev", "validation EER (%)", 1))


class Curves(NamedTuple):
    """What is drawn of one evaluation's scores; small, whatever the number of trials.

    det: normal deviates of false alarm and miss rate.   edges: (BINS + 1,).   target, nontarget: (BINS,) densities.
    marks: (name, score) of thresholds.   bayes: actual and least error at LOG_ODDS, of LLRs; else None.
    """

    system: str
    row: Row
    det: tuple[np.ndarray, np.ndarray]
    edges: np.ndarray
    target: np.ndarray
    nontarget: np.ndarray
    marks: list[tuple[str, float]]
    bayes: tuple[np.ndarray, np.ndarray] | None

    @property
    def name(self) -> str:
        return f"{self.system}, {label_of(self.row['duration'])}"


def curves_of(system: str, row: Row, is_target: np.ndarray, scores: np.ndarray) -> Curves:
    """Args: is_target, scores: (N,) of an evaluation's trials. LLRs are those whose row has a `cllr`."""
    target, nontarget = scores[is_target], scores[~is_target]
    low, high = np.percentile(scores, (0.05, 99.95))  # a few far scores must not press the others into one bin
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    densities = [np.histogram(side.clip(edges[0], edges[-1]), edges, density=True)[0] for side in (target, nontarget)]
    det = det_points(target, nontarget)
    return Curves(system, row, det_line(det), edges, densities[0], densities[1], thresholds(det, is_llr(row)),
                  bayes_error(det) if is_llr(row) else None)


def thresholds(det: Det, llr: bool) -> list[tuple[str, float]]:
    """(name, score from which trials are accepted) of EER, minDCF, and of the Bayes decision where scores are LLRs.

    The strictest, where several are as good; inf where it is best to reject all.
    """
    costs = {"EER": np.abs(det.fpr - det.fnr), **{f"minDCF {p:g}": p * det.fnr + (1 - p) * det.fpr for p in PRIORS}}
    marks = [(name, float(det.thresholds[np.argmin(cost)])) for name, cost in costs.items()]
    return marks + [(f"Bayes {p:g}", float(np.log((1 - p) / p))) for p in PRIORS if llr]


def bayes_error(det: Det) -> tuple[np.ndarray, np.ndarray]:
    """Normalised Bayes error of LLRs at LOG_ODDS: as they decide, and at the best threshold.

    Source: Brümmer and de Villiers, "The BOSARIS toolkit", 2011 (normalised Bayes error-rate plot).
    """
    hull, priors = det.hull(), 1 / (1 + np.exp(-LOG_ODDS))  # the least cost of a linear function is at a corner
    return (np.array([act_dcf_of(det, p) for p in priors]), np.array([min_dcf_of(hull, p) for p in priors]))


def is_llr(row: Row) -> bool:
    return "cllr" in row


def styles(names: list[str]) -> dict[str, int]:
    """Each different name's number, in the order of its first appearance."""
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def det_chart(title: str, group: list[Curves]) -> Chart:
    """DET curves of one list and scoring: a colour for each duration, a dash for each system."""
    ticks = [(float(ndtri(t / 100)), f"{t:g}" if t != 0.2 else "") for t in DET_TICKS]  # no room for two of them
    plane = Plane(Axis("false alarm rate (%)", ticks[0][0], ticks[-1][0], ticks),
                  Axis("miss rate (%)", ticks[0][0], ticks[-1][0], ticks), SQUARE)
    colour, dash = styles([c.row["duration"] for c in group]), styles([c.system for c in group])
    lines = [plane.line(f"{c.name}: EER {c.row['eer']:.2f} %", *c.det, colour[c.row["duration"]], dash[c.system])
             for c in group]
    ends = ticks[0][0], ticks[-1][0]
    return plane.chart(title, f"DET curves. {said(group)}", [plane.line("", ends, ends, -1, 2), *lines])


def said(group: list[Curves]) -> str:
    """The figures of a chart in words."""
    return "; ".join(f"{c.name}: EER {c.row['eer']:.2f} per cent" for c in group) + "."


def histogram_chart(c: Curves) -> Chart:
    """Densities of target and nontarget scores, and the thresholds between them."""
    top = 1.05 * max(c.target.max(), c.nontarget.max())
    plane = Plane(axis("score (LLR)" if is_llr(c.row) else "score", *c.edges[[0, -1]]), axis("density", 0, top, 4))
    x = np.repeat(c.edges, 2)
    lines = [plane.line(name, x, np.r_[0, np.repeat(density, 2), 0], colour, filled=True)
             for name, density, colour in (("nontarget", c.nontarget, 1), ("target", c.target, 0))]
    for place, (name, score) in enumerate(c.marks):
        shown = "reject all" if np.isinf(score) else f"{score:.3g}"
        lines.append(plane.line(f"{name}: {shown}", [score] * 2, [0, top], (2, 3, 4, 5, 6)[place], place % 3)
                     if c.edges[0] <= score <= c.edges[-1] else Line(f"{name}: {shown} (not shown)", "", -1))
    words = ", ".join(line.label for line in lines[2:])
    return plane.chart(c.name, f"Histogram of target and nontarget scores. Thresholds: {words}.", lines)


Measured = Mapping[str, Mapping[str, tuple[float, list[float] | None]]]  # line -> duration -> (value, interval)


def duration_chart(title: str, unit: str, lines: Measured, look: Mapping[str, tuple[int, int]]) -> Chart:
    """A measure against the test side's duration, from short to full; bands are 95 % intervals.

    Args: look: line -> colour, dash.
    """
    durations = sorted({d for line in lines.values() for d in line}, key=seconds)
    cells = [cell for line in lines.values() for cell in line.values()]
    top = 1.1 * max(max([value, *(limits or [])]) for value, limits in cells)
    plane = Plane(Axis("test duration", -0.2, len(durations) - 0.8,
                       [(i, label_of(d)) for i, d in enumerate(durations)]), axis(unit, 0, top or 1))
    drawn = []
    for name, line in lines.items():
        known = [d for d in durations if d in line]
        values, limits = [line[d][0] for d in known], [line[d][1] for d in known]
        band: dict[str, Any] = {}
        if all(limits):
            band = {"low": [pair[0] for pair in limits if pair], "high": [pair[1] for pair in limits if pair]}
        drawn.append(plane.line(name, [durations.index(d) for d in known], values, *look[name], dots=True, **band))
    words = "; ".join(f"{name}: " + ", ".join(f"{label_of(d)} {line[d][0]:.3g}" for d in durations if d in line)
                      for name, line in lines.items())
    return plane.chart(title, f"{unit} against test duration. {words}.", drawn)


def bayes_chart(title: str, group: list[Curves]) -> Chart:
    """Normalised Bayes error over prior log-odds: as the LLRs decide (solid), and at the best threshold (dashed)."""
    plane = Plane(axis("logit of the prior P_target", LOG_ODDS[0], LOG_ODDS[-1], 7),
                  axis("normalised Bayes error", 0, 1.2, 6))
    lines = []
    for place, c in enumerate(group):
        assert c.bayes
        lines += [plane.line(f"{label_of(c.row['duration'])}: {kind}", LOG_ODDS, error, place % 7, dash)
                  for kind, error, dash in zip(("actual", "least"), c.bayes, (0, 1))]
    return plane.chart(title, "Normalised Bayes error of the scores over prior log-odds, actual and least.", lines)


def training_charts(tables: Mapping[str, Mapping[str, np.ndarray]]) -> list[Chart]:
    """Loss, accuracy, learning rate and validation EER over epochs; what was never measured has no chart.

    Args: tables: system -> columns of train.tsv, (E,) each, NaN where not measured.
    """
    charts = []
    for name, label, factor in TRAINING:
        known = {system: (table["epoch"][fine], factor * table[name][fine]) for system, table in tables.items()
                 if (fine := np.isfinite(table[name])).any()}
        if known:
            charts.append(training_chart(label, known, log=name == "lr"))
    return charts


def training_chart(label: str, known: Mapping[str, tuple[np.ndarray, np.ndarray]], log: bool) -> Chart:
    epochs, values = (np.concatenate(side) for side in zip(*known.values()))
    if log := log and bool((values > 0).all()):
        known = {system: (x, np.log10(y)) for system, (x, y) in known.items()}
        y_axis = axis("", np.log10(values.min()), np.log10(values.max()), log=True)
    else:
        y_axis = axis("", 0, 1.05 * values.max())
    plane = Plane(axis("epoch", min(1, epochs.min()), max(2, epochs.max())), y_axis)
    lines = [plane.line(system, x, y, place % 7, dots=len(x) < 60)
             for place, (system, (x, y)) in enumerate(known.items())]
    last = "; ".join(f"{system} ends at {10 ** y[-1] if log else y[-1]:.3g}" for system, (_, y) in known.items())
    return plane.chart(label, f"{label} over epochs: {last}.", lines)
