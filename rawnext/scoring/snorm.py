# SPDX-License-Identifier: Apache-2.0
"""Score normalisation by a cohort: how unusual a score is for its two sides, among those against other speakers.

With mu and sigma of a side's cosines against the cohort, a trial's score s becomes the mean of (s - mu) / sigma of the
two sides. S-norm takes all of the cohort, AS-norm ("adaptive s-norm 1") the n members that a side is most alike.
Source: Karam et al., "Towards reduced false-alarms using cohorts", ICASSP 2011 (adaptive cohorts); Matejka et al.,
"Analysis of score normalization in multilingual speaker recognition", Interspeech 2017, equations 1-3.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from rawnext.scoring.cosine import floating, lengths, unit_vectors

TOP = 300  # of a cohort, the nearest, that AS-norm takes
BLOCK = 1 << 22  # cosines that are in memory at a time


class CohortStats(NamedTuple):
    """mean, std: (N,) float64, of the cosines of N vectors with (the nearest of) a cohort."""

    mean: np.ndarray
    std: np.ndarray


def cohort_stats(x: np.ndarray, cohort: np.ndarray, top: int = 0) -> CohortStats:
    """Mean and standard deviation of each vector's cosines with the `top` members of the cohort that are nearest to it.

    Args:
        x: (N, D).   cohort: (C, D).   top: 0, or as many as C or more: all of them.
    Raises: ValueError: fewer than two of the cohort, different dimensions, a vector without a direction, a vector
        whose cosines do not differ.
    """
    x, cohort = floating(x), unit_vectors(cohort)
    if x.shape[1] != cohort.shape[1]:
        raise ValueError(f"{x.shape[1]} dimensions, but the cohort has {cohort.shape[1]}")
    top = min(top, len(cohort)) or len(cohort)
    if top < 2:
        raise ValueError(f"{top} of a cohort: statistics want two or more")
    length, stats = lengths(x)[:, None], CohortStats(np.empty(len(x)), np.empty(len(x)))
    step, cores = max(1, BLOCK // len(cohort)), len(os.sched_getaffinity(0))
    room = np.empty((min(step, len(x)), len(cohort)), np.result_type(x, cohort))
    with ThreadPoolExecutor(cores) as pool:  # numpy sorts and adds without the interpreter's lock
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            cosines = np.matmul(units := x[part] / length[part], cohort.T, out=room[:len(units)])
            shares = pool.map(partial(_nearest, top=top), np.array_split(cosines, cores))
            stats.mean[part], stats.std[part] = (np.concatenate(figures) for figures in zip(*shares))
    if not (stats.std > 0).all():
        raise ValueError(f"vector {int(np.argmin(stats.std))} is as near to each of its cohort")
    return stats


def _nearest(cosines: np.ndarray, top: int) -> CohortStats:
    """Mean and standard deviation of the `top` largest of each row of (n, C), whose order changes."""
    if top < cosines.shape[1]:
        cosines.partition(cosines.shape[1] - top, axis=1)  # the largest stand behind
        cosines = cosines[:, -top:]
    return CohortStats(cosines.mean(axis=1, dtype=np.float64), cosines.std(axis=1, dtype=np.float64))


def normalize_scores(scores: np.ndarray, enroll: CohortStats, test: CohortStats, enroll_index: np.ndarray,
                     test_index: np.ndarray) -> np.ndarray:
    """(T,) normalised scores of T trials; enroll_index, test_index: (T,) rows of the two statistics."""
    z = (scores - enroll.mean[enroll_index]) / enroll.std[enroll_index]
    t = (scores - test.mean[test_index]) / test.std[test_index]
    return 0.5 * (z + t)
