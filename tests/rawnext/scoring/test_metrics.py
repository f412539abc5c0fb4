# SPDX-License-Identifier: Apache-2.0
"""EER, minDCF, costs of LLRs and DET points: compared with published values and scikit-learn, and their properties."""

import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_curve

from rawnext.scoring.metrics import (
    EER_DEFINITIONS,
    act_dcf,
    act_dcf_of,
    best_threshold,
    cllr,
    cllr_of,
    det_points,
    eer,
    eer_of,
    min_cllr,
    min_cllr_of,
    min_dcf,
    min_dcf_of,
)

SETS = ["gauss", "ties", "rare_targets"]
DEFINITIONS = ["mean", "max", "interpolated"]
# few distinct values, so that ties are common
tied = st.lists(st.integers(-6, 6), min_size=1, max_size=30).map(lambda x: np.array(x, dtype=float))
free = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40).map(np.array)
scores = st.one_of(tied, free)


def from_sklearn(target, nontarget):
    """scikit-learn's (fpr, fnr), strictest threshold first."""
    label = np.r_[np.ones(len(target)), np.zeros(len(nontarget))]
    fpr, tpr, _ = roc_curve(label, np.r_[target, nontarget], drop_intermediate=False)
    return fpr, 1 - tpr


@pytest.mark.parametrize("name", SETS)
def test_equal_to_published_implementations(parity, name):
    z = np.load(parity / "metrics.npz")
    score, label = z[f"{name}/score"], z[f"{name}/label"]
    target, nontarget = score[label == 1], score[label == 0]
    assert eer(target, nontarget) == pytest.approx(float(z[f"{name}/rawnext_eer"]), rel=1e-12)
    assert eer(target, nontarget) == pytest.approx(float(z[f"{name}/rawnext_eer_all_points"]), rel=1e-12)
    for code in ("rawnext", "voxceleb_trainer", "nexttdnn"):
        if code != "rawnext":
            maximum = 100 * eer(target, nontarget, "max")
            assert maximum == pytest.approx(float(z[f"{name}/{code}_eer_percent"]), rel=1e-12)
        for p_target in (0.01, 0.05):
            # voxceleb_trainer adds up rates in floating point: 5e-14 off
            cost = float(z[f"{name}/{code}_mindcf_p{p_target}"])
            assert min_dcf(target, nontarget, p_target) == pytest.approx(cost, rel=1e-10)


def test_rates_equal_a_hand_computation():
    """Ten scores: thresholds .75 and .65 miss 1 or 0 of 4 targets and accept 1 or 2 of 6 nontargets."""
    target, nontarget = [0.9, 0.8, 0.75, 0.65], [0.7, 0.66, 0.4, 0.3, 0.2, 0.1]
    # accepting from .70 on: fpr 1/6, fnr 1/4, the closest pair; from .66 on: 2/6, 1/4, exactly as close, looser
    assert eer(target, nontarget, "mean") == pytest.approx((1 / 6 + 1 / 4) / 2)
    assert eer(target, nontarget, "max") == pytest.approx(1 / 4)
    assert eer(target, nontarget, "interpolated") == pytest.approx(1 / 4)
    assert min_dcf(target, nontarget, 0.01) == pytest.approx(1 / 4)           # accept from .75 on
    assert min_dcf(target, nontarget, 0.9) == pytest.approx(2 / 6)            # accept from .65 on
    assert min_dcf(target, nontarget, 0.5, c_miss=10) == pytest.approx(2 / 6)
    assert min_dcf(target, nontarget, 0.5, c_fa=10) == pytest.approx(1 / 4)
    det = det_points(target, nontarget)
    assert det.num_misses.tolist() == [4, 3, 2, 1, 1, 1, 0, 0, 0, 0, 0]
    assert det.num_false_accepts.tolist() == [0, 0, 0, 0, 1, 2, 2, 3, 4, 5, 6]


