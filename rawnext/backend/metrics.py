# SPDX-License-Identifier: Apache-2.0
"""Error rates of a verification system: DET curve, EER and minDCF.

A trial is accepted if its score reaches the threshold, so trials with one score stand or fall together.
N1 and N0 are the numbers of target and nontarget trials, N their sum; everything here takes O(N log N).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Det(NamedTuple):
    """A DET curve from the strictest threshold (reject all) to the loosest (accept all).

    num_false_accepts, num_misses: (L,) whole numbers.   num_nontargets, num_targets: N0, N1.
    """

    num_false_accepts: np.ndarray
    num_misses: np.ndarray
    num_nontargets: int
    num_targets: int

    @property
    def fpr(self) -> np.ndarray:
        """(L,) share of nontarget trials that are accepted."""
        return self.num_false_accepts / self.num_nontargets

    @property
    def fnr(self) -> np.ndarray:
        """(L,) share of target trials that are missed."""
        return self.num_misses / self.num_targets


def _sorted_scores(scores: ArrayLike, name: str) -> np.ndarray:
    ordered = np.sort(np.asarray(scores, dtype=np.float64).ravel())
    if not ordered.size:
        raise ValueError(f"there are no {name} trials")
    if np.isnan(ordered[-1]):  # NaN sorts to the end
        raise ValueError(f"a {name} score is not a number")
    return ordered


def det_points(target: ArrayLike, nontarget: ArrayLike) -> Det:
    """All L points of the DET curve: one for each distinct score, and one above them all.

    Args:
        target: (N1,) scores of target trials.   nontarget: (N0,) scores of nontarget trials.
    Raises: ValueError: either side is empty or holds NaN.
    """
    targets, nontargets = _sorted_scores(target, "target"), _sorted_scores(nontarget, "nontarget")
    thresholds = np.unique(np.concatenate([targets, nontargets]))[::-1]
    misses = np.searchsorted(targets, thresholds)
    false_accepts = len(nontargets) - np.searchsorted(nontargets, thresholds)
    return Det(np.append(0, false_accepts), np.append(len(targets), misses), len(nontargets), len(targets))


def eer(target: ArrayLike, nontarget: ArrayLike, definition: str = "mean") -> float:
    """Equal error rate, a fraction.

    Args:
        target: (N1,) scores of target trials.   nontarget: (N0,) scores of nontarget trials.
        definition: where no threshold makes both rates equal, take the threshold at which they are closest (the
            strictest, if several are) and there their `mean` (RawNeXt) or `max` (voxceleb_trainer, DTDY, NeXt-TDNN);
            or `interpolated`: where the line through the curve's points crosses the diagonal.
    Raises: ValueError: either side is empty or holds NaN, or the definition is unknown.
    """
    det = det_points(target, nontarget)
    # (fpr - fnr) N0 N1 in whole numbers: rounding must not decide between thresholds
    gap = det.num_false_accepts.astype(np.int64) * det.num_targets - det.num_misses * np.int64(det.num_nontargets)
    if definition == "interpolated":
        right = int(np.argmax(gap >= 0))  # never 0: that point rejects all
        share = -gap[right - 1] / (gap[right] - gap[right - 1])
        return float((1 - share) * det.fpr[right - 1] + share * det.fpr[right])
    closest = int(np.argmin(np.abs(gap)))
    rates = float(det.fpr[closest]), float(det.fnr[closest])
    if definition == "mean":
        return sum(rates) / 2
    if definition == "max":
        return max(rates)
    raise ValueError(f"unknown EER definition {definition!r}; known: mean, max, interpolated")


def min_dcf(target: ArrayLike, nontarget: ArrayLike, p_target: float = 0.01, c_miss: float = 1.0,
            c_fa: float = 1.0) -> float:
    """Smallest normalised detection cost over all thresholds.

    Args:
        target: (N1,) scores of target trials.   nontarget: (N0,) scores of nontarget trials.
        p_target: prior of a target trial, 0 < p < 1.   c_miss, c_fa: cost of a miss and of a false alarm.
    Returns: cost divided by that of the better system without ears (reject all or accept all): at most 1.
    Raises: ValueError: either side is empty or holds NaN, or the prior is out of range.
    Source: NIST 2016 Speaker Recognition Evaluation Plan.
    """
    if not 0 < p_target < 1:
        raise ValueError(f"p_target must lie between 0 and 1, got {p_target}")
    det = det_points(target, nontarget)
    miss, false_alarm = c_miss * p_target, c_fa * (1 - p_target)
    return float(np.min(miss * det.fnr + false_alarm * det.fpr) / min(miss, false_alarm))


def best_threshold(target: ArrayLike, nontarget: ArrayLike) -> tuple[float, float]:
    """Threshold at which the share of right decisions is highest where both kinds of trial are equally frequent.

    Args:
        target: (N1,) scores of target trials.   nontarget: (N0,) scores of nontarget trials.
    Returns: the threshold, halfway between the lowest score that it accepts and the next below (the loosest threshold,
        if several are as good); the mean of the two sides' shares of right decisions.
    Raises: ValueError: either side is empty or holds NaN.
    """
    targets, nontargets = _sorted_scores(target, "target"), _sorted_scores(nontarget, "nontarget")
    thresholds = np.unique(np.concatenate([targets, nontargets]))
    accepted = len(targets) - np.searchsorted(targets, thresholds)
    rejected = np.searchsorted(nontargets, thresholds)
    # 2 N0 N1 times the accuracy, in whole numbers: rounding must not decide between thresholds
    right = accepted.astype(np.int64) * len(nontargets) + rejected * np.int64(len(targets))
    best = int(right.argmax())
    accuracy = float(right[best]) / (2 * len(targets) * len(nontargets))
    lowest, below = thresholds[best], thresholds[max(best - 1, 0)]
    middle = below + (lowest - below) / 2
    return float(middle if middle > below else lowest), accuracy  # between neighbours among floats there is no middle
