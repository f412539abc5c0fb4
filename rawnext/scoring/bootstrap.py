# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals and a paired test by a bootstrap over speakers.

Trials share speakers and are far from independent; speakers are independent. A sample draws S of S speakers with
replacement. The weight of a nontarget trial is the product of the multiplicities of its two speakers, that of a target
trial the multiplicity of its speaker. Pairs of two copies of one speaker are neither kind and are left out.

Source: Davezies, D'Haultfoeuille and Guyonvarch, "Empirical process results for exchangeable arrays", Annals of
    Statistics 49, 2021 (bootstrap for data on pairs of units); Poh, Martin and Bengio, "Performance generalization
    in biometric authentication using joint user-specific and sample bootstraps", TPAMI 29, 2007 (why to sample users).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rawnext.scoring.det import Det, det_points

REPLICATES = 1000
LEVEL = 0.95
FEWEST = 5  # speakers for an interval; with 3, half of the intervals of the EER miss the true value
RELIABLE = 10  # speakers; with 5 to 9, one of five to eight intervals of the EER misses the true value
BLOCK = 1 << 19  # trial weights in memory at a time

Measure = Callable[[Det], np.ndarray]


def bootstrap(systems: Sequence[np.ndarray], is_target: np.ndarray, speakers: np.ndarray, measures: Sequence[Measure],
              replicates: int = REPLICATES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Measures of several systems' scores on the same trials, each in the same samples of speakers.

    Args:
        systems: K arrays of (N,) scores.   is_target: (N,) bool.
        speakers: (2, N) speakers of the enroll and test sides, 0 to S - 1, numbered independently of the trials' order.
        measures: M functions from DET curves (..., L) to (...), such as rawnext.scoring.metrics.eer_of.
        replicates: R.   seed: gives the same samples on every machine and with every version of numpy.
    Returns: (K, M) estimates; (R, K, M) of the samples; samples without target or nontarget trials are left out.
    Raises: ValueError: a target trial of two speakers, a nontarget trial of one, no trials of a kind, or NaN.
    """
    if wrong := np.count_nonzero((speakers[0] == speakers[1]) != is_target):
        raise ValueError(f"{wrong} trials are target trials of two speakers or nontarget trials of one")
    estimates, samples = bootstrap_parts([(np.asarray(scores), is_target, speakers) for scores in systems], measures,
                                         replicates, seed)
    return estimates, samples[~np.isnan(samples).any(axis=(1, 2))]


def bootstrap_parts(parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], measures: Sequence[Measure],
                    replicates: int = REPLICATES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Measures of P parts of a trial list, each in the same samples of the speakers of all parts.

    Args:
        parts: (scores (n,), is_target (n,), speakers (2, n)) of each.   measures, replicates, seed: as in bootstrap.
    Returns: (P, M) estimates; (R, P, M) of the samples, NaN for a part without target or nontarget trials in a sample.
    Raises: ValueError: as bootstrap.
    """
    sorted_parts = [_in_order(scores, is_target, *speakers) for scores, is_target, speakers in parts]
    num_speakers = 1 + max(int(speakers.max()) for _, _, speakers in parts)
    random = np.random.RandomState(seed)  # its stream is frozen (NEP 19), a Generator's is not
    rows = max(1, BLOCK // max(len(scores) for scores, _, _ in parts))
    samples = np.full((replicates, len(parts), len(measures)), np.nan)
    for start in range(0, replicates, rows):
        drawn = random.randint(0, num_speakers, size=(min(rows, replicates - start), num_speakers), dtype=np.int64)
        drawn += num_speakers * np.arange(len(drawn))[:, None]
        multiplicity = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        for place, part in enumerate(sorted_parts):
            complete, det = _resampled(multiplicity, *part)
            samples[start + complete, place] = _measured(det, measures)
    return np.stack([_measured(det, measures) for det, *_ in sorted_parts]), samples


def _measured(det: Det, measures: Sequence[Measure]) -> np.ndarray:
    """(..., M) for the curves (..., L)."""
    return np.stack([measure(det) for measure in measures], axis=-1)


def _in_order(scores: np.ndarray, is_target: np.ndarray, enroll: np.ndarray,
              test: np.ndarray) -> tuple[Det, np.ndarray, np.ndarray, np.ndarray]:
    """DET curve; (N1,) speakers of the target trials, (N0,) and (N0,) of the nontarget trials, highest score first."""
    det = det_points(scores[is_target], scores[~is_target])
    order = np.argsort(-scores, kind="stable")
    targets, nontargets = order[is_target[order]], order[~is_target[order]]
    return det, enroll[targets], enroll[nontargets], test[nontargets]


def _resampled(multiplicity: np.ndarray, det: Det, target: np.ndarray, enroll: np.ndarray,
               test: np.ndarray) -> tuple[np.ndarray, Det]:
    """Indices of the samples with speaker multiplicities (b, S) that have both kinds of trial, and their curves."""
    # np.take: [:, index] is five times as slow for few rows
    hits = _cumulated(np.take(multiplicity, target, axis=1))
    false_accepts = _cumulated(np.take(multiplicity, enroll, axis=1) * np.take(multiplicity, test, axis=1))
    complete = np.flatnonzero((hits[:, -1] > 0) & (false_accepts[:, -1] > 0))
    if len(complete) < len(hits):
        hits, false_accepts = hits[complete], false_accepts[complete]
    accepted = det.num_targets - det.num_misses
    return complete, det._replace(
        num_false_accepts=np.take(false_accepts, det.num_false_accepts, axis=1), num_nontargets=false_accepts[:, -1],
        num_misses=hits[:, -1:] - np.take(hits, accepted, axis=1), num_targets=hits[:, -1])


def _cumulated(weights: np.ndarray) -> np.ndarray:
    """(b, n) -> (b, n + 1) total weight of the first 0, 1, ..., n trials."""
    total = np.zeros((len(weights), weights.shape[1] + 1), dtype=np.int64)
    np.cumsum(weights, axis=1, out=total[:, 1:])
    return total


def interval(estimate: ArrayLike, replicates: ArrayLike, level: float = LEVEL) -> np.ndarray:
    """Bounds (2, ...) of the bias-corrected percentile interval of estimates (...), from their replicates (R, ...).

    The minimum cost over thresholds is biased low in each sample, because the best threshold overfits the sample.
    Plain percentiles would count this bias as spread and miss the true minDCF too often.
    Source: Efron, "Better bootstrap confidence intervals", JASA 82, 1987 (the BC interval).
    """
    from scipy.special import ndtr, ndtri  # 0.15 s, also for --help

    replicates = np.asarray(replicates)
    bias = ndtri(_position(estimate, replicates))
    shares = ndtr(2 * bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2])).reshape(2, *[1] * bias.ndim))
    position = shares * (len(replicates) - 1)
    below = np.floor(position).astype(np.int64)
    ordered = np.sort(replicates, axis=0)
    low, high = (np.take_along_axis(ordered, index, axis=0) for index in (below, np.ceil(position).astype(np.int64)))
    return low + (position - below) * (high - low)


