# SPDX-License-Identifier: Apache-2.0
"""RTTM files: what is written is read again; other lines are skipped or one line of error."""

import pytest

from rawnext.errors import InputError
from rawnext.kaldi.rttm import Turn, read_rttm, write_rttm


def test_what_is_written_is_read(tmp_path):
    turns = [Turn("a", 0.0, 1.25, "s1"), Turn("b", 0.5, 2.0, "s2"), Turn("a", 1.5, 3.0, "s2")]
    write_rttm(tmp_path / "x.rttm", turns)
    assert (tmp_path / "x.rttm").read_text().splitlines()[0] == "SPEAKER a 1 0.000 1.250 <NA> <NA> s1 <NA> <NA>"
    assert read_rttm(tmp_path / "x.rttm") == {"a": [turns[0], turns[2]], "b": [turns[1]]}


@pytest.mark.parametrize(("line", "why"), [
    ("SPEAKER a 1 0 1 <NA>", ":2: expected `SPEAKER"), ("a b c", ":2: expected `SPEAKER"),
    ("SPEAKER a 1 -1 1 <NA> <NA> s <NA> <NA>", ":2: want start and duration"),
    ("SPEAKER a 1 0 nan <NA> <NA> s <NA> <NA>", ":2: want start and duration")])
def test_other_lines(tmp_path, line, why):
    path = tmp_path / "x.rttm"
    path.write_text(f";; a comment\n{line}\n")
    with pytest.raises(InputError, match=why):
        read_rttm(path)
    path.write_text("SPKR-INFO a 1 <NA> <NA> <NA> unknown s <NA>\n")
    with pytest.raises(InputError, match="has no line of type SPEAKER"):
        read_rttm(path)
    path.write_text("SPEAKER a 1 0 1 <NA> <NA> s <NA>\nSPKR-INFO a 1 <NA> <NA> <NA> unknown s <NA>\n")
    assert read_rttm(path) == {"a": [Turn("a", 0, 1, "s")]}
