# SPDX-License-Identifier: Apache-2.0
"""Measures of a verification system: EER, minDCF, actual DCF, Cllr and its minimum.

docs/reference/metrics.md has the formulas.

Each is a function of DET curves, such as `eer_of(det)`, and of scores, such as `eer(target, nontarget)`, with
    target: (N1,) scores of target trials.   nontarget: (N0,) scores of nontarget trials.
    Raises: ValueError: either side is empty or contains NaN.
"""

import numpy as np
from numpy.typing import ArrayLike

from rawnext.scoring.det import Det, det_points, sorted_scores

EER_DEFINITIONS = {
    "mean": "mean of both error rates at the threshold where they are closest",
    "max": "the larger of both error rates at the threshold where they are closest",
    "interpolated": "where the line through the points of the DET curve crosses the diagonal",
    "kaldi": "as in Kaldi's compute-eer: share of missed targets at the first target score with no more false alarms",
    "hull": "where the convex hull of the ROC curve crosses the diagonal",
}
EER_DEFINITION = "mean"  # that of RawNeXt; docs/reference/metrics.md lists those of other publications


def eer_of(det: Det, definition: str = EER_DEFINITION) -> np.ndarray:
    """(...) equal error rates of the curves, fractions.   Raises: ValueError: unknown definition."""
    if definition in ("mean", "max"):
        gap = np.abs(_gap(det))
        closest = gap.argmin(axis=-1)[..., None]  # the strictest of several
        rates = [np.take_along_axis(counts, closest, axis=-1)[..., 0] / total for counts, total in
                 ((det.num_false_accepts, det.num_nontargets), (det.num_misses, det.num_targets))]
        return np.maximum(*rates) if definition == "max" else (rates[0] + rates[1]) / 2
    if definition == "interpolated":
        gap = _gap(det)
        right = (gap >= 0).argmax(axis=-1)[..., None]  # never 0: that point rejects all
        below, above = (np.take_along_axis(gap, place, axis=-1) for place in (right - 1, right))
        share = -below / (above - below)
        left, right = (np.take_along_axis(det.num_false_accepts, place, axis=-1) for place in (right - 1, right))
        return ((1 - share) * left + share * right)[..., 0] / det.num_nontargets
    if definition == "kaldi":
        return _kaldi_eer(det)
    if definition == "hull":
        return np.reshape([eer_of(curve.hull(), "interpolated") for curve in det.curves()], np.shape(det.num_targets))
    raise ValueError(f"unknown EER definition {definition!r}; known: {', '.join(EER_DEFINITIONS)}")


def _gap(det: Det) -> np.ndarray:
    """(..., L) (fpr - fnr) N0 N1, ascending, as integers: rounding must not decide between thresholds."""
    return (det.num_false_accepts * np.asarray(det.num_targets, dtype=np.int64)[..., None]
            - det.num_misses * np.asarray(det.num_nontargets, dtype=np.int64)[..., None])


