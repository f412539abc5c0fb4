# SPDX-License-Identifier: Apache-2.0
"""From cosines and durations to decisions, compared with the formulas."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
from tiny_model import WITH_COHORT, calibrate, calibrate_with_cohort

from rawnext.errors import InputError
from rawnext.scoring import decision
from rawnext.scoring.decision import (
    COHORT_PATH,
    MODEL_PATH,
    Judge,
    Operating,
    Verdict,
    doubts_of,
    gallery_posteriors,
    read_judge,
)
from rawnext.stamp import sha256

ANY = np.ones((1, 6))    # embeddings, which count only with a cohort


@pytest.mark.parametrize(("point", "threshold"), [
    (Operating(0.5), 0), (Operating(0.01), math.log(99)), (Operating(0.5, 10, 1), -math.log(10)),
    (Operating(0.5, 1, 10), math.log(10)), (Operating(0.1, 3, 2), math.log(0.9 * 2 / (0.1 * 3)))])
def test_threshold_makes_both_errors_cost_the_same(point, threshold):
    point.check()
    assert point.threshold == pytest.approx(threshold) and not str(point.threshold).startswith("-0.0")
    posterior = 1 / (1 + math.exp(-point.threshold) * (1 - point.prior) / point.prior)
    assert point.chance(point.threshold) == pytest.approx(posterior)
    assert posterior * point.cost_miss == pytest.approx((1 - posterior) * point.cost_false_alarm)


@pytest.mark.parametrize("point", [Operating(0), Operating(1), Operating(math.nan), Operating(0.5, 0),
                                   Operating(0.5, 1, -1)])
def test_invalid_operating_points_are_refused(point):
    with pytest.raises(InputError, match="want 0 < prior < 1 and costs above 0"):
        point.check()


def test_llr_and_unseen_durations(tmp_path):
    judge = read_judge(calibrate(tmp_path))
    llr, outside = judge.llr([0.8, 0.8, 0.8], ANY, ANY, [0, 0, 0], [0, 0, 0], [1, 2, 0.1], [1, 4, 5])
    assert llr == pytest.approx([5 * 0.8 - 2 - 2 / 4, 5 * 0.8 - 2 - 0.75 / 4, 5 * 0.8 - 2 - 4 / 4])
    assert outside.tolist() == [False, False, True] and not judge.why


def test_missing_or_unusable_calibration_gives_nan_and_the_reason(tmp_path):
    judge = read_judge(tmp_path)
    assert "no calibration: no such file" in judge.why
    assert np.isnan(judge.llr([0.5], ANY, ANY, [0], [0], [1], [1])[0]).all()


def test_wrong_calibrations_are_refused(tmp_path):
    with pytest.raises(InputError, match="was fitted for plda and native"):
        read_judge(calibrate(tmp_path, backend="plda"))
    content = json.loads((tmp_path / MODEL_PATH).read_text())
    (tmp_path / MODEL_PATH).write_text(json.dumps({**content, "backend": "cosine", "weights": [1]}))
    with pytest.raises(InputError, match="is not a calibration"):
        read_judge(tmp_path)


@pytest.mark.parametrize(("verdict", "found"), [
    (Verdict(0.5, 4.0, 0.0, True, False), []), (Verdict(0.5, -4.0, 0.0, False, False), []),
    (Verdict(0.5, 6.5, 4.6, True, False), ["The LLR is only 1.90"]),
    (Verdict(0.5, 2.5, 4.6, False, False), ["The LLR is only 2.10"]),
    (Verdict(0.5, 4.0, 0.0, True, True), ["The calibration has not seen"]),
    (Verdict(0.99995, 9.0, 0.0, True, False), ["Both sides are the same"]),
    (Verdict(0.5, np.nan, np.nan, None, False), ["This model has no calibration"])])
def test_pairs_get_the_right_warnings(verdict, found):
    texts = doubts_of(verdict, Judge(None, []), Operating())
    assert len(texts) == len(found) and all(text.startswith(begin) for text, begin in zip(texts, found))


def test_calibration_by_which_a_higher_score_is_less_similar_decides_nothing(tmp_path):
    path = calibrate(tmp_path) / MODEL_PATH
    for slope in (-5.0, 0.0):
        path.write_text(json.dumps({**json.loads(path.read_text()), "weights": [slope, -0.25]}))
        judge = read_judge(tmp_path)
        assert judge.why == f"no calibration: {path} has the slope {slope:.3g}, by which a higher score is less similar"
        assert judge.decide(np.ones(3), np.ones(3), 1, 1, Operating()).same is None


@pytest.mark.parametrize(("fitted_on", "found"), [
    ({"num_trials": 5000, "num_target": 2000, "num_speakers": 19, "separable": False}, []),
    ({"num_trials": 5000, "num_target": 3}, ["it was fitted on only 3 target trials"]),
    ({"num_trials": 51, "num_target": 50, "num_speakers": 1},
     ["it was fitted on only 1 nontarget trial", "it was fitted on only 1 speaker"]),
    ({"separable": True}, ["all target trials score higher than all nontarget trials"]),
    ([3], []), ({"num_target": "x"}, [])])
def test_weak_calibrations_are_doubted_in_each_decision(tmp_path, fitted_on, found):
    judge = read_judge(calibrate(tmp_path, fitted_on=fitted_on))
    assert len(judge.doubts) == len(found)
    assert all(f"The calibration of this model is weak: {why}" in doubt for why, doubt in zip(found, judge.doubts))
    assert doubts_of(Verdict(0.5, 4.0, 0.0, True, False), judge, Operating()) == list(judge.doubts)


def test_posteriors_of_a_gallery_follow_bayes_rule():
    llrs, prior = np.array([[3.0, -1.0, 0.5], [800.0, 2.0, -800.0], [-9.0, -9.0, -9.0]]), 0.3
    found = gallery_posteriors(llrs, prior)
    assert np.allclose(found.sum(axis=1), 1) and found[1, 0] == 1
    weights = [prior / 3 * math.exp(llr) for llr in llrs[0]] + [1 - prior]
    assert np.allclose(found[0], np.array(weights) / sum(weights))
    assert found[2].argmax() == 3 and np.isnan(gallery_posteriors([np.nan, np.nan], prior)).all()
    point = Operating(prior)  # with one speaker, it is the decision on a pair
    for llr in (-2.0, point.threshold + 1e-9, point.threshold - 1e-9):
        assert gallery_posteriors([llr], prior)[0] == pytest.approx(point.chance(llr))
        assert (gallery_posteriors([llr], prior).argmax() == 0) == (llr >= point.threshold)


def test_answers_of_calibrated_llrs_are_right_as_often_as_their_probabilities_say():
    rng, num, prior, distance = np.random.default_rng(0), 20_000, 0.6, 3.0
    speaker = np.where(rng.random(num) < prior, rng.integers(4, size=num), 4)
    llrs = distance * rng.normal(size=(num, 4)) - distance ** 2 / 2  # Gaussian LLRs of nontarget trials
    llrs[np.arange(num)[speaker < 4], speaker[speaker < 4]] += distance ** 2
    chances = gallery_posteriors(llrs, prior)
    right = chances.argmax(axis=1) == speaker
    assert right.mean() == pytest.approx(chances.max(axis=1).mean(), abs=0.01) and 0.7 < right.mean() < 0.95
    assert (speaker == 4).mean() == pytest.approx(chances[:, 4].mean(), abs=0.01)


def cohort_of(num=40):
    return np.random.default_rng(0).normal(size=(num, 6)) + 0.5


def test_the_llr_takes_the_similarity_to_a_cohort_into_account(tmp_path):
    """The mean cosine with the nearest tenth, 4 of 40, of each side."""
    judge = read_judge(calibrate_with_cohort(tmp_path, cohort_of()))
    for seed in range(5):
        sides = np.random.default_rng(seed).normal(size=(2, 6))
        a, b, *cohort = (x / np.linalg.norm(x) for x in [*sides, *cohort_of()])
        means = [np.sort(np.array(cohort) @ x)[-4:].mean() for x in (a, b)]
        verdict = judge.decide(7 * a, b, 1.0, 2.0, Operating(0.1))
        assert verdict.llr == pytest.approx(5 * a @ b - 2 - min(means) - 3 * max(means) - 1.5 / 4, abs=1e-5)
        assert verdict.score == pytest.approx(a @ b) and verdict.same == (verdict.llr >= math.log(9))


def test_the_llr_takes_the_lengths_of_the_embeddings_into_account(tmp_path):
    """LLR = 5 score - 2 - the smaller length / 4, within the lengths 0.5 to 4 of the fit."""
    judge = read_judge(calibrate(tmp_path, ["norm_lower"]))
    a, b = np.array([3.0, 4.0]), np.array([0.8, 0.6])
    for enroll, test, smaller in ((a, b, 1), (b, a, 1), (a, 2 * b, 2), (a, 9 * b, 4), (a, b / 9, 0.5)):
        verdict = judge.decide(enroll, test, 1.0, 2.0, Operating())
        assert verdict.llr == pytest.approx(5 * 0.96 - 2 - smaller / 4) and not verdict.outside


def test_llrs_of_all_pairs_are_those_of_decisions(tmp_path, monkeypatch):
    monkeypatch.setattr(decision, "PAIRS", 7)    # fewer than a row has, and several rows
    judge = read_judge(calibrate_with_cohort(tmp_path, cohort_of()))
    x = np.random.default_rng(1).normal(size=(6, 6))
    for num in (6, 3, 2):
        expected = [judge.decide(a, b, 1.5, 1.5, Operating()).llr for a, b in combinations(x[:num], 2)]
        assert judge.pair_llrs(x[:num], 1.5) == pytest.approx(expected)


def test_only_durations_are_reported_as_outside_of_the_fit(tmp_path):
    path = calibrate_with_cohort(tmp_path, cohort_of()) / MODEL_PATH
    path.write_text(json.dumps({**json.loads(path.read_text()), "low": [1, 1, 0.5], "high": [1, 1, 4]}))
    judge = read_judge(tmp_path)
    a, b = np.random.default_rng(1).normal(size=(2, 6))
    assert not judge.decide(a, b, 1, 1, Operating()).outside and judge.decide(a, b, 9, 9, Operating()).outside


def test_a_calibration_without_its_cohort_is_not_used(tmp_path):
    exp = calibrate_with_cohort(tmp_path, cohort_of())
    (exp / COHORT_PATH).unlink()
    with pytest.raises(InputError, match="cohort.npy: no such file"):
        read_judge(exp)
    about = json.loads((exp / MODEL_PATH).read_text())
    del about["cohort_sha256"]
    (exp / MODEL_PATH).write_text(json.dumps(about))
    assert "needs a cohort, but steps/calibrate.py was given none" in read_judge(exp).why
    assert about["names"] == ["score", *WITH_COHORT]


def damaged(content):
    return content[:-1]


def pickled(content):
    return b"\x80\x04N."


def of_text(content):
    return content.replace(b"<f4", b"<U1")


@pytest.mark.parametrize("change", [damaged, pickled, of_text])
def test_damaged_cohorts_are_one_line(tmp_path, change):
    exp = calibrate_with_cohort(tmp_path, cohort_of())
    path = exp / COHORT_PATH
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match="is not the cohort with which the calibration next to it was fitted"):
        read_judge(exp)
    content = json.loads((exp / MODEL_PATH).read_text())
    (exp / MODEL_PATH).write_text(json.dumps({**content, "cohort_sha256": sha256(path)}))
    with pytest.raises(InputError, match=r"cohort.npy: (cannot be read as an array|want \(C, D\) finite float32)"):
        read_judge(exp)


def test_a_cohort_with_a_zero_vector_is_one_line(tmp_path):
    cohort = cohort_of()
    cohort[3] = 0
    with pytest.raises(InputError, match=r"cohort.npy: row 3 is a zero vector"):
        read_judge(calibrate_with_cohort(tmp_path, cohort))


def test_a_cohort_of_other_dimensions_is_one_line(tmp_path):
    judge = read_judge(calibrate_with_cohort(tmp_path, cohort_of()))
    with pytest.raises(InputError, match=r"cohort.npy: 6 dimensions, but the model has 5"):
        judge.decide(np.ones(5), np.ones(5), 1, 1, Operating())
