# SPDX-License-Identifier: Apache-2.0
"""What a page's charts show of scores: thresholds and Bayes errors are those of the definitions."""

import numpy as np
import pytest
from test_chart import points

from rawnext.results.analysis import report_charts as charts
from rawnext.results.analysis.chart import BOTTOM, HEIGHT
from rawnext.scoring.det import det_points
from rawnext.scoring.metrics import eer, min_dcf

RNG = np.random.default_rng(0)
TARGET, NONTARGET = RNG.normal(2, 1, 300), RNG.normal(-1, 1.5, 500)
IS_TARGET = np.r_[np.ones(300, dtype=bool), np.zeros(500, dtype=bool)]
ROW = {"list": "O", "data_set": "v", "protocol": "native", "backend": "cosine", "duration": "2", "eer": 9.0}


def rates(threshold):
    return np.mean(threshold > TARGET), np.mean(threshold <= NONTARGET)


def test_thresholds_reach_what_is_reported():
    marks = dict(charts.thresholds(det_points(TARGET, NONTARGET), llr=True))
    assert sum(rates(marks["EER"])) / 2 == pytest.approx(eer(TARGET, NONTARGET))
    for p in (0.01, 0.05):
        miss, false_alarm = rates(marks[f"minDCF {p}"])
        assert (p * miss + (1 - p) * false_alarm) / p == pytest.approx(min_dcf(TARGET, NONTARGET, p))
        assert marks[f"Bayes {p}"] == pytest.approx(-np.log(p / (1 - p)))
    plain = dict(charts.thresholds(det_points(TARGET, NONTARGET), llr=False))
    assert list(plain) == ["EER", "minDCF 0.01", "minDCF 0.05"]


def test_bayes_error_is_that_of_the_decisions():
    actual, least = charts.bayes_error(det_points(TARGET, NONTARGET))
    for place in (0, 20, 28, 50):
        p = 1 / (1 + np.exp(-charts.LOG_ODDS[place]))
        miss, false_alarm = rates(np.log((1 - p) / p))
        assert actual[place] == pytest.approx((p * miss + (1 - p) * false_alarm) / min(p, 1 - p))
        assert least[place] == pytest.approx(min_dcf(TARGET, NONTARGET, p))
    assert (least <= actual + 1e-12).all() and (least <= 1 + 1e-12).all()


def curves(**columns):
    return charts.curves_of("x", {**ROW, **columns}, IS_TARGET, np.r_[TARGET, NONTARGET])


def test_det_chart_crosses_the_diagonal_at_the_eer():
    chart = charts.det_chart("DET", [curves()])
    diagonal, line = chart.lines
    path = points(line.path)
    (left, bottom), (right, top) = points(diagonal.path)
    assert right - left == bottom - top  # both axes are as long
    crossing = path[np.abs((path[:, 0] - left) - (bottom - path[:, 1])).argmin()]
    tens = dict((text, place) for place, text in chart.x_ticks)
    assert tens["5"] < crossing[0] < tens["20"] and line.label == "x, 2 s: EER 9.00 %" in chart.alt + line.label


def test_histogram_holds_all_scores_and_marks_thresholds():
    c = curves()
    width = np.diff(c.edges)
    assert np.sum(c.target * width) == pytest.approx(1) == np.sum(c.nontarget * width)
    assert np.average((c.edges[1:] + c.edges[:-1]) / 2, weights=c.target) == pytest.approx(TARGET.mean(), abs=0.1)
    for line in charts.histogram_chart(c).lines[:2]:
        assert points(line.path)[[0, -1], 1].tolist() == [HEIGHT - BOTTOM] * 2  # the area ends on the axis
    labels = [line.label for line in charts.histogram_chart(c).lines]
    assert labels[:2] == ["nontarget", "target"] and [label.split(":")[0] for label in labels[2:]] == [
        "EER", "minDCF 0.01", "minDCF 0.05"]
    assert len(charts.histogram_chart(curves(cllr=0.5)).lines) == 7


def test_rejecting_all_has_no_line_but_a_word():
    c = curves()._replace(marks=[("EER", 0.5), ("minDCF 0.01", float("inf"))])
    line = charts.histogram_chart(c).lines[-1]
    assert line.path == "" and line.label == "minDCF 0.01: reject all (not shown)"


def test_equal_scores_can_be_drawn():
    same = charts.curves_of("x", ROW, IS_TARGET, np.zeros(800))
    assert charts.histogram_chart(same) and charts.det_chart("DET", [same])


def test_durations_from_short_to_full_with_their_bands():
    lines = {"a": {"full": (1.0, [0.5, 2.0]), "0.5": (4.0, [3.0, 5.0])}, "published": {"2": (3.0, None)}}
    chart = charts.duration_chart("O", "EER (%)", lines, {"a": (0, 0), "published": (-1, 1)})
    assert [text for _, text in chart.x_ticks] == ["0.5 s", "2 s", "full"]
    ours, published = chart.lines
    assert len(points(ours.band)) == 4 and not published.band
    heights = points(ours.band)[:, 1]
    assert heights[0] > points(ours.path)[0, 1] > heights[3]  # downwards in the drawing
    assert "a: 0.5 s 4, full 1" in chart.alt


def test_training_leaves_out_what_was_not_measured():
    nan = np.full(3, np.nan)
    table = {"epoch": np.arange(1.0, 4), "loss": np.array([3.0, 2, 1]), "acc": np.array([0.1, np.nan, 0.3]),
             "lr": np.array([1e-3, 1e-4, 1e-5]), "eer_dev": nan}
    made = {chart.title: chart for chart in charts.training_charts({"x": table})}
    assert list(made) == ["training loss", "training accuracy (%)", "learning rate"]
    assert len(made["training accuracy (%)"].lines[0].dots) == 2
    assert [text for _, text in made["learning rate"].y_ticks] == ["1e-5", "1e-4", "1e-3"]
    assert "x ends at 1e-05" in made["learning rate"].alt
