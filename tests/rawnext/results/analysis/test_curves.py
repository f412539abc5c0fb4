# SPDX-License-Identifier: Apache-2.0
"""What figures show of scores: DET curve, thresholds and Bayes errors agree with their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from rawnext.results.analysis import curves as module
from rawnext.scoring.det import det_points
from rawnext.scoring.metrics import eer, min_dcf

RNG = np.random.default_rng(0)
TARGET, NONTARGET = RNG.normal(2, 1, 300), RNG.normal(-1, 1.5, 500)
IS_TARGET = np.r_[np.ones(300, dtype=bool), np.zeros(500, dtype=bool)]
ROW = {"list": "O", "data_set": "v", "protocol": "native", "backend": "cosine", "duration": "2", "eer": 9.0}

integers = st.lists(st.integers(-8, 8), min_size=1, max_size=60).map(lambda x: np.array(x, dtype=float))


def curves(system="x", scores=None, **columns):
    scores = np.r_[TARGET, NONTARGET] if scores is None else scores
    return module.curves_of(system, {**ROW, **columns}, IS_TARGET, scores)


def rates(threshold):
    return np.mean(threshold > TARGET), np.mean(threshold <= NONTARGET)


@given(integers, integers)
def test_thinned_det_curve_is_the_whole_curve(target, nontarget):
    """Every point of the curve is on the thinned one: there is no corner between two kept points."""
    det = det_points(target, nontarget)
    fpr, fnr = map(ndtr, module.det_line(det))
    assert len(fpr) <= len(det.fpr)
    low, high = 0.5 / len(nontarget), 0.5 / len(target)
    for x, y in zip(np.clip(det.fpr, low, 1 - low), np.clip(det.fnr, high, 1 - high)):
        inside = ((fpr[:-1] - 1e-9 <= x) & (x <= fpr[1:] + 1e-9) & (fnr[1:] - 1e-9 <= y) & (y <= fnr[:-1] + 1e-9))
        flat = (np.abs(np.diff(fpr)) < 1e-9) | (np.abs(np.diff(fnr)) < 1e-9)
        corner = (np.abs(fpr - x) < 1e-9) & (np.abs(fnr - y) < 1e-9)
        assert corner.any() or (inside & flat).any()


def test_det_curve_of_a_large_list_is_thinned():
    rng = np.random.default_rng(0)
    det = det_points(rng.normal(3, 1, 20_000), rng.normal(0, 1, 20_000))
    assert len(module.det_line(det)[0]) < 0.25 * len(det.fpr)


def test_thresholds_reach_the_reported_measures():
    marks = dict(module.thresholds(det_points(TARGET, NONTARGET), llr=True))
    assert sum(rates(marks["EER"])) / 2 == pytest.approx(eer(TARGET, NONTARGET))
    for p in (0.01, 0.05):
        miss, false_alarm = rates(marks[f"minDCF {p}"])
        assert (p * miss + (1 - p) * false_alarm) / p == pytest.approx(min_dcf(TARGET, NONTARGET, p))
        assert marks[f"Bayes {p}"] == pytest.approx(-np.log(p / (1 - p)))
    plain = dict(module.thresholds(det_points(TARGET, NONTARGET), llr=False))
    assert list(plain) == ["EER", "minDCF 0.01", "minDCF 0.05"]


def test_bayes_error_is_that_of_the_decisions():
    actual, minimum = module.bayes_error(det_points(TARGET, NONTARGET))
    for place in (0, 20, 28, 50):
        p = 1 / (1 + np.exp(-module.LOG_ODDS[place]))
        miss, false_alarm = rates(np.log((1 - p) / p))
        assert actual[place] == pytest.approx((p * miss + (1 - p) * false_alarm) / min(p, 1 - p))
        assert minimum[place] == pytest.approx(min_dcf(TARGET, NONTARGET, p))
    assert (minimum <= actual + 1e-12).all() and (minimum <= 1 + 1e-12).all()


def test_histogram_holds_all_scores():
    c = curves()
    width = np.diff(c.edges)
    assert np.sum(c.target * width) == pytest.approx(1) == np.sum(c.nontarget * width)
    assert np.average((c.edges[1:] + c.edges[:-1]) / 2, weights=c.target) == pytest.approx(TARGET.mean(), abs=0.1)
