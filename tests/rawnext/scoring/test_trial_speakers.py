# SPDX-License-Identifier: Apache-2.0
"""Speakers of both sides of trials: numbered in the order of names, errors with their line."""

import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.kaldi.tables import Trials, read_trials
from rawnext.scoring.trial_speakers import trial_speakers


@pytest.fixture
def speakers(tmp_path):
    """trial_speakers of a list of these lines."""
    write_lines(tmp_path / "utt2spk", ["a-1 a", "a-2 a", "b-1 b", "c-1 c", "d-1 d"])

    def find(*lines, **other):
        write_lines(tmp_path / "t", lines)
        tables = {"utt2spk": tmp_path / "utt2spk", "enroll_utt2spk": tmp_path / "utt2spk", **other}
        return trial_speakers(read_trials(tmp_path / "t"), tmp_path / "t", **tables)

    return find


def test_only_the_speakers_of_the_trials_are_numbered(speakers):
    assert speakers("d-1 a-1 nontarget", "a-2 a-1 target", "b-1 d-1 nontarget").tolist() == [[2, 0, 1], [0, 0, 2]]


def test_ids_may_be_plain_lists(speakers, tmp_path):
    speakers("a-1 a-2 target")
    trials = Trials(["c-1", "a-1"], ["a-1", "a-2"], np.array([False, True]))
    assert trial_speakers(trials, "t", tmp_path / "utt2spk", tmp_path / "utt2spk").tolist() == [[1, 0], [0, 0]]


def test_model_has_the_speaker_of_its_utterances(speakers, tmp_path):
    write_lines(tmp_path / "t.enroll", ["m a-1 a-2", "n b-1"])
    assert speakers("m a-1 target", "n a-1 nontarget").tolist() == [[0, 1], [0, 0]]
    write_lines(tmp_path / "t.enroll", ["m a-1 b-1"])
    with pytest.raises(InputError, match=r"t.enroll:1: m has two speakers"):
        speakers("m a-1 target")


def test_each_side_may_have_its_own_utt2spk(speakers, tmp_path):
    write_lines(tmp_path / "other", ["e-1 b"])
    found = speakers("e-1 a-1 nontarget", "e-1 b-1 target", enroll_utt2spk=tmp_path / "other")
    assert found.tolist() == [[1, 1], [0, 1]]
    with pytest.raises(InputError, match="t:2: a-1 is not in .*other"):
        speakers("e-1 a-1 nontarget", "a-1 a-1 target", enroll_utt2spk=tmp_path / "other")


@pytest.mark.parametrize(("line", "why"), [
    ("a-1 b-1 target", "t:2: a target trial of a and b"), ("a-1 a-2 nontarget", "t:2: a nontarget trial within a"),
    ("x a-2 nontarget", "t:2: x is not in .*utt2spk"), ("a-1 x target", "t:2: x is not in .*utt2spk")])
def test_contradictory_labels_and_unknown_utts_are_refused(speakers, line, why):
    with pytest.raises(InputError, match=why):
        speakers("a-1 a-2 target", line, "a-1 c-1 target")