def test_rates_of_perfect_uninformative_and_inverted_systems():
    assert [eer([2, 3], [0, 1], d) for d in DEFINITIONS] == [0, 0, 0]
    assert [eer([0, 1], [2, 3], d) for d in DEFINITIONS] == [1, 1, 1]
    assert [eer([1, 1], [1, 1, 1], d) for d in DEFINITIONS] == [0.5, 1, 0.5]
    assert min_dcf([2, 3], [0, 1]) == 0
    assert min_dcf([0, 1], [2, 3]) == min_dcf([1], [1]) == 1  # rejecting all trials costs 1


@given(scores, scores)
def test_det_points_equal_scikit_learn(target, nontarget):
    det = det_points(target, nontarget)
    fpr, fnr = from_sklearn(target, nontarget)
    np.testing.assert_array_equal(det.fpr, fpr)
    np.testing.assert_allclose(det.fnr, fnr, atol=1e-15)


@given(scores, scores)
def test_rates_equal_brute_force_over_thresholds(target, nontarget):
    points = [(float(np.mean(nontarget >= t)), float(np.mean(target < t)))
              for t in [np.inf, *sorted({*target, *nontarget}, reverse=True)]]
    gaps = [abs(fp - fn) for fp, fn in points]
    near = [point for point, gap in zip(points, gaps) if gap < min(gaps) + 1e-12]  # rounding may tie them
    assert any(eer(target, nontarget) == pytest.approx(sum(point) / 2) for point in near)
    assert any(eer(target, nontarget, "max") == pytest.approx(max(point)) for point in near)
    for p in (0.01, 0.5, 0.7):
        cost = min(p * fn + (1 - p) * fp for fp, fn in points) / min(p, 1 - p)
        assert min_dcf(target, nontarget, p) == pytest.approx(cost)


@given(tied, tied, st.floats(0.1, 10), st.integers(-50, 50))
def test_only_the_order_of_scores_matters(target, nontarget, scale, shift):
    for change in (lambda x: scale * x + shift, np.tanh, lambda x: x**3):
        for definition in DEFINITIONS:
            assert eer(change(target), change(nontarget), definition) == eer(target, nontarget, definition)
        assert min_dcf(change(target), change(nontarget)) == min_dcf(target, nontarget)


@given(scores, scores)
def test_swapping_the_sides_of_negated_scores_swaps_the_errors(target, nontarget):
    det, swapped = det_points(target, nontarget), det_points(-nontarget, -target)
    assert swapped.num_misses.tolist() == det.num_false_accepts[::-1].tolist()
    assert swapped.num_false_accepts.tolist() == det.num_misses[::-1].tolist()
    assert eer(-nontarget, -target, "interpolated") == pytest.approx(eer(target, nontarget, "interpolated"))
    assert min_dcf(-nontarget, -target, 0.2) == pytest.approx(min_dcf(target, nontarget, 0.8))


@given(scores, scores, st.randoms())
def test_order_and_repetition_of_trials_do_not_matter(target, nontarget, rng):
    mixed = list(target) * 3
    rng.shuffle(mixed)
    for definition in DEFINITIONS:
        assert eer(mixed, np.tile(nontarget, 2), definition) == pytest.approx(eer(target, nontarget, definition))
    assert min_dcf(mixed, nontarget) == pytest.approx(min_dcf(target, nontarget))


@settings(max_examples=25)
@given(scores, scores)
def test_rates_are_in_range_and_mean_is_at_most_max(target, nontarget):
    low, high = eer(target, nontarget, "mean"), eer(target, nontarget, "max")
    assert 0 <= low <= high <= 1
    assert 0 <= eer(target, nontarget, "interpolated") <= 1
    assert 0 <= min_dcf(target, nontarget) <= 1


