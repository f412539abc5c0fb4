# SPDX-License-Identifier: Apache-2.0
"""Figures: lines, bands, legends and ticks show the given numbers."""

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.special import ndtr
from test_curves import NONTARGET, ROW, TARGET, curves

from rawnext.files import write_lines
from rawnext.results.analysis import plots
from rawnext.results.analysis.curves import curves_of
from rawnext.results.rows import row_sha256
from rawnext.scoring.metrics import eer

pytestmark = pytest.mark.usefixtures("forked_programs")


@pytest.fixture
def figures(monkeypatch):
    """The matplotlib figures that were saved."""
    saved = {}
    monkeypatch.setattr(plots, "save", lambda figure, *paths: saved.update(dict.fromkeys(paths, figure)))
    return saved


@pytest.fixture
def axis():
    return plots.new_figure(1, 1, 4, 4)[1][0, 0]


def legend(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


def test_det_panels_and_legends(figures):
    full, short = curves("", duration="full"), curves("")
    plots.plot_det({"O, paper": [full, short], "E, native": [full]}, "det")
    axes = figures["det"].axes
    shown = {axis.get_title(): legend(axis) for axis in axes if axis.get_visible()}
    assert shown == {"O, paper": ["full: EER 9.00 %", "2 s: EER 9.00 %"], "E, native": ["full: EER 9.00 %"]}
    first = axes[0]
    assert (first.get_xlabel(), first.get_ylabel()) == ("false alarm rate (%)", "miss rate (%)")
    # the curve meets the diagonal at the EER
    x, y = first.lines[0].get_data()
    crossing = np.argmin(abs(x - y))
    assert 100 * ndtr((x[crossing] + y[crossing]) / 2) == pytest.approx(100 * eer(TARGET, NONTARGET), abs=0.2)


def test_a_dozen_det_panels_are_a_grid(figures):
    plots.plot_det({f"list {n}": [curves("")] for n in range(11)}, "det")
    width, height = figures["det"].get_size_inches()
    assert 1 < width / height < 1.5
    assert sum(axis.get_visible() for axis in figures["det"].axes) == 11


def test_systems_differ_in_dash_and_durations_in_colour(axis):
    group = [curves(system, duration=d) for system in ("x", "y") for d in ("full", "2")]
    words = plots.det_panel(axis, group)
    lines = axis.lines[:4]
    assert [line.get_linestyle() for line in lines] == ["-", "-", "--", "--"]
    assert lines[0].get_color() == lines[2].get_color() != lines[1].get_color()
    assert [line.get_label() for line in lines][1] == "x, 2 s: EER 9.00 %" and "x, 2 s: EER 9.00 %" in words


def test_histogram_marks_thresholds(axis):
    words = plots.histogram_panel(axis, curves())
    for patch in axis.patches:
        assert patch.get_data().baseline == 0  # the area ends on the axis
    labels = axis.get_legend_handles_labels()[1]
    assert labels[:2] == ["nontarget", "target"] and [label.split(":")[0] for label in labels[2:]] == [
        "EER", "minDCF 0.01", "minDCF 0.05"]
    assert all(label in words for label in labels[2:])


def test_bayes_thresholds_are_marked_on_llrs_only(axis):
    plots.histogram_panel(axis, curves(cllr=0.5))
    assert len(axis.get_legend_handles_labels()[1]) == 7 and axis.get_xlabel() == "score (LLR)"


def test_rejecting_all_is_in_the_legend_only(axis):
    c = curves()._replace(marks=[("EER", 0.5), ("minDCF 0.01", float("inf"))])
    plots.histogram_panel(axis, c)
    assert axis.get_legend_handles_labels()[1][-1] == "minDCF 0.01: reject all (not shown)"
    assert [len(line.get_xdata()) for line in axis.lines] == [2, 0]


def test_equal_scores_can_be_drawn(axis):
    same = curves(scores=np.zeros(800))
    assert plots.histogram_panel(axis, same) and plots.det_panel(axis, [same])


def test_bayes_error_actual_and_minimum(axis):
    plots.bayes_panel(axis, [curves(cllr=0.5)])
    actual, minimum = axis.lines
    assert (actual.get_linestyle(), minimum.get_linestyle()) == ("-", "--")
    assert (minimum.get_ydata() <= actual.get_ydata() + 1e-12).all()


def test_svg_is_small_and_has_its_text(axis):
    rng = np.random.default_rng(0)
    is_target = np.arange(100_000) < 20_000
    many = curves_of("x", {**ROW, "duration": "full"}, is_target, rng.normal(size=100_000) + 2 * is_target)
    plots.det_panel(axis, [many])
    text = plots.svg(axis.figure)
    assert len(text) < 40_000 and ">false alarm rate (%)<" in text


def test_durations_from_short_to_full_with_published_line_dashed(figures):
    lines = {"O": {"native": {"full": (1.0, None), "0.5": (9.0, None), "2": (3.0, None)},
                   "published": {"1": (4.0, None), "full": (1.5, None)}}}
    plots.plot_durations(lines, "durations")
    axis = figures["durations"].axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0.5 s", "1 s", "2 s", "full"]
    ours, published = axis.lines
    assert ours.get_xydata().tolist() == [[0, 9], [2, 3], [3, 1]] and ours.get_linestyle() == "-"
    assert published.get_xydata().tolist() == [[1, 4], [3, 1.5]] and published.get_linestyle() == "--"
    assert legend(axis) == ["native", "published"] and axis.get_ylabel() == "EER (%)"


def test_only_measured_durations_with_their_bands(axis):
    lines = {"a": {"full": (1.0, [0.5, 2.0]), "0.5": (4.0, [3.0, 5.0])}, "published": {"2": (3.0, None)}}
    words = plots.duration_panel(axis, lines, ["a"])
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0.5 s", "2 s", "full"]
    band, = axis.collections
    assert band.get_paths()[0].get_extents().get_points().tolist() == [[0, 0.5], [2, 5]]
    assert "a: 0.5 s 4, full 1" in words


def test_a_dozen_lines_differ_and_are_not_hidden(figures):
    plots.plot_durations({"O": {f"scoring {n}": {"full": (1.0, None), "1": (2.0 + n, None)} for n in range(12)}},
                         "durations")
    axis = figures["durations"].axes[0]
    assert len({(line.get_color(), line.get_marker()) for line in axis.lines}) == 12
    figures["durations"].draw_without_rendering()
    assert axis.get_legend().get_window_extent().x0 >= axis.get_window_extent().x1


def test_a_line_on_top_of_another_does_not_hide_it(figures):
    same = {"full": (1.0, None), "1": (2.0, None)}
    plots.plot_durations({"O": {"plda": same, "plda+cal": same}}, "durations")
    one, other = figures["durations"].axes[0].lines
    assert one.get_linestyle() != other.get_linestyle() and one.get_marker() != other.get_marker()
    assert one.get_fillstyle() == other.get_fillstyle() == "none"


def test_intervals_are_drawn_as_bands(figures):
    panels = {"test side cut": {"a": {"1": (5.0, (4.0, 6.5)), "full": (2.0, (1.0, 3.0))}, "b": {"full": (3.0, None)}}}
    plots.plot_durations(panels, "x.png", durations=["1", "2", "full"])
    axis = figures["x.png"].axes[0]
    assert [line.get_xydata().tolist() for line in axis.lines] == [[[0, 5], [2, 2]], [[2, 3]]]
    band, = axis.collections
    low, high = band.get_paths()[0].get_extents().get_points()
    assert (low.tolist(), high.tolist()) == ([0, 1], [2, 6.5])
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1 s", "2 s", "full"]


def test_training_leaves_out_what_was_not_measured(figures):
    nan = float("nan")
    table = {"epoch": np.array([1.0, 2, 3]), "loss": np.array([3.0, 2, 1]), "acc": np.array([0.1, 0.2, 0.3]),
             "lr": np.array([1e-3, 1e-4, 1e-5]), "eer_dev": np.array([nan, 20.0, 10.0])}
    plots.plot_training(table, "training")
    loss, accuracy, rate, validation = figures["training"].axes
    assert list(validation.lines[0].get_xdata()) == [2, 3]
    assert list(accuracy.lines[0].get_ydata()) == pytest.approx([10, 20, 30])
    assert rate.get_yscale() == "log" and loss.get_xlabel() == "epoch"


def test_training_in_words(axis):
    table = {"epoch": np.arange(1.0, 4), "lr": np.array([1e-3, 1e-4, 1e-5]), "eer_dev": np.full(3, np.nan)}
    assert "x ends at 1e-05" in plots.training_panel(axis, "lr", {"x": table})
    axis.figure.draw_without_rendering()
    assert {"1e\N{MINUS SIGN}05", "1e\N{MINUS SIGN}04", "1e\N{MINUS SIGN}03"} <= {
        tick.get_text() for tick in axis.get_yticklabels()}
    axis.clear()
    plots.training_panel(axis, "eer_dev", {"x": table})
    assert [text.get_text() for text in axis.texts] == ["not measured"]


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
    assert plot(root, exp).stderr == f"plot.py: {exp}/train.tsv:2: expected 5 columns, got 2\n"
    (exp / "train.tsv").write_text("epoch\tloss\tacc\tlr\n1\t2\t3\t4\n")
    assert plot(root, exp).stderr == f"plot.py: {exp}/train.tsv:1: has no column 'eer_dev'\n"
    (exp / "train.tsv").unlink()
    row = json.loads((exp / "scores" / "O.json").read_text()) | {"trials": "gone"}
    (exp / "scores" / "O.json").write_text(json.dumps({**row, "row_sha256": row_sha256(row)}))
    assert plot(root, exp).stderr == "plot.py: gone: no such file\n"
