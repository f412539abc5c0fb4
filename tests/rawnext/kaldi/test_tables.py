# SPDX-License-Identifier: Apache-2.0
"""Tables, trials, scores and ids: valid ones are read and written, others refused with file and line."""

import errno
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawnext.errors import InputError
from rawnext.files import atomic_path, write_lines
from rawnext.kaldi.tables import (
    check_id,
    check_sorted,
    read_enroll_map,
    read_scores,
    read_table,
    read_trials,
    write_scores,
)


@pytest.mark.parametrize(("text", "line", "why"), [
    (b"", None, "is empty"), (b"a 1\nb\n", 2, "expected 2 columns, got 1"), (b"a 1\na 2\n", 2, "a is listed twice"),
    (b"a 1\r\nb 2\r\n", 1, "CRLF"), (b"a 1\n\nb 2\n", 2, "empty line"), (b"a 1\nb \xff\n", None, "UTF-8")])
def test_invalid_tables_are_refused_with_their_line(tmp_path, text, line, why):
    path = tmp_path / "t"
    path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        read_table(path)
    assert why in str(caught.value) and (line is None or f"{path}:{line}: " in str(caught.value))


def test_missing_table_is_reported(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none")


def test_values_keep_their_spaces_unless_one_word_is_required(tmp_path):
    (tmp_path / "wav.scp").write_text("a /x y.wav\nb /z.wav\n")
    assert read_table(tmp_path / "wav.scp") == {"a": "/x y.wav", "b": "/z.wav"}
    with pytest.raises(InputError, match=":1: expected 2 columns, got 3"):
        read_table(tmp_path / "wav.scp", one_word=True)


@pytest.mark.parametrize(("line", "why"), [("a b", "expected 3 columns"), ("a b c d", "got 4"), ("a b tgt", "'tgt'")])
def test_invalid_trials_are_refused_with_their_line(tmp_path, line, why):
    (tmp_path / "trials").write_text(f"a b target\n{line}\n")
    with pytest.raises(InputError, match="trials:2: .*" + why):
        read_trials(tmp_path / "trials")


@pytest.mark.parametrize(("line", "form"), [
    ("1 id1/x/1.wav id2/y/2.wav", "VoxCeleb's format?"), ("a b 1", "labels 1 and 0?"), ("enroll,test,label", "CSV?"),
    ("a;b;1;2 3", "CSV?"), ("a b\tx\tc", "CSV?"), ("a b", ""), ("a b maybe", "")])
def test_error_for_a_foreign_trial_list_names_the_converter(tmp_path, line, form):
    (tmp_path / "trials").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"trials:1: expected ") as caught:
        read_trials(tmp_path / "trials")
    assert (f"({form} local/convert_trials.py" in str(caught.value)) == bool(form)


def test_enroll_map_is_read(tmp_path):
    path = tmp_path / "trials.enroll"
    path.write_text("a-m1 a-1 a-2\nb-m1 b-1\n")
    assert read_enroll_map(path) == {"a-m1": ["a-1", "a-2"], "b-m1": ["b-1"]}


@pytest.mark.parametrize(("line", "why"), [
    ("m", "expected 2 columns"), ("a-m1 b-1", "is listed twice"), ("m a-1 a-2 a-1", "m has an utterance twice"),
    ("m a-1 ../b", "cannot be an id"), ("-m a-1", "cannot be an id")])
def test_invalid_enroll_maps_are_refused_with_their_line(tmp_path, line, why):
    (tmp_path / "map").write_text(f"a-m1 a-1\n{line}\n")
    with pytest.raises(InputError, match=f"map:2: .*{why}"):
        read_enroll_map(tmp_path / "map")


@pytest.mark.parametrize("bad", ["nan", "inf", "x"])
def test_invalid_scores_are_refused_with_their_line(tmp_path, bad):
    (tmp_path / "s").write_text(f"a b {bad}\n")
    with pytest.raises(InputError, match=":1: not a score"):
        read_scores(tmp_path / "s")


def test_written_scores_are_read_back(tmp_path):
    write_scores(tmp_path / "s", ["a", "b"], ["c", "d"], [0.25, -1])
    enroll, test, scores = read_scores(tmp_path / "s")
    assert (enroll, test, scores.tolist()) == (["a", "b"], ["c", "d"], [0.25, -1])


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), unique=True))
def test_sort_order_is_by_bytes(keys):
    ordered = sorted(keys, key=str.encode)
    check_sorted("t", ordered)
    if len(ordered) > 1:
        with pytest.raises(InputError):
            check_sorted("t", ordered[::-1])


@pytest.mark.parametrize("bad", ["", "a b", "a\tb", "../x", "a/../b", "/a", "-a", "a\"b", "a'b", "a\\b", "x" * 201,
                                 "a\x07"])
def test_invalid_ids_are_refused(bad):
    with pytest.raises(InputError):
        check_id(bad, "t", 1)


@pytest.mark.parametrize("good", ["id00012-_raOc3-IRsw-00110", "a/b", "ä", "a..b", "x" * 200])
def test_valid_ids_are_accepted(good):
    assert check_id(good, "t") == good


def test_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        write_lines(tmp_path / "f" / "g" / "x", ["a"])


def test_full_disk_is_one_line_and_keeps_the_last_good_file(tmp_path):
    write_lines(tmp_path / "x", ["good"])
    code = ("import resource, sys; from rawnext.errors import *; from rawnext.files import *\n"
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
            "run_main(lambda: write_lines(sys.argv[1], ['x' * 99] * 999))")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "good\n"


def test_atomic_path_passes_on_errors_of_other_files(tmp_path):
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "x"):
        raise OSError(errno.EACCES, "Permission denied", "/elsewhere")
    assert caught.type is PermissionError


def test_input_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(InputError("p", 3, "why")))
    assert str(error) == "p:3: why"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_not_written(tmp_path, bad):
    with pytest.raises(InputError, match=f"scores: not written: the score of a c is {bad}"):
        write_scores(tmp_path / "scores", ["a", "a"], ["b", "c"], [1.0, bad])
    assert not (tmp_path / "scores").exists()
