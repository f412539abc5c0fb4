# SPDX-License-Identifier: Apache-2.0
"""How far a measure would move with other speakers: intervals and a paired test by a bootstrap over speakers.

Trials share speakers, so that they are far from independent; speakers are. A sample draws S speakers out of S with
replacement. A nontarget trial is one of a pair of speakers: it counts as often as pairs of their copies can be made,
the product of both multiplicities. A target trial lies within one speaker: it counts as often as he was drawn, once.
The pairs of one speaker's own copies are in truth neither, and are left out.

Source: Davezies, D'Haultfoeuille and Guyonvarch, "Empirical process results for exchangeable arrays", Annals of
    Statistics 49, 2021 (the bootstrap of data on pairs of units); Poh, Martin and Bengio, "Performance generalization
    in biometric authentication using joint user-specific and sample bootstraps", TPAMI 29, 2007 (why over users).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from rawnext.scoring.det import Det, det_points

REPLICATES = 1000
LEVEL = 0.95
BLOCK = 1 << 19  # weights that are in memory at a time

Measure = Callable[[Det], np.ndarray]


def bootstrap(systems: Sequence[np.ndarray], is_target: np.ndarray, speakers: np.ndarray, measures: Sequence[Measure],
              replicates: int = REPLICATES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Measures of several systems' scores on the same trials, each in the same samples of speakers.

    Args:
        systems: K arrays of (N,) scores.   is_target: (N,) bool.
        speakers: (2, N) whose the enroll and the test sides are, 0 to S - 1, in an order that the trials do not set.
        measures: M functions from DET curves (..., L) to (...), such as rawnext.scoring.metrics.eer_of.
        replicates: R.   seed: the same samples on every machine and with every version of numpy.
    Returns: (K, M) of the trials as they are; (R, K, M) of the samples, without those that lacked a kind of trial.
    Raises: ValueError: a target trial of two speakers or a nontarget trial of one, a side without trials, or NaN.
    """
    if wrong := np.count_nonzero((speakers[0] == speakers[1]) != is_target):
        raise ValueError(f"{wrong} trials are target trials of two speakers or nontarget trials of one")
    ready = [_in_order(np.asarray(scores), is_target, *speakers) for scores in systems]
    num_speakers = int(speakers.max()) + 1
    random = np.random.RandomState(seed)  # its stream is frozen (NEP 19), that of a Generator is not
    rows, done = max(1, BLOCK // len(is_target)), []
    for start in range(0, replicates, rows):
        drawn = random.randint(0, num_speakers, size=(min(rows, replicates - start), num_speakers), dtype=np.int64)
        drawn += num_speakers * np.arange(len(drawn))[:, None]
        multiplicity = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        done.append(np.stack([_measured(_resampled(multiplicity, *system), measures) for system in ready], axis=1))
    return np.stack([_measured(det, measures) for det, *_ in ready]), np.concatenate(done)


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


def _resampled(multiplicity: np.ndarray, det: Det, target: np.ndarray, enroll: np.ndarray, test: np.ndarray) -> Det:
    """The curves of samples that hold each speaker (b, S) times, without samples that lack a kind of trial."""
    # take, as [:, index] is five times as slow where there are few rows
    hits = _cumulated(np.take(multiplicity, target, axis=1))
    false_accepts = _cumulated(np.take(multiplicity, enroll, axis=1) * np.take(multiplicity, test, axis=1))
    whole = (hits[:, -1] > 0) & (false_accepts[:, -1] > 0)
    if not whole.all():
        hits, false_accepts = hits[whole], false_accepts[whole]
    accepted = det.num_targets - det.num_misses
    return det._replace(num_false_accepts=np.take(false_accepts, det.num_false_accepts, axis=1),
                        num_nontargets=false_accepts[:, -1],
                        num_misses=hits[:, -1:] - np.take(hits, accepted, axis=1), num_targets=hits[:, -1])


def _cumulated(weights: np.ndarray) -> np.ndarray:
    """(b, n) -> (b, n + 1) weight of the first 0, 1, ..., n trials."""
    total = np.zeros((len(weights), weights.shape[1] + 1), dtype=np.int64)
    np.cumsum(weights, axis=1, out=total[:, 1:])
    return total


def interval(estimate: ArrayLike, replicates: ArrayLike, level: float = LEVEL) -> np.ndarray:
    """Ends (2, ...) of the bias-corrected percentile interval of estimates (...), from their replicates (R, ...).

    The least cost over thresholds falls when trials are drawn again: the sample's best threshold fits it too well, a
    second time. Plain percentiles, which take that fall for spread, would miss the true minDCF too often.
    Source: Efron, "Better bootstrap confidence intervals", JASA 82, 1987 (the BC interval).
    """
    from scipy.special import ndtr, ndtri

    replicates = np.asarray(replicates)
    bias = ndtri(_position(estimate, replicates))
    shares = ndtr(2 * bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2])).reshape(2, *[1] * bias.ndim))
    place = shares * (len(replicates) - 1)
    below = np.floor(place).astype(np.int64)
    ordered = np.sort(replicates, axis=0)
    low, high = (np.take_along_axis(ordered, index, axis=0) for index in (below, np.ceil(place).astype(np.int64)))
    return low + (place - below) * (high - low)


def _position(value: ArrayLike, replicates: np.ndarray) -> np.ndarray:
    """(...) share of the replicates (R, ...) below a value, ties by half, never quite 0 or 1."""
    below = np.sum(replicates < value, axis=0) + np.sum(replicates == value, axis=0) / 2
    return (below + 0.5) / (len(replicates) + 1)


def p_value(estimate: ArrayLike, replicates: ArrayLike) -> np.ndarray:
    """Two-sided p (...) that a difference is 0: one minus the level at which its interval would end there.

    Args: estimate: (...) differences.   replicates: (R, ...) the same in the samples.
    """
    from scipy.special import ndtr, ndtri

    replicates = np.asarray(replicates)
    return 2 * ndtr(-np.abs(ndtri(_position(0.0, replicates)) - 2 * ndtri(_position(estimate, replicates))))
