# SPDX-License-Identifier: Apache-2.0
"""The diarization error rate: values computed by hand, and a count of frames by another way."""

import runpy
import sys
from itertools import permutations

import numpy as np
import pytest

from rawnext.kaldi.rttm import Turn, write_rttm
from rawnext.scoring.der import diarization_errors


def turns(text):
    """`A 0 10  B 8 12` as turns."""
    words = text.split()
    return [Turn("r", float(words[i + 1]), float(words[i + 2]), words[i]) for i in range(0, len(words), 3)]


@pytest.mark.parametrize(("reference", "hypothesis", "options", "errors"), [
    ("A 0 10", "x 0 10", {}, (10, 0, 0, 0)),
    ("A 0 10", "", {}, (10, 10, 0, 0)),
    ("A 0 10", "x 2 12", {}, (10, 2, 2, 0)),
    ("A 0 10 B 10 16", "x 0 16", {}, (16, 0, 0, 6)),
    ("A 0 10 B 10 16", "x 0 8 y 8 16", {}, (16, 0, 0, 2)),
    ("A 0 10 B 8 12", "x 0 10 y 10 12", {}, (14, 2, 0, 0)),  # overlap of 2 s, found for one speaker
    ("A 0 10 B 8 12", "x 0 10 y 10 12", {"ignore_overlap": True}, (10, 0, 0, 0)),
    ("A 0 10", "x 0 10 y 4 6", {}, (10, 0, 2, 0)),  # an invented speaker
    ("A 0 4 B 4 8 A 8 9", "x 0 4 y 4 9", {}, (9, 0, 0, 1)),
    ("A 0 10", "x 0.2 10.3", {"collar": 0.25}, (9.5, 0, 0.05, 0)),
    ("A 0 10 B 10 20", "x 0 10.2 y 10.2 20", {"collar": 0.25}, (19, 0, 0, 0)),
    ("A 0 5 A 3 10", "x 0 10", {}, (10, 0, 0, 0)),  # turns of one speaker that overlap count once
    ("", "x 0 3", {}, (0, 0, 3, 0)),
])
def test_hand_computed(reference, hypothesis, options, errors):
    found = diarization_errors(turns(reference), turns(hypothesis), **options)
    assert found == pytest.approx(errors)


def by_frames(reference, hypothesis, num):
    """Errors by frames of 0.1 s and all mappings of three to three speakers."""
    def active(those):
        found = np.zeros((3, num), bool)
        for turn in those:
            found["ABCxyz".index(turn.speaker) % 3, round(10 * turn.start):round(10 * turn.end)] = True
        return found

    spoken, heard = active(reference), active(hypothesis)
    right = max(sum((spoken[i] & heard[j]).sum() for i, j in enumerate(order)) for order in permutations(range(3)))
    one, other = spoken.sum(0), heard.sum(0)
    return [value / 10 for value in (one.sum(), np.maximum(one - other, 0).sum(), np.maximum(other - one, 0).sum(),
                                     np.minimum(one, other).sum() - right)]


def test_random_turns_agree_with_a_count_of_frames():
    rng = np.random.default_rng(0)
    for _ in range(20):
        sides = []
        for names in ("ABC", "xyz"):
            start = rng.integers(0, 80, 8)
            sides.append([Turn("r", s / 10, (s + n) / 10, rng.choice(list(names)))
                          for s, n in zip(start, rng.integers(1, 30, 8))])
        assert diarization_errors(*sides) == pytest.approx(by_frames(*sides, 120))


def test_the_total_is_weighted_by_speech(root, tmp_path, monkeypatch, capsys):
    write_rttm(tmp_path / "ref", [Turn("r1", 0, 10, "a"), Turn("r2", 0, 30, "a")])
    write_rttm(tmp_path / "hyp", [Turn("r1", 1, 10, "x"), Turn("r2", 0, 33, "x")])
    monkeypatch.setattr(sys, "argv", ["der.py", str(tmp_path / "ref"), str(tmp_path / "hyp")])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(root / "steps/der.py"), run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "r1 10.00 10.00 0.00 0.00 10.0", "r2 10.00 0.00 10.00 0.00 30.0", "TOTAL 10.00 2.50 7.50 0.00 40.0"]