def _position(value: ArrayLike, replicates: np.ndarray) -> np.ndarray:
    """(...) share of the replicates (R, ...) below a value; ties count half; never exactly 0 or 1."""
    below = np.sum(replicates < value, axis=0) + np.sum(replicates == value, axis=0) / 2
    return (below + 0.5) / (len(replicates) + 1)


class Units(NamedTuple):
    """Independent observations in a trial list: speakers with target trials; pairs of speakers with nontarget trials,
    no speaker in two pairs (an upper bound of their number).
    """

    speakers: int
    pairs: int

    @property
    def too_few(self) -> str:
        """Why there is no interval, empty if there is one."""
        if self.speakers >= FEWEST and self.pairs >= FEWEST // 2:
            return ""
        return f"{self} are too few; want {RELIABLE} and {RELIABLE // 2}"

    @property
    def too_narrow(self) -> str:
        """Why an interval is too narrow, empty if it is not."""
        if self.speakers >= RELIABLE and self.pairs >= RELIABLE // 2:
            return ""
        return f"the interval is too narrow: {self} are few; want {RELIABLE} and {RELIABLE // 2}"

    def __str__(self) -> str:
        return (f"{self.speakers} speaker{'s' * (self.speakers != 1)} with target trials and {self.pairs} disjoint "
                f"pair{'s' * (self.pairs != 1)} with nontarget trials")

    def bound(self, level: float = LEVEL) -> float:
        """Upper bound of both error rates, fractions, if not one trial is an error.

        It is that of the shares of speakers and of pairs with an error: 1 - a^(1/n) for n of them without, where a is
        half of 1 - level, because both must hold. About 3.7 / n; the "rule of three" has 3 / n for one share.
        Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
            Biometrika 26, 1934.
        """
        return 1 - ((1 - level) / 2) ** (1 / min(self))


def units_of(is_target: np.ndarray, speakers: np.ndarray) -> Units:
    """is_target: (N,) bool.   speakers: (2, N)."""
    enroll, test = speakers[:, ~is_target]
    return Units(len(np.unique(speakers[0, is_target])),
                 min(len(np.unique(enroll)), len(np.unique(test)), len(np.unique([enroll, test])) // 2))


def p_value(estimate: ArrayLike, replicates: ArrayLike) -> np.ndarray:
    """Two-sided p-value (...) of a zero difference: 1 minus the level at which the interval would end at 0.

    Args: estimate: (...) differences.   replicates: (R, ...) differences in the samples.
    """
    from scipy.special import ndtr, ndtri

    replicates = np.asarray(replicates)
    return 2 * ndtr(-np.abs(ndtri(_position(0.0, replicates)) - 2 * ndtri(_position(estimate, replicates))))