@pytest.mark.parametrize("rate", [eer, min_dcf, act_dcf, cllr, min_cllr, det_points])
def test_empty_sides_and_nan_are_refused(rate):
    with pytest.raises(ValueError, match="no target trials"):
        rate([], [1.0])
    with pytest.raises(ValueError, match="no nontarget trials"):
        rate([1.0], [])
    with pytest.raises(ValueError, match="a target score is not a number"):
        rate([1.0, float("nan")], [1.0])
    with pytest.raises(ValueError, match="a nontarget score is not a number"):
        rate([1.0], [float("nan"), 1.0])


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="unknown EER definition 'median'"):
        eer([1.0], [0.0], "median")
    for p_target in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="p_target"):
            min_dcf([1.0], [0.0], p_target)
    for costs in ({"c_miss": 0}, {"c_fa": -1}, {"c_fa": float("nan")}):
        with pytest.raises(ValueError, match="costs"):
            act_dcf([1.0], [0.0], 0.5, **costs)


def test_infinite_scores_are_scores():
    assert eer([np.inf, 1.0], [-np.inf, 0.0]) == 0
    assert min_dcf([np.inf], [np.inf]) == 1


def test_a_million_trials_take_less_than_a_second():
    rng = np.random.default_rng(0)
    target, nontarget = rng.normal(2, 1, 500_000), rng.normal(0, 1, 500_000)
    start = time.process_time()
    rate = eer(target, nontarget)
    assert time.process_time() - start < 1
    assert rate == pytest.approx(0.158655, abs=1e-3)  # the normal distribution beyond one deviation


def balanced_accuracy(target, nontarget, threshold):
    return (np.mean(target >= threshold) + np.mean(nontarget < threshold)) / 2


@given(scores, scores)
def test_no_threshold_is_better_than_the_best(target, nontarget):
    threshold, accuracy = best_threshold(target, nontarget)
    assert balanced_accuracy(target, nontarget, threshold) == pytest.approx(accuracy)
    every = np.r_[target, nontarget]
    assert all(balanced_accuracy(target, nontarget, other) <= accuracy + 1e-9 for other in every)
    assert every.min() <= threshold <= every.max()


def test_best_threshold_is_halfway_in_the_gap():
    assert best_threshold([3.0, 5.0], [0.0, 1.0]) == (2.0, 1.0)
    assert best_threshold([3.0] * 100, [0.0, 1.0, 4.0]) == (2.0, pytest.approx(5 / 6))
    assert best_threshold([5e-324], [0.0]) == (5e-324, 1.0), "no float is between these two"


def test_best_threshold_refuses_one_side_only():
    with pytest.raises(ValueError, match="nontarget"):
        best_threshold([1.0], [])


# --- definitions by name

def kaldi_loop(target, nontarget):
    """compute-eer, step by step."""
    target, nontarget = sorted(np.float32(target).tolist()), sorted(np.float32(nontarget).tolist())
    place = 0
    while place + 1 < len(target):
        other = max(len(nontarget) - 1 - int(len(nontarget) * place / len(target)), 0)
        if nontarget[other] < target[place]:
            break
        place += 1
    return place / len(target)


@pytest.mark.parametrize("name", ["plda_scores", "plda_scores_nonorm", "dot_scores", "enroll_plda_scores"])
def test_kaldi_definition_equals_kaldi(shared, name):
    folder = shared / "parity" / "kaldi"
    kind = {tuple(line.split()[:2]): line.split()[2]
            for line in (folder / ("enroll_trials" if "enroll" in name else "trials")).read_text().splitlines()}
    rows = [line.split() for line in (folder / name).read_text().splitlines()]
    score = np.array([float(row[2]) for row in rows])
    is_target = np.array([kind[row[0], row[1]] == "target" for row in rows])
    printed = dict(line.split() for line in (folder / "eer.txt").read_text().splitlines())[name]
    rate = eer(score[is_target], score[~is_target], "kaldi")
    assert f"{100 * rate:.4g}" == printed
    assert rate == kaldi_loop(score[is_target], score[~is_target])


@given(scores, scores)
def test_kaldi_definition_equals_the_loop_of_compute_eer(target, nontarget):
    assert eer(target, nontarget, "kaldi") == kaldi_loop(target, nontarget)


