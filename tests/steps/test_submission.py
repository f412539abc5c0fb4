# SPDX-License-Identifier: Apache-2.0
"""steps/submission.py: the threshold is of the validation trials, 0 means the same speaker."""

import csv
import subprocess
import sys

import pytest

from rawnext.files import write_lines

pytestmark = pytest.mark.usefixtures("forked_programs")

DEV = [("a1", "a2", "target", 3.0), ("a1", "b1", "nontarget", -1.0), ("b1", "b2", "target", 2.0),
       ("b1", "a1", "nontarget", 1.0)]
PAIRS = [("x", "y", "q9", 1.6), ("y", "z", "q1,5", 1.4), ("x", "y", "q2", 1.6), ("z", "z", "q0", 7.0)]


@pytest.fixture
def submit(root, tmp_path):
    def run(dev=DEV, pairs=PAIRS, scored=PAIRS):
        write_lines(tmp_path / "trials", [f"{e} {t} {kind}" for e, t, kind, _ in dev])
        write_lines(tmp_path / "dev_scores", [f"{e} {t} {score}" for e, t, _, score in reversed(dev)])
        write_lines(tmp_path / "pairs", [f"{e} {t} {idx}" for e, t, idx, _ in pairs])
        write_lines(tmp_path / "scores", [f"{e} {t} {score}" for e, t, _, score in scored])
        return subprocess.run([sys.executable, root / "steps" / "submission.py", "--dev-scores", "dev_scores",
                               "--dev-trials", "trials", "--pairs", "pairs", "scores", "submission.csv"], cwd=tmp_path,
                              capture_output=True, text=True)

    return run


def test_labels_by_the_validation_threshold_in_the_order_of_the_pairs(submit, tmp_path):
    done = submit()
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["idx"], float(row["score"]), row["label"]) for row in rows] == [
        ("q9", 1.6, "0"), ("q1,5", 1.4, "1"), ("q2", 1.6, "0"), ("q0", 7.0, "0")]
    assert "threshold 1.500000: accuracy 100.00 % of 2 target and 2 nontarget" in done.stdout
    assert "EER 0.00 %" in done.stdout and "3 of 4 pairs are of the same speaker (label 0)" in done.stdout


@pytest.mark.parametrize(("change", "message"), [
    ({"scored": PAIRS[::-1]}, "scores: does not have the pairs of pairs in the same order"),
    ({"scored": PAIRS[:3]}, "scores: does not have the pairs of pairs in the same order"),
    ({"dev": DEV[::2]}, "trials: want target and nontarget trials"),
])
def test_errors_are_one_line_and_leave_no_file(submit, tmp_path, change, message):
    done = submit(**change)
    assert (done.returncode, done.stderr) == (1, f"submission.py: {message}\n")
    assert not (tmp_path / "submission.csv").exists()


def test_help_explains_the_labels(root):
    done = subprocess.run([sys.executable, root / "steps" / "submission.py", "--help"], capture_output=True, text=True)
    assert "LABEL 0 = THE SAME SPEAKER, 1 = DIFFERENT SPEAKERS" in done.stdout
