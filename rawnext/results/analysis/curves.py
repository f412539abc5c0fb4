# SPDX-License-Identifier: Apache-2.0
"""What the figures show of one evaluation's scores: DET curve, histograms, thresholds, Bayes error."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from rawnext.results.rows import Row, label_of
from rawnext.scoring.det import Det, det_points
from rawnext.scoring.metrics import act_dcf_of, min_dcf_of

BINS = 60
PRIORS = (0.01, 0.05)              # P_target of the marked thresholds
LOG_ODDS = np.linspace(-7, 7, 57)  # natural logarithms of P_target / (1 - P_target)


class Curves(NamedTuple):
    """One evaluation's scores, reduced to what is drawn.

    system: the experiment's name, or empty if there is only one.   det: normal deviates of false alarm and miss rate.
    edges: (BINS + 1,).   target, nontarget: (BINS,) densities.   marks: (name, score) of thresholds.
    bayes: actual and minimum error at LOG_ODDS; None unless the scores are LLRs.
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
        return ", ".join(filter(None, (self.system, label_of(self.row["duration"]))))

    @property
    def eer(self) -> str:
        return f"{self.name}: EER {self.row['eer']:.2f} %"


def curves_of(system: str, row: Row, is_target: np.ndarray, scores: np.ndarray) -> Curves:
    """Args: is_target, scores: (N,) of the evaluation's trials. They are LLRs if the row has a `cllr`."""
    target, nontarget = scores[is_target], scores[~is_target]
    low, high = np.percentile(scores, (0.05, 99.95))  # a few outliers must not squeeze the others into one bin
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    own, other = (np.histogram(x.clip(edges[0], edges[-1]), edges, density=True)[0] for x in (target, nontarget))
    det, llr = det_points(target, nontarget), "cllr" in row
    return Curves(system, row, det_line(det), edges, own, other, thresholds(det, llr),
                  bayes_error(det) if llr else None)


def det_line(det: Det) -> tuple[np.ndarray, np.ndarray]:
    """Normal deviates of false alarm and miss rate, at the corners of the curve only.

    The deviate of a rate of 0 is infinite: it is drawn at half an error.
    """
    false_alarms, misses = np.diff(det.num_false_accepts), np.diff(det.num_misses)
    # no corner between two steps in the same direction
    straight = ((false_alarms[1:] == 0) & (false_alarms[:-1] == 0)) | ((misses[1:] == 0) & (misses[:-1] == 0))
    keep = np.r_[True, ~straight, True]
    return (ndtri(np.clip(det.fpr[keep], 0.5 / det.num_nontargets, 1 - 0.5 / det.num_nontargets)),
            ndtri(np.clip(det.fnr[keep], 0.5 / det.num_targets, 1 - 0.5 / det.num_targets)))


def thresholds(det: Det, llr: bool) -> list[tuple[str, float]]:
    """(name, lowest accepted score) at the EER, at minDCF and, for LLRs, of the Bayes decision.

    The highest of several equally good thresholds; inf if rejecting all trials is best.
    """
    costs = {"EER": np.abs(det.fpr - det.fnr), **{f"minDCF {p:g}": p * det.fnr + (1 - p) * det.fpr for p in PRIORS}}
    marks = [(name, float(det.thresholds[np.argmin(cost)])) for name, cost in costs.items()]
    return marks + [(f"Bayes {p:g}", float(np.log((1 - p) / p))) for p in PRIORS if llr]


def bayes_error(det: Det) -> tuple[np.ndarray, np.ndarray]:
    """Normalised Bayes error of LLRs at LOG_ODDS, each (57,): at the Bayes threshold, and at the best threshold.

    Source: Brümmer and de Villiers, "The BOSARIS toolkit", 2011 (normalised Bayes error-rate plot).
    """
    hull, priors = det.hull(), 1 / (1 + np.exp(-LOG_ODDS))  # the minimum of a linear cost is at a corner of the hull
    return (np.array([act_dcf_of(det, p) for p in priors]), np.array([min_dcf_of(hull, p) for p in priors]))
