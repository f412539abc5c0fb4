# SPDX-License-Identifier: Apache-2.0
"""Calibration: compared with scikit-learn and with scores of known LLR, and its invariances."""

import numpy as np
import pytest
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from rawnext.scoring.calibration import MEASURES, Calibration, fit_calibration, measure, operating_points
from rawnext.scoring.metrics import act_dcf, cllr


def gaussian_scores(num=60_000, distance=3.0, seed=0):
    """Scores of unit variance around +-distance / 2, whose LLR is distance * score; a fifth are targets."""
    rng = np.random.default_rng(seed)
    is_target = rng.random(num) < 0.2
    return np.where(is_target, 0.5, -0.5) * distance + rng.normal(size=num), is_target


def short_and_long(num=40_000, seed=1):
    """Scores of targets N(2 - 1.5 / d, 1 / 2), of nontargets N(-1.5 / d, 1 / 2), kinds, 1 / d (N, 1), and the LLRs."""
    rng = np.random.default_rng(seed)
    seconds = rng.choice([1.0, 2.0, 5.0, 20.0], size=num)
    is_target = rng.random(num) < 0.5
    scores = 2 * is_target - 1.5 / seconds + rng.normal(size=num) * np.sqrt(0.5)
    return scores, is_target, (1 / seconds)[:, None], 4 * (scores + 1.5 / seconds - 1)


def cost(llr, is_target, prior):
    log_odds = logit(prior)
    return (prior * np.logaddexp(0, -(llr[is_target] + log_odds)).mean()
            + (1 - prior) * np.logaddexp(0, llr[~is_target] + log_odds).mean())


def cllr_of(llr, is_target):
    return cllr(llr[is_target], llr[~is_target])


@pytest.mark.parametrize("prior", [0.5, 0.05])
def test_affine_map_of_known_llrs_is_inverted(prior):
    llr_per_score = 3.0
    scores, is_target = gaussian_scores(distance=llr_per_score)
    calibration = fit_calibration(0.05 * scores + 0.7, is_target, prior=prior)
    x = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(calibration.llr(0.05 * x + 0.7), llr_per_score * x, atol=0.25)
    assert calibration.llr([0.7])[0] == pytest.approx(0, abs=0.08)


@pytest.mark.parametrize("prior", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("num_measures", [0, 2])
def test_equals_scikit_learn_without_penalty(prior, num_measures):
    scores, is_target = gaussian_scores(3000, distance=1.5)
    measures = np.random.default_rng(2).normal([5, -100], [1, 20], size=(3000, 2))[:, :num_measures]
    measures[:, :1] += 0.3 * scores[:, None]
    ours = fit_calibration(0.1 * scores, is_target, measures, prior, ridge=0)
    x = np.column_stack([scores, measures])
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    share = np.where(is_target, prior / is_target.sum(), (1 - prior) / (~is_target).sum()) * len(scores)
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12, max_iter=200)
    theirs.fit(x, is_target, sample_weight=share)
    np.testing.assert_allclose(ours.llr(0.1 * scores, measures), theirs.decision_function(x) - logit(prior), atol=1e-6)


@pytest.mark.parametrize("prior", [0.5, 0.05])
def test_no_affine_map_costs_less_at_the_prior(prior):
    scores, is_target, measures, _ = short_and_long(3000)
    best = fit_calibration(scores, is_target, measures, prior, ridge=0)
    least = cost(best.llr(scores, measures), is_target, prior)
    assert least < cost(scores, is_target, prior)
    for place in range(2):
        for step in (-0.05, 0.05):
            weights = best.weights + step * np.eye(2)[place]
            assert cost(best._replace(weights=weights).llr(scores, measures), is_target, prior) > least
    assert cost(best._replace(offset=best.offset + 0.05).llr(scores, measures), is_target, prior) > least
    assert cost(best._replace(offset=best.offset - 0.05).llr(scores, measures), is_target, prior) > least


def test_calibration_lowers_cllr_and_keeps_llrs():
    scores, is_target = gaussian_scores(5000)
    for raw in (scores, 100 * scores + 7):
        calibration = fit_calibration(raw, is_target)
        llr = calibration.llr(raw)
        assert cllr_of(llr, is_target) <= cllr_of(raw, is_target)
        again = fit_calibration(llr, is_target, ridge=0)
        assert again.weights[0] == pytest.approx(1, abs=5e-3) and again.offset == pytest.approx(0, abs=5e-3)


def test_duration_measure_calibrates_mixed_lengths():
    """On new trials, one affine map for all lengths is worse than the true LLRs; with the measure it is as good."""
    scores, is_target, measures, _ = short_and_long()
    plain, with_durations = fit_calibration(scores, is_target), fit_calibration(scores, is_target, measures)
    scores, is_target, measures, truth = short_and_long(seed=7)
    best, affine = cllr_of(truth, is_target), plain.llr(scores)
    llr = with_durations.llr(scores, measures)
    assert cllr_of(affine, is_target) > best + 0.02
    assert cllr_of(llr, is_target) == pytest.approx(best, abs=0.001)
    np.testing.assert_allclose(llr, truth, atol=0.6)
    short = measures[:, 0] == 1
    for p_target in (0.5, 0.05):
        costs = [act_dcf(x[is_target & short], x[~is_target & short], p_target) for x in (affine, llr, truth)]
        assert costs[0] > costs[1] + 0.02 and costs[1] == pytest.approx(costs[2], abs=0.03)


