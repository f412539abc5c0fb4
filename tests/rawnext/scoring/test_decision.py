# SPDX-License-Identifier: Apache-2.0
"""From cosines and durations to decisions, compared with the formulas."""

import json
import math

import numpy as np
import pytest
from tiny_model import calibrate

from rawnext.errors import InputError
from rawnext.scoring.decision import MODEL_PATH, Operating, read_judge


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
    llr, outside = judge.llr([0.8, 0.8, 0.8], [1, 2, 0.1], [1, 4, 5])
    assert llr == pytest.approx([5 * 0.8 - 2 - 2 / 4, 5 * 0.8 - 2 - 0.75 / 4, 5 * 0.8 - 2 - 4 / 4])
    assert outside.tolist() == [False, False, True] and not judge.why


def test_missing_or_unusable_calibration_gives_nan_and_the_reason(tmp_path):
    judge = read_judge(tmp_path)
    assert "no calibration: no such file" in judge.why and np.isnan(judge.llr([0.5], [1], [1])[0]).all()
    assert "needs norm_lower" in read_judge(calibrate(tmp_path, ["norm_lower"])).why


def test_wrong_calibrations_are_refused(tmp_path):
    with pytest.raises(InputError, match="was fitted for plda and native"):
        read_judge(calibrate(tmp_path, backend="plda"))
    content = json.loads((tmp_path / MODEL_PATH).read_text())
    (tmp_path / MODEL_PATH).write_text(json.dumps({**content, "backend": "cosine", "weights": [1]}))
    with pytest.raises(InputError, match="is not a calibration"):
        read_judge(tmp_path)
