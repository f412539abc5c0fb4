# SPDX-License-Identifier: Apache-2.0
"""Pictures: they are drawn from what is there, and the thinned DET curve is the whole one."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy.special import ndtr

from rawnext.files import write_lines
from rawnext.results.analysis import plots
from rawnext.scoring.metrics import det_points, eer

scores = st.lists(st.integers(-8, 8), min_size=1, max_size=60).map(lambda x: np.array(x, dtype=float))


@given(scores, scores)
def test_drawn_det_curve_is_the_whole_curve(target, nontarget):
    """Every point of the curve lies on the thinned one: between two kept points nothing bends."""
    det = det_points(target, nontarget)
    fpr, fnr = map(ndtr, plots.det_line(det))
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
    assert len(plots.det_line(det)[0]) < 0.25 * len(det.fpr)


@pytest.fixture
def figures(monkeypatch):
    """The matplotlib figures that were saved."""
    saved = {}
    monkeypatch.setattr(plots, "save", lambda figure, path: saved.__setitem__(path, figure))
    return saved


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_det_panels_and_legends(figures):
    rng = np.random.default_rng(0)
    target, nontarget = rng.normal(2, 1, 300), rng.normal(0, 1, 300)
    curve = det_points(target, nontarget), 100 * eer(target, nontarget)
    plots.plot_det({("O", "paper"): {"full": curve, "2": curve}, ("E", "native"): {"full": curve}}, "det")
    axes = figures["det"].axes
    shown = {axis.get_title(): legend(axis) for axis in axes if axis.get_visible()}
    rate = f"EER {curve[1]:.2f} %"
    assert shown == {"O, paper": [f"full: {rate}", f"2 s: {rate}"], "E, native": [f"full: {rate}"]}
    first = axes[0]
    assert (first.get_xlabel(), first.get_ylabel()) == ("false alarm rate (%)", "miss rate (%)")
    # the curve meets the diagonal at the EER
    x, y = first.lines[0].get_data()
    crossing = np.argmin(abs(x - y))
    assert 100 * ndtr((x[crossing] + y[crossing]) / 2) == pytest.approx(curve[1], abs=0.2)


def test_durations_from_short_to_full_with_published_line_dashed(figures):
    lines = {"O": {"native": {"full": 1.0, "0.5": 9.0, "2": 3.0}, "published": {"1": 4.0, "full": 1.5}}}
    plots.plot_durations(lines, "durations")
    axis = figures["durations"].axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0.5 s", "1 s", "2 s", "5 s", "full"]
    ours, published = axis.lines
    assert ours.get_xydata().tolist() == [[0, 9], [2, 3], [4, 1]] and ours.get_linestyle() == "-"
    assert published.get_xydata().tolist() == [[1, 4], [4, 1.5]] and published.get_linestyle() == "--"
    assert legend(axis) == ["native", "published"] and axis.get_ylabel() == "EER (%)"


def test_a_dozen_lines_differ_and_are_not_hidden(figures):
    plots.plot_durations({"O": {f"scoring {n}": {"full": 1.0, "1": 2.0 + n} for n in range(12)}}, "durations")
    axis = figures["durations"].axes[0]
    assert len({(line.get_color(), line.get_marker()) for line in axis.lines}) == 12
    figures["durations"].draw_without_rendering()
    assert axis.get_legend().get_window_extent().x0 >= axis.get_window_extent().x1


def test_training_leaves_out_what_was_not_measured(figures):
    nan = float("nan")
    table = {"epoch": np.array([1.0, 2, 3]), "loss": np.array([3.0, 2, 1]), "acc": np.array([0.1, 0.2, 0.3]),
             "lr": np.array([1e-3, 1e-4, 1e-5]), "eer_dev": np.array([nan, 20.0, 10.0])}
    plots.plot_training(table, "training")
    loss, accuracy, rate, validation = figures["training"].axes
    assert list(validation.lines[0].get_xdata()) == [2, 3]
    assert list(accuracy.lines[0].get_ydata()) == pytest.approx([10, 20, 30])
    assert rate.get_yscale() == "log" and loss.get_xlabel() == "epoch"


# --- steps/plot.py

@pytest.fixture
def exp(root, tmp_path):
    """An experiment with one evaluated list of ten trials."""
    exp = tmp_path / "x"
    exp.mkdir()
    (exp / "config.yaml").write_text("paper: RawNeXt softmax\n")
    kinds = ["target", "nontarget"] * 5
    write_lines(tmp_path / "trials", (f"a b{i} {kind}" for i, kind in enumerate(kinds)))
    write_lines(exp / "scores" / "O", (f"a b{i} {x}" for i, x in enumerate([.9, .1, .8, .2, .7, .3, .2, .6, .9, .5])))
    subprocess.run([sys.executable, root / "steps/evaluate.py", "--exp", exp, "--list", "O", "--data-set", "v",
                    "--protocol", "native", exp / "scores" / "O", tmp_path / "trials"], check=True)
    write_lines(exp / "train.tsv", ["epoch\tstep\tloss\tacc\tlr\teer_dev", "1\t10\t3.5\t.1\t1e-3\t",
                                    "2\t20\t2.5\t.3\t1e-4\t12.5"])
    return exp


def plot(root, exp):
    return subprocess.run([sys.executable, root / "steps" / "plot.py", exp], capture_output=True, text=True)


def test_program_draws_all_pictures(root, exp):
    done = plot(root, exp)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (exp / "figures").iterdir()) == ["det.png", "durations.png", "training.png"]
    for path in (exp / "figures").iterdir():
        picture = imread(path)
        assert min(picture.shape[:2]) > 300 and picture[..., :3].std() > 0.05  # not an empty sheet
    (exp / "train.tsv").unlink()
    assert "no training.png" in plot(root, exp).stdout


def test_faults_are_one_line(root, exp):
    (exp / "train.tsv").write_text("epoch\tloss\tacc\tlr\teer_dev\n1\t2\n")
    assert plot(root, exp).stderr == f"plot.py: {exp}/train.tsv:2: expected 5 columns\n"
    (exp / "train.tsv").write_text("epoch\tloss\tacc\tlr\n1\t2\t3\t4\n")
    assert plot(root, exp).stderr == f"plot.py: {exp}/train.tsv:1: has no column 'eer_dev'\n"
    (exp / "train.tsv").unlink()
    row = json.loads((exp / "scores" / "O.json").read_text())
    (exp / "scores" / "O.json").write_text(json.dumps({**row, "trials": "gone"}))
    assert plot(root, exp).stderr == "plot.py: gone: no such file\n"