def test_scale_and_order_do_not_matter():
    scores, is_target, measures, _ = short_and_long(2000)
    llr = fit_calibration(scores, is_target, measures).llr(scores, measures)
    for change in (lambda x: 1e4 * x, lambda x: x + 50, lambda x: 1e-5 * x - 3):
        for moved, quality in ((change(scores), measures), (scores, change(measures))):
            np.testing.assert_allclose(fit_calibration(moved, is_target, quality).llr(moved, quality), llr, atol=1e-6)
    flipped = fit_calibration(scores, is_target, -measures)
    np.testing.assert_allclose(flipped.llr(scores, -measures), llr, atol=1e-6)
    order = np.random.default_rng(0).permutation(2000)
    shuffled = fit_calibration(scores[order], is_target[order], measures[order])
    np.testing.assert_allclose(shuffled.llr(scores, measures), llr, atol=1e-8)
    again = fit_calibration(scores, is_target, measures)
    np.testing.assert_array_equal(again.llr(scores, measures), llr)


def test_ratio_of_targets_to_nontargets_does_not_matter():
    scores, is_target = gaussian_scores(4000)
    often = np.where(is_target, 1, 10)
    many = np.repeat(scores, often), np.repeat(is_target, often)
    np.testing.assert_allclose(fit_calibration(*many, ridge=0).llr(scores),
                               fit_calibration(scores, is_target, ridge=0).llr(scores), atol=1e-6)


@pytest.mark.parametrize("num", [2, 20, 2000])
def test_separable_trials_give_finite_llrs_that_grow_with_their_number(num):
    scores = np.concatenate([np.linspace(0.6, 0.8, num), np.linspace(0.0, 0.2, num)])
    llr = fit_calibration(scores, np.arange(2 * num) < num).llr(scores)
    assert np.abs(llr).max() < 3 * np.log(2 * num) and np.abs(llr).min() > 0.5
    assert np.all((llr > 0) == (scores > 0.4))


def test_constant_measure_has_no_weight():
    scores, is_target = gaussian_scores(2000)
    calibration = fit_calibration(scores, is_target, np.full((2000, 1), 0.3))
    assert calibration.weights[1] == 0
    np.testing.assert_allclose(calibration.llr(scores, np.full((2000, 1), 9.0)), fit_calibration(scores, is_target)
                               .llr(scores), atol=1e-9)


def test_equal_measures_share_the_weight():
    scores, is_target, measures, _ = short_and_long(2000)
    one = fit_calibration(scores, is_target, measures)
    two = fit_calibration(scores, is_target, np.hstack([measures, measures]))
    assert two.weights[1] == pytest.approx(two.weights[2])
    np.testing.assert_allclose(two.llr(scores, np.hstack([measures] * 2)), one.llr(scores, measures), atol=0.02)


def test_unseen_durations_count_as_the_nearest_seen():
    scores, is_target, measures, _ = short_and_long(2000)
    calibration = fit_calibration(scores, is_target, measures)
    np.testing.assert_array_equal(calibration.llr([0.3] * 4, [[10.0], [1.0], [0.05], [1e-6]]),
                                  calibration.llr([0.3] * 4, [[1.0], [1.0], [0.05], [0.05]]))
    outside = calibration.outside(["log_longer"], [[10.0], [1.0], [0.05], [1e-6]])
    np.testing.assert_array_equal(outside, [True, False, False, True])


def test_measures_are_symmetric_in_the_sides():
    sides = {"duration": (np.array([4.0, 1.0]), np.array([2.0, 8.0])),
             "norm": (np.array([3.0, 5.0]), np.array([4.0, 2.0])),
             "cohort_mean": (np.array([0.1, -0.2]), np.array([-0.3, 0.2]))}
    swapped = {quantity: pair[::-1] for quantity, pair in sides.items()}
    expected = {"inverse_duration": [0.75, 1.125], "log_shorter": [np.log(2), 0], "log_longer": np.log([4, 8]),
                "norm_lower": [3, 2], "norm_higher": [4, 5], "cohort_mean_lower": [-0.3, -0.2],
                "cohort_mean_higher": [0.1, 0.2]}
    assert set(expected) == set(MEASURES)
    np.testing.assert_allclose(measure(list(expected), sides), np.transpose(list(expected.values())))
    np.testing.assert_array_equal(measure(list(expected), swapped), measure(list(expected), sides))


