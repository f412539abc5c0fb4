# SPDX-License-Identifier: Apache-2.0
"""Intervals only where they mean something, and the reason where there is none."""

import json

import numpy as np
import pytest
from scipy.stats import beta

from rawnext.results.evaluation import evaluation, paired_test
from rawnext.results.rows import read_row
from rawnext.results.tables import headline
from rawnext.scoring.bootstrap import units_of

INTERVALS = {"eer_interval", "min_dcf_01_interval", "min_dcf_05_interval"}


def trials(num_speakers, num=600, seed=0, distance=1.5):
    """(N,) scores, (N,) is_target, (2, N) speakers."""
    rng = np.random.default_rng(seed)
    enroll = np.arange(num) % num_speakers
    is_target = np.arange(num) // num_speakers % 2 == 0
    test = np.where(is_target, enroll, (enroll + rng.integers(1, num_speakers, size=num)) % num_speakers)
    return rng.normal(size=num) + distance * is_target, is_target, np.stack([enroll, test])


def evaluated(scores, is_target, speakers):
    return evaluation(scores, is_target, "mean", False, speakers)


@pytest.mark.parametrize(("num", "pairs"), [(2, "1 disjoint pair"), (3, "1 disjoint pair"), (4, "2 disjoint pairs")])
def test_few_speakers_have_no_interval_but_the_reason(num, pairs):
    row = evaluated(*trials(num))
    assert not INTERVALS & set(row) and row["num_speakers"] == num and 0 < row["eer"] < 50
    assert row["interval_note"] == (f"no interval: {num} speakers with target trials and {pairs} with nontarget trials "
                                    "are too few; want 10 and 5")


@pytest.mark.parametrize("num", [5, 9, 10])
def test_intervals_of_under_ten_speakers_are_said_to_be_too_narrow(num):
    row = evaluated(*trials(num))
    assert set(row) >= INTERVALS and ("interval_note" in row) == (num < 10)
    assert num == 10 or row["interval_note"] == (
        f"the interval is too narrow: {num} speakers with target trials and {num // 2} disjoint pairs with nontarget "
        "trials are few; want 10 and 5")
    assert all(row[name][0] < row[name][1] for name in INTERVALS)


def test_lists_that_hang_on_few_speakers_have_no_interval():
    """Many speakers, but one of them on the enroll side of each nontarget trial, or few with target trials."""
    scores, is_target, speakers = trials(40)
    star = speakers.copy()
    star[0, ~is_target] = 0
    star[1, ~is_target] = 1 + np.arange(np.count_nonzero(~is_target)) % 39
    assert units_of(is_target, star).pairs == 1
    assert "1 disjoint pair with" in evaluated(scores, is_target, star)["interval_note"]
    few = is_target & (speakers[0] >= 3)
    row = evaluated(scores[~few], is_target[~few], np.unique(speakers[:, ~few], return_inverse=True)[1].reshape(2, -1))
    assert "3 speakers with target trials and 20 disjoint pairs" in row["interval_note"] and not INTERVALS & set(row)


@pytest.mark.parametrize("num", [12, 50])
def test_no_errors_give_an_upper_bound_that_holds(num):
    scores, is_target, speakers = trials(num, distance=50)
    row = evaluated(scores, is_target, speakers)
    assert row["eer"] == 0 and INTERVALS & set(row) == {"eer_interval"}
    bound = beta.ppf(0.975, 1, num // 2)  # Clopper and Pearson: no success of n, two-sided 95 %
    assert row["eer_interval"] == [0.0, pytest.approx(100 * bound)]
    assert row["interval_note"] == (f"no errors: the upper end is the bound of Clopper and Pearson for {num} speakers "
                                    f"and {num // 2} disjoint pairs of speakers without an error")
    # a share of speakers with errors above the bound shows no error in at most 2.5 % of test sets
    assert (1 - bound) ** (num // 2) == pytest.approx(0.025)


@pytest.mark.parametrize(("scores", "why"), [(lambda s, y: -s, "the EER is above 50 %: target trials score lower"),
                                             (lambda s, y: 0 * s, "all scores are equal")])
def test_scores_that_cannot_be_right_are_named(scores, why):
    s, is_target, speakers = trials(20)
    assert evaluated(scores(s, is_target), is_target, speakers)["warning"].startswith(why)
    assert "warning" not in evaluated(s, is_target, speakers)


def test_paired_test_has_no_interval_where_it_means_nothing():
    a, is_target, speakers = trials(4)
    found = paired_test(a, a + 2 * is_target, is_target, speakers, "mean", False)
    assert all("no interval: 4 speakers with target trials" in str(one) and np.isnan(one.p) for one in found)
    assert found[0].difference > 0 and str(found[0]).startswith(f"{found[0].difference:+.2f}, no interval")
    a, is_target, speakers = trials(20, distance=50)
    b = a + np.random.default_rng(1).normal(size=len(a))
    assert {str(one)[5:] for one in paired_test(a, b, is_target, speakers, "mean", False)[1:]} == {
        "0, no interval: equal in all samples of speakers"}
    same = str(paired_test(a, a, is_target, speakers, "mean", False)[0])
    assert same == "+0.00 [+0.00, +0.00], p 1", "identical scores are equal for all speakers"


def test_interval_of_a_point_in_an_early_evaluation_is_not_shown(tmp_path):
    row = {"list": "O", "data_set": "x", "protocol": "native", "backend": "cosine", "duration": "full", "trials": "t",
           "trials_sha256": "0", "num_trials": 9, "num_target": 4, "eer": 46.9, "min_dcf_01": 1.0, "min_dcf_05": 1.0}
    row |= {"eer_interval": [46.9, 46.9], "min_dcf_01_interval": [0.9, 1.0]}
    (tmp_path / "r.json").write_text(json.dumps(row))
    found = read_row(tmp_path / "r.json")
    assert "eer_interval" not in found and found["min_dcf_01_interval"] == [0.9, 1.0]
    assert headline([found]).endswith("full (no interval: all samples of speakers have the same EER)")