def test_kaldi_definition_uses_single_precision():
    target, nontarget = [1.0, 1.0 + 1e-9], [1.0 + 1e-10, 0.0]
    assert eer(target, nontarget, "kaldi") == kaldi_loop(target, nontarget) == 0.5
    assert eer([1.0 + 1e-9], [1.0], "mean") == 0


def corners(target, nontarget):
    """(fpr, fnr) at every threshold, as whole fractions."""
    return [(Fraction(int(np.sum(nontarget >= t)), len(nontarget)), Fraction(int(np.sum(target < t)), len(target)))
            for t in [np.inf, *sorted({*target, *nontarget}, reverse=True)]]


@settings(max_examples=60)
@given(scores, scores)
def test_hull_definition_equals_brute_force(target, nontarget):
    """No chord between two points of the curve crosses the diagonal lower, and one crosses it there."""
    points = corners(target, nontarget)
    right = [(f, m) for f, m in points if f >= m]
    left = [(f, m) for f, m in points if f < m]
    lowest = min((f0 * (f1 - m1) + f1 * (m0 - f0)) / ((f1 - m1) + (m0 - f0)) for f0, m0 in left for f1, m1 in right)
    assert eer(target, nontarget, "hull") == pytest.approx(float(lowest), abs=1e-12)
    # and it is the error at the worst of all priors
    priors = np.linspace(0, 1, 101)[1:-1]
    costs = [min(p * float(m) + (1 - p) * float(f) for f, m in points) for p in priors]
    assert max(costs) <= float(lowest) + 1e-12


@given(scores, scores)
def test_hull_is_at_most_interpolated_and_mean_at_most_max(target, nontarget):
    rate = {name: eer(target, nontarget, name) for name in EER_DEFINITIONS}
    assert rate["hull"] <= min(rate["interpolated"], 0.5) + 1e-12
    assert rate["mean"] <= rate["max"]
    assert all(0 <= value <= 1 for value in rate.values())


def test_definitions_equal_a_hand_computation():
    # points (fpr, fnr): (0, 1), (0, 1/2), (1/2, 1/2), (1/2, 0), (1, 0); the hull leaves out the middle one
    target, nontarget = [4.0, 2.0], [3.0, 1.0]
    assert {name: eer(target, nontarget, name) for name in EER_DEFINITIONS} == {
        "mean": 0.5, "max": 0.5, "interpolated": 0.5, "kaldi": 0.5, "hull": 0.25}
    assert min_cllr(target, nontarget) == pytest.approx(0.5)  # pools: 1 target; 1 and 1; 1 nontarget


# --- costs of log-likelihood ratios

@given(scores, scores, st.floats(0.01, 0.99), st.floats(0.1, 10), st.floats(0.1, 10))
def test_actual_cost_equals_brute_force_and_is_at_least_the_minimum(target, nontarget, p_target, c_miss, c_fa):
    threshold = np.log((1 - p_target) * c_fa / (p_target * c_miss))
    assume(np.abs(np.r_[target, nontarget] - threshold).min() > 1e-9)
    cost = c_miss * p_target * np.mean(target < threshold) + c_fa * (1 - p_target) * np.mean(nontarget >= threshold)
    actual = act_dcf(target, nontarget, p_target, c_miss, c_fa)
    assert actual == pytest.approx(cost / min(c_miss * p_target, c_fa * (1 - p_target)))
    assert min_dcf(target, nontarget, p_target, c_miss, c_fa) <= actual + 1e-12


def test_score_at_the_threshold_is_accepted():
    assert act_dcf([0.0], [0.0], 0.5) == 1.0 == act_dcf([0.0], [-1e-300, 0.0], 0.5) * 2
    assert act_dcf([np.nextafter(0, -1)], [np.nextafter(0, -1)], 0.5) == 1.0
    assert act_dcf([0.0], [-1.0], 0.5) == 0.0
    assert act_dcf([-1.0, 5.0], [-9.0, 4.6], 0.01) == pytest.approx(0.5 + 99 * 0.5)  # log 99 = 4.595
    assert act_dcf([-np.inf, np.inf], [-np.inf, np.inf], 0.5) == 1.0


