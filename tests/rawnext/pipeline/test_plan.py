# SPDX-License-Identifier: Apache-2.0
"""The rows of a plan, and what becomes of a plan that its user edited."""

import pytest

from rawnext.errors import InputError
from rawnext.pipeline.plan import HEADER, make_plan, read_plan, settle_plan

OPTIONS = {"protocols": "native", "evals": "d/test:trials", "cut": "", "durations": "", "backends": "cosine",
           "calibrate": "all", "dev": ""}


def plan(**changes):
    return make_plan(**{**OPTIONS, **changes})


@pytest.fixture
def dev(tmp_path):
    """A data directory of held-out speakers."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/trials").touch()
    return str(tmp_path / "dev")


def test_protocols_lists_durations_and_back_ends():
    rows = plan(protocols="paper native", evals="d/o:trials_O d/e:trials_E:d/enroll", durations="5 2.5",
                backends="cosine plda")
    assert [(row.protocol, row.name, row.backend) for row in rows[:4]] == [
        ("paper", "o/trials_O_paper", "cosine"), ("paper", "o/trials_O_paper", "plda"),
        ("paper", "o/trials_O_paper_5s", "cosine"), ("paper", "o/trials_O_paper_5s", "plda")]
    assert [row.name for row in rows if row.backend == "plda" and row.protocol == "native"] == [
        "o/trials_O_native", "o/trials_O_native_5s", "o/trials_O_native_2.5s", "e/trials_E_native"]
    last = rows[-1]
    assert (last.role, last.enroll, last.enroll_seconds, last.test, last.test_seconds, last.trials) == (
        "eval", "d/enroll", "full", "d/e", "full", "d/e/trials_E")
    assert len(rows) == 2 * (3 + 1) * 2


def test_cut_names_the_lists_that_are_cut():
    rows = plan(evals="d/a:x d/b:x d/c:x:d/a", cut="d/b:x d/c:x:d/a", durations="1")
    assert [row.name for row in rows] == ["a/x_native", "b/x_native", "b/x_native_1s", "c/x_native", "c/x_native_1s"]


def test_either_side_or_both_are_cut():
    rows = plan(durations="2", sides="test enroll both")
    assert [(row.name, row.enroll_seconds, row.test_seconds, row.duration, row.cut_side) for row in rows] == [
        ("test/trials_native", "full", "full", "full", "test side"),
        ("test/trials_native_2s", "full", "2", "2", "test side"),
        ("test/trials_native_full_2s", "2", "full", "2", "enroll side"),
        ("test/trials_native_2s_2s", "2", "2", "2", "both sides")]
    cut = plan(durations="2", sides="enroll", cut_data="cuts", calibrate="cosine")
    assert [(row.role, row.enroll, row.test, row.backend) for row in cut[2:]] == [
        ("eval", "cuts/2s", "d/test", "cosine"), ("eval", "cuts/2s", "d/test", "cosine+cal")]


def test_calibration_needs_the_held_out_trials_at_all_durations_of_both_sides(dev):
    rows = plan(backends="cosine plda", durations="2", dev=dev)
    assert [row.backend for row in rows if row.name == "test/trials_native_2s"] == [
        "cosine", "plda", "cosine+cal", "plda+cal"]
    held_out = [row for row in rows if row.role == "calibration"]
    assert [(row.enroll_seconds, row.test_seconds, row.name, row.backend) for row in held_out[::2]] == [
        ("full", "full", "dev/trials_native", "cosine"), ("full", "2", "dev/trials_native_2s", "cosine"),
        ("2", "2", "dev/trials_native_2s_2s", "cosine")]
    assert {row.backend for row in held_out} == {"cosine", "plda"} and {row.enroll for row in held_out} == {dev}
    some = plan(backends="cosine plda", calibrate="plda", dev=dev)
    assert [row.backend for row in some] == ["cosine", "plda", "plda+cal", "plda"]
    assert {row.role for row in plan(calibrate="", dev=dev)} == {"eval"}
    assert {row.role for row in plan(dev="nowhere")} == {"eval"}


def test_the_held_out_trials_are_not_calibrated(dev):
    rows = plan(evals=f"{dev}:trials", dev=dev)
    assert [(row.role, row.backend) for row in rows] == [("eval", "cosine"), ("calibration", "cosine")]
    assert rows[0].name == rows[1].name


@pytest.mark.parametrize(("changes", "why"), [
    ({"backends": "plda asnrom"}, "--backends: unknown asnrom; did you mean 'asnorm'?"),
    ({"sides": "left"}, "--sides: unknown left"),
    ({"protocols": "papers"}, "--protocols: unknown papers; did you mean 'paper'?"),
    ({"durations": "2 x"}, "--durations: want seconds, got 'x'"), ({"durations": "0"}, "got '0'"),
    ({"evals": "d/test"}, "--eval: want TEST_DIR:TRIALS[:ENROLL_DIR], got 'd/test'"),
    ({"calibrate": "lda", "dev": "nowhere"}, "--calibrate: lda is not one of --backends"),
    ({"calibrate": "cosine", "dev": "nowhere"}, "--calibrate: no such file nowhere/trials"),
    ({"evals": "a/test:x b/test:x"}, "--eval: a/test/x and b/test/x would both be scored to test/x_native"),
    ({"evals": "a/test:x b/test:y"}, "--eval: the embeddings of b/test would be in the folders of a/test; give it"),
    ({"evals": "a/test:x:b/test"}, "--eval: the embeddings of a/test would be in the folders of b/test; give it"),
    ({"evals": "a/cohort:x"}, "--eval: the embeddings of a/cohort would be in the folders of the cohort; give it")])
def test_mistakes(changes, why):
    with pytest.raises(InputError) as error:
        plan(**changes)
    assert why in str(error.value)


def test_the_file_has_a_header_and_a_row_for_each_score_file(tmp_path):
    rows = plan(durations="2", backends="cosine siamese")
    assert "4 score files" in settle_plan(tmp_path, rows)
    lines = (tmp_path / "plan.tsv").read_text().splitlines()
    assert lines[0] == HEADER == "role\tprotocol\tenroll\tenroll_seconds\ttest\ttest_seconds\ttrials\tbackend\tname"
    assert lines[3] == "eval\tnative\td/test\tfull\td/test\t2\td/test/trials\tcosine\ttest/trials_native_2s"
    assert read_plan(tmp_path / "plan.tsv") == rows


def test_a_plan_that_was_not_edited_follows_the_options(tmp_path):
    settle_plan(tmp_path, plan())
    assert "written again" not in settle_plan(tmp_path, plan())
    assert "written again for other options" in settle_plan(tmp_path, plan(durations="2"))
    assert len(read_plan(tmp_path / "plan.tsv")) == 2


def test_an_edited_plan_is_kept_while_the_options_stay(tmp_path):
    settle_plan(tmp_path, plan(durations="5 2"))
    path = tmp_path / "plan.tsv"
    edited = path.read_text().splitlines(keepends=True)
    path.write_text("".join(edited[:2]))
    for _ in range(2):
        assert "edited, kept: 1 rows where the options give 3" in settle_plan(tmp_path, plan(durations="5 2"))
        assert len(read_plan(path)) == 1
    with pytest.raises(InputError, match="was edited, and the options ask for another plan"):
        settle_plan(tmp_path, plan(durations="5"))
    assert path.read_text() == "".join(edited[:2])
    path.unlink()
    settle_plan(tmp_path, plan(durations="5"))
    assert len(read_plan(path)) == 2


def test_a_plan_that_the_user_wrote_is_not_replaced(tmp_path):
    (tmp_path / "plan.tsv").write_text(f"{HEADER}\n")
    with pytest.raises(InputError, match="was edited"):
        settle_plan(tmp_path, plan())


def test_a_kill_between_the_two_files_is_repaired(tmp_path):
    settle_plan(tmp_path, plan(durations="2"))
    (tmp_path / "made/plan.tsv").unlink()
    settle_plan(tmp_path, plan(durations="2"))
    assert "written again" in settle_plan(tmp_path, plan())


@pytest.mark.parametrize(("column", "value", "why"), [
    (0, "evals", "unknown role evals; did you mean 'eval'?"), (1, "x", "unknown protocol x"),
    (3, "2s", "want full or seconds, got '2s'"), (7, "cosines", "unknown backend cosines; did you mean 'cosine'?"),
    (8, "a\tb", "expected 9 columns, got 10")])
def test_faults_in_an_edited_plan_name_the_line(tmp_path, column, value, why):
    cells = list(plan()[0])
    cells[column] = value
    (tmp_path / "plan.tsv").write_text(f"{HEADER}\n" + "\t".join(cells) + "\n")
    with pytest.raises(InputError) as error:
        read_plan(tmp_path / "plan.tsv")
    assert str(error.value).startswith(f"{tmp_path}/plan.tsv:2: ") and why in str(error.value)


def test_another_table_is_no_plan(tmp_path):
    (tmp_path / "plan.tsv").write_text("a\tb\n")
    with pytest.raises(InputError, match="expected the header line"):
        read_plan(tmp_path / "plan.tsv")