def test_operating_points_have_the_error_rates_of_the_llrs():
    scores, is_target, measures, _ = short_and_long(3000)
    priors = (0.5, 0.1, 0.001)
    for quality in (measures, measures[:, :0]):
        calibration = fit_calibration(scores, is_target, quality)
        llr = calibration.llr(scores, quality)
        points = operating_points(calibration, scores, is_target, quality, priors)
        assert [point.prior for point in points] == list(priors)
        for point in points:
            accept = llr >= -logit(point.prior)
            assert point.llr == pytest.approx(np.log((1 - point.prior) / point.prior), abs=1e-12)
            assert (point.miss, point.false_alarm) == pytest.approx(((~accept)[is_target].mean(),
                                                                     accept[~is_target].mean()))
            median = np.median(quality, axis=0)[None]
            assert calibration.llr([point.score], median)[0] == pytest.approx(point.llr)
            reach = scores >= point.score
            assert (point.score_miss, point.score_false_alarm) == pytest.approx(((~reach)[is_target].mean(),
                                                                                 reach[~is_target].mean()))
    assert [(p.miss, p.false_alarm) for p in points] == [(p.score_miss, p.score_false_alarm) for p in points]


def test_trial_at_the_threshold_is_accepted():
    calibration = Calibration(np.ones(1), 0.0, np.empty(0), np.empty(0))
    point, = operating_points(calibration, np.zeros(2), np.array([True, False]), np.empty((2, 0)), [0.5])
    assert point == (0.5, 0, 0, 0, 1, 0, 1)


@pytest.mark.parametrize("scores", [[1.0, 2, 3, 4], [1.0, 1, 1, 1]])
def test_uninformative_scores_accept_nothing_by_score(scores):
    is_target, none = np.array([True, True, False, False]), np.empty((4, 0))
    calibration = fit_calibration(scores, is_target)
    assert calibration.weights[0] <= 0 and np.isfinite(calibration.llr(scores)).all()
    point, = operating_points(calibration, np.array(scores), is_target, none, [0.5])
    assert np.isnan(point.score) and (point.score_miss, point.score_false_alarm) == (1, 0)


@pytest.mark.parametrize("scores, is_target, measures, prior, message", [
    ([1.0, 2], [True, True], None, 0.5, "there is no nontarget trial"),
    ([1.0, 2], [False, False], None, 0.5, "there is no target trial"),
    ([1.0, 2], [True, False, True], None, 0.5, "2 scores, but 3 labels"),
    ([1.0, np.nan], [True, False], None, 0.5, "not finite"),
    ([1.0, 2], [True, False], [[1.0], [np.inf]], 0.5, "not finite"),
    ([1.0, 2], [True, False], [[1.0]], 0.5, "want .N,. or .N, K. scores and .N, M. measures"),
    ([2.0, 1], [True, False], None, 1.0, "the prior must be between 0 and 1, got 1.0"),
])
def test_invalid_training_data_is_refused(scores, is_target, measures, prior, message):
    with pytest.raises(ValueError, match=message):
        fit_calibration(scores, is_target, measures, prior)


def test_number_of_measures_must_match_the_model():
    calibration = Calibration(np.array([1.0, 2.0]), 0.0, np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="want 1 scores and 1 measures of each trial, got 1 numbers"):
        calibration.llr([1.0])


def test_fusion_finds_the_optimal_weights_of_gaussian_scores():
    """Of scores with one covariance C and means +-m the LLR is 2 m' inv(C) s."""
    rng, num = np.random.default_rng(0), 100_000
    covariance, mean = np.array([[1.0, 0.6], [0.6, 2.0]]), np.array([0.8, 0.9])
    is_target = np.arange(num) % 2 == 0
    scores = rng.multivariate_normal([0, 0], covariance, num) + np.where(is_target[:, None], mean, -mean)
    fused = fit_calibration(scores, is_target)
    assert np.allclose(fused.weights, 2 * np.linalg.solve(covariance, mean), atol=0.03) and abs(fused.offset) < 0.02
    assert (fused.num_scores, len(fused.low)) == (2, 0)
    llr = fused.llr(scores)
    assert np.allclose(llr, scores @ fused.weights + fused.offset)
    for one in scores.T:
        alone = fit_calibration(one, is_target).llr(one)
        assert cllr(llr[is_target], llr[~is_target]) < cllr(alone[is_target], alone[~is_target]) - 0.005
    noise = rng.normal(size=num)
    assert np.abs(fit_calibration(np.column_stack([scores[:, 0], noise]), is_target).weights[1]) < 0.02


def test_fused_scores_are_not_clipped_and_measures_are():
    rng = np.random.default_rng(0)
    is_target, scores, measures = np.arange(400) % 2 == 0, rng.normal(size=(400, 2)), rng.uniform(1, 2, (400, 1))
    fused = fit_calibration(scores + is_target[:, None], is_target, measures)
    far = fused.llr([[50.0, -50.0]], [[9.0]])
    assert far == pytest.approx(fused.weights @ [50, -50, fused.high[0]] + fused.offset)
    with pytest.raises(ValueError, match="want 2 scores and 1 measures of each trial, got 2 numbers"):
        fused.llr([0.5], [[1.0]])
    points = operating_points(fused, scores + is_target[:, None], is_target, measures, (0.5,))
    assert np.isnan(points[0].score) and np.isnan(points[0].score_miss) and 0 < points[0].miss < 0.5