@given(scores, scores)
def test_cllr_equals_brute_force(target, nontarget):
    bits = [np.mean(np.logaddexp(0, -target)), np.mean(np.logaddexp(0, nontarget))]
    assert cllr(target, nontarget) == pytest.approx(sum(bits) / 2 / np.log(2), rel=1e-12)


@given(scores, scores)
def test_minimum_cllr_equals_that_of_isotonic_regression(target, nontarget):
    label = np.r_[np.ones(len(target)), np.zeros(len(nontarget))]
    rank = np.unique(np.r_[target, nontarget], return_inverse=True)[1]  # scikit-learn takes scores 1e-16 apart for one
    posterior = IsotonicRegression().fit(rank, label).predict(rank)
    with np.errstate(divide="ignore"):
        llr = np.log(posterior) - np.log1p(-posterior) - np.log(len(target) / len(nontarget))
    own, other = llr[label == 1], llr[label == 0]
    least = min_cllr(target, nontarget)
    assert least == pytest.approx(cllr(own, other), abs=1e-12)
    assert least <= min(1, cllr(target, nontarget)) + 1e-12


def test_cllr_of_perfect_uninformative_and_wrong_llrs():
    assert cllr([np.inf], [-np.inf]) == min_cllr([2.0], [1.0]) == 0
    assert cllr([0.0, 0.0], [0.0]) == pytest.approx(1) and min_cllr([1.0] * 3, [1.0] * 7) == pytest.approx(1)
    assert cllr([-np.inf, 3.0], [-1.0]) == cllr([1.0], [np.inf]) == np.inf
    assert min_cllr([0.0], [1.0]) == pytest.approx(1), "at worst the scores are uninformative"


@given(tied, tied)
def test_discrimination_measures_depend_on_the_order_only(target, nontarget):
    for change in (np.tanh, lambda x: x**3, lambda x: 2 * x + 7):
        changed = change(target), change(nontarget)
        for name in EER_DEFINITIONS:
            assert eer(*changed, name) == eer(target, nontarget, name)
        for p_target, c_miss, c_fa in ((0.01, 1, 1), (0.3, 10, 2)):
            assert min_dcf(*changed, p_target, c_miss, c_fa) == min_dcf(target, nontarget, p_target, c_miss, c_fa)
        assert min_cllr(*changed) == min_cllr(target, nontarget)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_many_curves_at_once_equal_single_curves(seed):
    """Curves of trials with integer weights equal those of repeated scores."""
    rng = np.random.default_rng(seed)
    target, nontarget = rng.integers(0, 6, size=5).astype(float), rng.integers(-2, 5, size=7).astype(float)
    weights = [(rng.integers(0, 3, size=5), rng.integers(0, 3, size=7)) for _ in range(4)]
    weights = [(a, b) for a, b in weights if a.any() and b.any()]
    assume(weights)
    one = det_points(target, nontarget)
    at = [[np.sum(b[nontarget >= t]), np.sum(a[target < t]), b.sum(), a.sum()]
          for a, b in weights for t in one.thresholds]
    counts = np.reshape(at, (len(weights), len(one.thresholds), 4))
    det = one._replace(num_false_accepts=counts[..., 0], num_misses=counts[..., 1], num_nontargets=counts[:, 0, 2],
                       num_targets=counts[:, 0, 3])
    repeated = [(np.repeat(target, a), np.repeat(nontarget, b)) for a, b in weights]
    for name in EER_DEFINITIONS:
        assert eer_of(det, name).tolist() == pytest.approx([eer(*sides, name) for sides in repeated]), name
    for many, single in ((min_dcf_of, min_dcf), (act_dcf_of, act_dcf), (cllr_of, cllr), (min_cllr_of, min_cllr)):
        assert many(det).tolist() == pytest.approx([single(*sides) for sides in repeated]), single.__name__
