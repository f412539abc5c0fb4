# SPDX-License-Identifier: Apache-2.0
"""Tables read in blocks give the same result or the same error as read line by line."""

import os
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rawnext.errors import InputError
from rawnext.kaldi import tables
from rawnext.kaldi.tables import (
    OddFile,
    read_scored_trials,
    read_scores,
    read_table,
    read_trials,
    read_unlabelled,
    write_scores,
)

READ = {"trials": read_trials, "scores": read_scores, "table": read_table, "unlabelled": read_unlabelled}
GOOD = {"trials": "a-1 b target\nb ä-3 nontarget\na-1 ä-3 target\n", "scores": "a b 1\na c -2.5e-3\nb\tc +.5\n",
        "table": "a x\nb y/z\nä |\n", "unlabelled": "a b q\nc a -\n"}
ODD = ["", " ", "\t", "\n", "\r\n", "\r", "\0", "\x7f", "\x85", "\xa0", "\u2028", "\ufeff",
       "-", "..", "/", "'", "\"", "\\", "a",
       "1", "_", "nan", "1e999", "x" * 60, "ä" * 60, "x" * 201, "\u0661", "target"]


@contextmanager
def line_by_line():
    def odd(*_):
        raise OddFile

    read, tables.read_columns = tables.read_columns, odd
    try:
        yield
    finally:
        tables.read_columns = read


def outcome(read, path):
    try:
        found = read(path)
    except InputError as error:
        return str(error)
    return found if isinstance(found, dict) else [list(part) for part in found]


@settings(deadline=None, max_examples=100, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(sorted(READ)), block=st.sampled_from([1, 9, 1 << 22]))
def test_block_and_line_reading_agree_on_damaged_files(tmp_path, monkeypatch, data, kind, block):
    monkeypatch.setattr(tables, "BLOCK", block)
    text = GOOD[kind]
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(ODD)) + text[at + data.draw(st.integers(0, 3)):]
    (tmp_path / "t").write_bytes(text.encode() + data.draw(st.sampled_from([b"", b"\xff", b"a b target"])))
    by_blocks = outcome(READ[kind], tmp_path / "t")
    with line_by_line():
        assert outcome(READ[kind], tmp_path / "t") == by_blocks


WORDS = ["'a", "a'", "\"a", "a\\b", "../a", "a/..", "a..b", "/a", "-a", "-", "a", "1_0", "nan", "-inf", "1e999",
         "\u0661", "1.", "-.5e+3", "x" * 200, "x" * 201, "ä" * 100, "ä" * 101, "b\u00a0c", "b\x07c", "b c", "b  ",
         "target", "Target", "x\ny"]


@pytest.mark.parametrize("kind", sorted(READ))
def test_block_and_line_reading_agree_on_any_word_in_any_column(tmp_path, kind):
    for word in WORDS:
        for column in range(len(GOOD[kind].split("\n")[1].split())):
            lines = [line.split() for line in GOOD[kind].splitlines()]
            lines[1][column] = word
            (tmp_path / "t").write_text("".join(f"{' '.join(words)}\n" for words in lines))
            by_blocks = outcome(READ[kind], tmp_path / "t")
            with line_by_line():
                assert outcome(READ[kind], tmp_path / "t") == by_blocks, (word, column)


@pytest.mark.parametrize("kind", sorted(READ))
@pytest.mark.parametrize("block", [1, 9, 1 << 22])
def test_good_files_are_not_read_line_by_line(tmp_path, monkeypatch, kind, block):
    (tmp_path / "t").write_text(GOOD[kind].rstrip("\n"))
    with line_by_line():
        expected = outcome(READ[kind], tmp_path / "t")
    monkeypatch.setattr(tables, "read_lines", lambda path: pytest.fail("line by line"))
    monkeypatch.setattr(tables, "BLOCK", block)
    assert outcome(READ[kind], tmp_path / "t") == expected


def test_named_pipe_is_read(tmp_path):
    os.mkfifo(tmp_path / "p")
    writer = threading.Thread(target=(tmp_path / "p").write_text, args=(GOOD["trials"].replace(" ", "  "),))
    writer.start()
    assert read_trials(tmp_path / "p").enroll == ["a-1", "b", "a-1"]
    writer.join()


def test_long_word_among_short_ones_is_read_whole(tmp_path):
    lines = [*("a b 1" for _ in range(1000)), f"a {'b' * 200} 1"]
    (tmp_path / "t").write_text("\n".join(lines))
    assert read_scores(tmp_path / "t")[1] == ["b"] * 1000 + ["b" * 200]


def test_scores_written_in_blocks_equal_single_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LINES", 7)
    scores = np.random.default_rng(0).normal(size=50).astype(np.float32)
    enroll, test = [f"a%s{n}" for n in range(50)], [f"ä{n}" for n in range(50)]
    write_scores(tmp_path / "s", enroll, test, scores)
    assert (tmp_path / "s").read_text() == "".join(f"{e} {t} {s:.6f}\n" for e, t, s in zip(enroll, test, scores))
    write_scores(tmp_path / "s", [], [], [])
    assert (tmp_path / "s").read_text() == ""


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_scores_are_matched_to_trials_in_any_order(tmp_path, order):
    lines = ["a-1 b 1", "b ä-3 2", "a-1 ä-3 3"]
    (tmp_path / "t").write_text(GOOD["trials"])
    (tmp_path / "s").write_text("".join(f"{lines[n]}\n" for n in order))
    trials, scores = read_scored_trials(tmp_path / "s", tmp_path / "t")
    assert trials.is_target.tolist() == [True, False, True] and scores.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("lines", "why"), [
    (["a-1 b 1", "b ä-3 2"], "t:3: a-1 ä-3 has no score in .*s$"), (["a-1 b 1", "b ä-3 x"], "s:2: not a score"),
    (["a-1 b 1", "b ä-3 2", "a-1 ä-3 3", "b b 1"], "s:4: b b is not in"),
    (["a-1 b 1", "b ä-3 2", "a-1 ä-3 3", "a-1 b 4"], "s:4: a-1 b has two different scores"),
    (["a-1 b 1", "b ä-3 2", "b ä-3 2"], "t:3: a-1 ä-3 has no score"),
    (["a-1 b 1", "b b 2", "a-1 ä-3 3"], "t:2: b ä-3 has no score")])
def test_missing_surplus_and_contradictory_scores_are_refused(tmp_path, lines, why):
    (tmp_path / "t").write_text(GOOD["trials"])
    (tmp_path / "s").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(InputError, match=why):
        read_scored_trials(tmp_path / "s", tmp_path / "t")


def test_equal_ids_share_one_object(tmp_path):
    """So the ids of a long trial list take the memory of its utterances' ids only."""
    (tmp_path / "t").write_text("a-1 b-1 target\nb-1 a-1 target\n")
    trials = read_trials(tmp_path / "t")
    assert trials.enroll[0] is trials.test[1] and trials.test[0] is trials.enroll[1]
