# SPDX-License-Identifier: Apache-2.0
"""Score normalisation compared with a loop over trials, for any block size."""

import tracemalloc

import numpy as np
import pytest

from rawnext.scoring import snorm
from rawnext.scoring.snorm import CohortStats, cohort_stats, normalize_scores

RNG = np.random.default_rng(0)
X, Y, COHORT, SHORT = (RNG.normal(size=(n, 6)) for n in (5, 8, 40, 40))


def cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def by_definition(x, y, z_cohort, t_cohort, top):
    """One trial, as in Matejka et al. 2017, equation 3."""
    nearest = [np.sort([cosine(side, c) for c in cohort])[::-1][:top or None]
               for side, cohort in ((x, z_cohort), (y, t_cohort))]
    return np.mean([(cosine(x, y) - s.mean()) / s.std() for s in nearest])


@pytest.mark.parametrize("block", [1, 90, 10**6])
@pytest.mark.parametrize("top", [0, 2, 10, 39, 40, 300])
def test_scores_equal_the_definition(monkeypatch, block, top):
    monkeypatch.setattr(snorm, "BLOCK", block)
    enroll, test = np.divmod(np.arange(40), 8)
    scores = np.array([cosine(X[e], Y[t]) for e, t in zip(enroll, test)])
    ours = normalize_scores(scores, cohort_stats(X, SHORT, top), cohort_stats(Y, COHORT, top), enroll, test)
    expected = [by_definition(X[e], Y[t], SHORT, COHORT, min(top, 40)) for e, t in zip(enroll, test)]
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_length_precision_and_order_do_not_matter():
    stats = cohort_stats(X, COHORT, 10)
    other = cohort_stats((X * 7).astype(np.float32), COHORT[::-1].astype(np.float32) * 3, 10)
    for one, two in zip(stats, other):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    assert other.mean.dtype == np.float64


def test_whole_cohort_is_the_default():
    cohort = RNG.normal(size=(1000, 6))
    expected = [np.mean([cosine(x, c) for c in cohort]) for x in X]
    np.testing.assert_allclose(cohort_stats(X, cohort).mean, expected)


@pytest.mark.parametrize("num", [300, 20_000])
def test_memory_beyond_inputs_and_statistics_is_one_block(monkeypatch, num):
    monkeypatch.setattr(snorm, "BLOCK", 1 << 16)
    x, cohort = RNG.normal(size=(num, 16)).astype(np.float32), RNG.normal(size=(400, 16)).astype(np.float32)
    cohort_stats(x[:3], cohort, 50)  # imports at first use
    tracemalloc.start()
    cohort_stats(x, cohort, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the cosines of a block, their 50 largest as float64; two statistics and two lengths of each vector
    assert peak < 4 * snorm.BLOCK + 4 * 8 * snorm.BLOCK * 50 // 400 + 30 * num + 200_000 < 2 * x.nbytes + 800_000


@pytest.mark.parametrize("cores", [1, 3, 64])
def test_number_of_threads_does_not_matter(monkeypatch, cores):
    expected = cohort_stats(X, COHORT, 10)
    monkeypatch.setattr(snorm.os, "sched_getaffinity", lambda pid: range(cores))
    for one, two in zip(cohort_stats(X, COHORT, 10), expected):
        np.testing.assert_array_equal(one, two)


def test_both_sides_have_equal_weight():
    one, two = CohortStats(np.array([1.0]), np.array([2.0])), CohortStats(np.array([3.0]), np.array([0.5]))
    assert normalize_scores(np.array([5.0]), one, two, np.array([0]), np.array([0])) == (2 + 4) / 2


@pytest.mark.parametrize(("x", "cohort", "why"), [
    (X, COHORT[:1], "a cohort of 1"), (X, COHORT[:, :5], "6 dimensions, but the cohort has 5"),
    (X, np.ones((4, 6)), "vector 0 has the same cosine"), (np.zeros((1, 6)), COHORT, "embedding 0 is zero")])
def test_unusable_cohorts_are_refused(x, cohort, why):
    with pytest.raises(ValueError, match=why):
        cohort_stats(x, cohort)