def _kaldi_eer(det: Det) -> np.ndarray:
    """(...) p / N1 for the first p = 0, 1, ... at which fpr(score of target p, ascending) <= p / N1.

    A threshold accepts, beyond those of the next stricter one, the targets p = misses ... stricter misses - 1.
    Source: Kaldi, src/ivectorbin/compute-eer.cc.
    """
    num_targets, num_nontargets = (np.asarray(x, dtype=np.int64)[..., None]
                                   for x in (det.num_targets, det.num_nontargets))
    accepted = det.num_false_accepts[..., 1:] * num_targets
    fits = accepted <= num_nontargets * (det.num_misses[..., :-1] - 1)
    last = fits.shape[-1] - 1 - fits[..., ::-1].argmax(axis=-1)[..., None]  # the loosest threshold that fits
    least = -(-np.take_along_axis(accepted, last, axis=-1) // num_nontargets)
    first = np.maximum(np.take_along_axis(det.num_misses[..., 1:], last, axis=-1), least)
    last_target = num_targets - 1  # the result of compute-eer if none fits
    return (np.where(fits.any(axis=-1)[..., None], np.minimum(first, last_target), last_target) / num_targets)[..., 0]


def eer(target: ArrayLike, nontarget: ArrayLike, definition: str = EER_DEFINITION) -> float:
    """Equal error rate, a fraction.

    Args: definition: a key of EER_DEFINITIONS.
    Raises: ValueError: see above; or an unknown definition.
    """
    if definition == "kaldi":  # compute-eer reads scores as float32, which changes ties
        target, nontarget = np.asarray(target, dtype=np.float32), np.asarray(nontarget, dtype=np.float32)
    return float(eer_of(det_points(target, nontarget), definition))


def _costs(p_target: float, c_miss: float, c_fa: float) -> tuple[float, float]:
    """Costs of miss rate 1 and false alarm rate 1, relative to the best trivial system (accept or reject all)."""
    if not 0 < p_target < 1:
        raise ValueError(f"p_target must be between 0 and 1, got {p_target}")
    if not (0 < c_miss < np.inf and 0 < c_fa < np.inf):
        raise ValueError(f"costs must be finite and greater than 0, got {c_miss} and {c_fa}")
    miss, false_alarm = c_miss * p_target, c_fa * (1 - p_target)
    least = min(miss, false_alarm)
    if not (least > 0 and max(miss, false_alarm) / least < np.inf):
        raise ValueError(f"p_target {p_target:g} and costs {c_miss:g} and {c_fa:g} differ too much")
    return miss / least, false_alarm / least


def min_dcf_of(det: Det, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> np.ndarray:
    """(...) smallest normalised detection costs over all thresholds."""
    miss, false_alarm = _costs(p_target, c_miss, c_fa)
    return np.min(miss * det.fnr + false_alarm * det.fpr, axis=-1)


def min_dcf(target: ArrayLike, nontarget: ArrayLike, p_target: float = 0.01, c_miss: float = 1.0,
            c_fa: float = 1.0) -> float:
    """Smallest normalised detection cost over all thresholds.

    Args:
        p_target: prior of a target trial, 0 < p < 1.   c_miss, c_fa: cost of a miss and of a false alarm.
    Returns: cost divided by that of the best trivial system (accept or reject all): at most 1.
    Raises: ValueError: see above; or a prior or cost out of range.
    Source: NIST 2016 Speaker Recognition Evaluation Plan.
    """
    return float(min_dcf_of(det_points(target, nontarget), p_target, c_miss, c_fa))


def act_dcf_of(det: Det, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0) -> np.ndarray:
    """(...) normalised detection costs at the threshold that is right for log-likelihood ratios."""
    miss, false_alarm = _costs(p_target, c_miss, c_fa)
    threshold = np.log(false_alarm / miss)
    place = np.searchsorted(-det.thresholds[1:], -threshold, side="right")  # the loosest that is not below it
    return (miss * det.num_misses[..., place] / det.num_targets
            + false_alarm * det.num_false_accepts[..., place] / det.num_nontargets)


def act_dcf(target: ArrayLike, nontarget: ArrayLike, p_target: float = 0.01, c_miss: float = 1.0,
            c_fa: float = 1.0) -> float:
    """Normalised detection cost at the threshold log((1 - p) c_fa / (p c_miss)): scores are log-likelihood ratios.

    Args, Returns, Raises: as min_dcf, but the cost may be greater than 1.
    Source: Brümmer and du Preez, "Application-independent evaluation of speaker detection", 2006, section 4.
    """
    return float(act_dcf_of(det_points(target, nontarget), p_target, c_miss, c_fa))


def cllr_of(det: Det) -> np.ndarray:
    """(...) Cllr of the curves, in bits."""
    llr = det.thresholds[1:]
    total = np.zeros(np.shape(det.num_targets))
    for num, sign, count in zip(det.trials_at, (-1, 1), (det.num_targets, det.num_nontargets)):
        loss = np.logaddexp(0, sign * llr)
        # where there is no trial there is no loss, not even an infinite one
        total = total + np.sum(np.where(num > 0, loss, 0.0) * num, axis=-1) / count
    return total / (2 * np.log(2))


def cllr(target: ArrayLike, nontarget: ArrayLike) -> float:
    """Cost of log-likelihood ratios over all priors and costs, in bits: 0 is perfect, 1 what LLR 0 everywhere costs.

    Source: Brümmer and du Preez 2006, equation for C_llr.
    """
    return float(cllr_of(det_points(target, nontarget)))


def min_cllr_of(det: Det) -> np.ndarray:
    """(...) minimum Cllr of the curves, in bits."""
    return np.reshape([_hull_cllr(curve.hull()) for curve in det.curves()], np.shape(det.num_targets))


def _hull_cllr(hull: Det) -> float:
    """Cllr of the pools' own log-likelihood ratios, log(targets N0 / (nontargets N1)) of each."""
    num1, num0 = (num.astype(np.float64) for num in hull.trials_at)
    rate1, rate0 = num1 / hull.num_targets, num0 / hull.num_nontargets
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = [np.where(own > 0, own * np.log1p(other / own), 0) for own, other in ((rate1, rate0), (rate0, rate1))]
    return float(np.sum(losses) / (2 * np.log(2)))


def min_cllr(target: ArrayLike, nontarget: ArrayLike) -> float:
    """Cllr after the best monotone recalibration (pool adjacent violators): what discrimination alone costs, in bits.

    Trials of one score stay together. At most 1, and at most cllr.
    Source: Brümmer and du Preez 2006, section on PAV.
    """
    return float(min_cllr_of(det_points(target, nontarget)))


def best_threshold(target: ArrayLike, nontarget: ArrayLike) -> tuple[float, float]:
    """Threshold at which the share of right decisions is highest where both kinds of trial are equally frequent.

    Returns: the threshold, halfway between the lowest score that it accepts and the next below (the loosest threshold,
        if several are as good); the mean of the two sides' shares of right decisions.
    """
    targets, nontargets = sorted_scores(target, "target"), sorted_scores(nontarget, "nontarget")
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
