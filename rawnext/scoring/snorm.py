# SPDX-License-Identifier: Apache-2.0
"""Score normalisation with a cohort of other speakers.

With the mean mu and standard deviation sigma of each side's cosines with the cohort, a trial's score s becomes the mean
of (s - mu) / sigma over both sides. S-norm uses the whole cohort, AS-norm ("adaptive s-norm 1") each side's n nearest
members.
Source: Karam et al., "Towards reduced false-alarms using cohorts", ICASSP 2011 (adaptive cohorts); Matejka et al.,
"Analysis of score normalization in multilingual speaker recognition", Interspeech 2017, equations 1-3.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from rawnext.scoring.cosine import blocks, floating, lengths, unit_vectors

TOP = 300  # nearest members of the cohort that AS-norm uses, at most QUARTER of it
TENTH = 10  # of a cohort is nearest for cohort_mean (egs/open/RESULTS.md)
QUARTER = 4  # with 100 to 400 members, a quarter of them is better than 300 or all (docs/reference/backend.md)
FEWEST = 100  # members; with fewer, AS-norm is worse than cosine (docs/reference/backend.md)
LEAST_STD = 1e-6  # of cosines in single precision, whose rounding alone is 1e-7
BLOCK = 1 << 22  # cosines in memory at a time


class CohortStats(NamedTuple):
    """mean, std: (N,) float64, of the cosines of N vectors with the (nearest members of the) cohort."""

    mean: np.ndarray
    std: np.ndarray


def default_top(num: int) -> int:
    """Nearest members that AS-norm uses of a cohort of `num`."""
    return max(2, min(TOP, num // QUARTER))


def cohort_stats(x: np.ndarray, cohort: np.ndarray, top: int = 0, keys: Sequence[str] = ()) -> CohortStats:
    """Mean and standard deviation of each vector's cosines with its `top` nearest members of the cohort.

    Args:
        x: (N, D).   cohort: (C, D).   top: 0, or C or more: all members.   keys: N names of the vectors, for errors.
    Raises: ValueError: fewer than two members, different dimensions, a zero vector, a vector whose cosines are all
        equal.
    """
    top = min(top, len(cohort)) or len(cohort)
    stats = _all_stats(x, cohort, top)
    if not (stats.std > LEAST_STD).all():
        row = int(np.argmin(stats.std))
        raise ValueError(f"{keys[row] if keys else f'vector {row}'} has the same cosine with each of the {top} nearest "
                         "members of its cohort, so there is no standard deviation to divide by")
    return stats


def cohort_mean(x: np.ndarray, cohort: np.ndarray, top: int | None = None) -> np.ndarray:
    """(N,) mean cosine of each vector with its `top` nearest members of the cohort: a quality measure of calibration.

    Args: top: None: TENTH of the cohort, at most TOP; otherwise, and x, cohort and errors, as in cohort_stats.
    """
    return _all_stats(x, cohort, max(2, min(TOP, len(cohort) // TENTH)) if top is None else top).mean


def _all_stats(x: np.ndarray, cohort: np.ndarray, top: int) -> CohortStats:
    """See cohort_stats; the standard deviations may be 0."""
    x, cohort = floating(x), unit_vectors(cohort)
    if x.shape[1] != cohort.shape[1]:
        raise ValueError(f"{x.shape[1]} dimensions, but the cohort has {cohort.shape[1]}")
    top = min(top, len(cohort)) or len(cohort)
    if top < 2:
        raise ValueError(f"a cohort of {top}: statistics need two or more")
    length, stats = lengths(x)[:, None], CohortStats(np.empty(len(x)), np.empty(len(x)))
    step, cores = max(1, BLOCK // len(cohort)), len(os.sched_getaffinity(0))
    buffer = np.empty((min(step, len(x)), len(cohort)), np.result_type(x, cohort))
    with ThreadPoolExecutor(cores) as pool:  # numpy sorts and adds without the GIL
        for part in blocks(len(x), len(cohort), BLOCK):
            cosines = np.matmul(units := x[part] / length[part], cohort.T, out=buffer[:len(units)])
            shares = pool.map(partial(_nearest, top=top), np.array_split(cosines, cores))
            stats.mean[part], stats.std[part] = (np.concatenate(figures) for figures in zip(*shares))
    return stats


def _nearest(cosines: np.ndarray, top: int) -> CohortStats:
    """Mean and standard deviation of the `top` largest values of each row of (n, C), which is reordered."""
    if top < cosines.shape[1]:
        cosines.partition(cosines.shape[1] - top, axis=1)
        cosines = cosines[:, -top:]
    return CohortStats(cosines.mean(axis=1, dtype=np.float64), cosines.std(axis=1, dtype=np.float64))


def normalize_scores(scores: np.ndarray, enroll: CohortStats, test: CohortStats, enroll_index: np.ndarray,
                     test_index: np.ndarray) -> np.ndarray:
    """(T,) normalised scores of T trials; enroll_index, test_index: (T,) rows of the statistics."""
    z = (scores - enroll.mean[enroll_index]) / enroll.std[enroll_index]
    t = (scores - test.mean[test_index]) / test.std[test_index]
    return 0.5 * (z + t)
