# SPDX-License-Identifier: Apache-2.0
"""RTTM files, which list who speaks when: `SPEAKER RECORDING CHANNEL START DURATION <NA> <NA> SPEAKER <NA> <NA>`."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from rawnext.errors import InputError
from rawnext.files import PathLike, read_lines, write_lines
from rawnext.kaldi.words import check_id, to_number

FORM = "SPEAKER RECORDING CHANNEL START DURATION <NA> <NA> SPEAKER <NA> <NA>"
OTHERS = {"SPKR-INFO", "NON-SPEECH", "NOSCORE", "NOEVAL", "LEXEME", "NON-LEX", "SU", "A/P", "CB", "EDIT", "FILLER",
          "IP", "SEGMENT"}


class Turn(NamedTuple):
    """A speaker's turn in a recording.   start, end: seconds."""

    recording: str
    start: float
    end: float
    speaker: str

    def line(self) -> str:
        return (f"SPEAKER {self.recording} 1 {self.start:.3f} {self.end - self.start:.3f} <NA> <NA> {self.speaker} "
                "<NA> <NA>")


def read_rttm(path: PathLike) -> dict[str, list[Turn]]:
    """The turns of each recording; lines of other types than SPEAKER are skipped.

    Raises: InputError: a line has another form, or no line has a turn.
    """
    found: dict[str, list[Turn]] = {}
    for number, line in read_lines(path):
        words = line.split()
        if words[0] in OTHERS or words[0].startswith(";;"):
            continue
        if words[0] != "SPEAKER" or len(words) not in (9, 10):
            raise InputError(path, number, f"expected `{FORM}`")
        start, duration = map(to_number, words[3:5])
        if not (0 <= start < math.inf and 0 <= duration < math.inf):
            raise InputError(path, number, f"want start and duration of 0 or more, got {' '.join(words[3:5])[:60]}")
        turn = Turn(words[1], start, start + duration, check_id(words[7], path, number))
        found.setdefault(turn.recording, []).append(turn)
    if not found:
        raise InputError(path, None, "has no line of type SPEAKER")
    return found


def write_rttm(path: PathLike, turns: Iterable[Turn]) -> None:
    write_lines(path, (turn.line() for turn in turns))
