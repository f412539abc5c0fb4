# SPDX-License-Identifier: Apache-2.0
"""Trial lists in the forms that people have: `1|0 file file` as VoxCeleb's, `enroll test target|nontarget`, CSV."""

import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rawnext.errors import InputError
from rawnext.files import read_lines
from rawnext.kaldi.csv_table import Columns, read_csv
from rawnext.kaldi.tables import Trials

LABELS = {"1": True, "target": True, "0": False, "nontarget": False}
COLUMNS: Columns = {"enroll": (r"enrol|left|^(path|wav|file|audio|utt)[_ ]?[1a]?$", None),
                    "test": (r"test|right|other|^(path|wav|file|audio|utt)[_ ]?[2b]$", None),
                    "label": (r"label|target|same|^key$", None)}


class NamedTrials(NamedTuple):
    """Trials whose utterances are named as their list does. enroll, test: (N,) places of their names among `lines`,
    which has the line of each where it stands first."""

    path: Path
    enroll: array
    test: array
    is_target: np.ndarray
    lines: dict[str, int]

    def renamed(self, utts: Mapping[str, str], where: str, enroll_utts: Mapping[str, str] | None = None) -> Trials:
        """The trials by utt ids.

        Args: utts: name -> utt.   enroll_utts: of the enroll side, if others.   where: what has no name that lacks.
        Raises: InputError: a name that is not there.
        """
        def ids(side: array, known: Mapping[str, str]) -> list[str]:
            used = set(side)
            for place, (name, line) in enumerate(self.lines.items()):
                if place in used and name not in known:
                    raise InputError(self.path, line, f"{name} is not in {where}")
            names = [known.get(name, "") for name in self.lines]
            return [names[place] for place in side]

        return Trials(ids(self.enroll, utts if enroll_utts is None else enroll_utts), ids(self.test, utts),
                      self.is_target)


def read_trial_list(path: Path, columns: str = "", target_is_0: bool = False) -> NamedTrials:
    """Read a list in any of these forms; which one it is, the first line shows.

    Args: columns: enroll,test,label of a CSV by their names or numbers from 1; empty: found.
          target_is_0: 0 stands for the same speaker and 1 for another.
    Raises: InputError: no such form, or a line that is not in that of the first.
    """
    enroll, test, labels, lines = array("L"), array("L"), array("b"), dict[str, int]()
    places: dict[str, int] = {}
    for number, (left, right, label) in csv_rows(path, columns) if is_csv(path) else word_rows(path):
        if (kind := LABELS.get(label.lower())) is None:
            raise InputError(path, number, f"expected a label 1, 0, target or nontarget, got {label[:60]!r}")
        for side, name in ((enroll, left), (test, right)):
            side.append(places.setdefault(name, len(places)))
            lines.setdefault(name, number)
        labels.append(kind != (target_is_0 and label in ("0", "1")))
    if not labels:
        raise InputError(path, None, "is empty")
    return NamedTrials(path, enroll, test, np.frombuffer(labels, dtype=bool), lines)


def is_csv(path: Path) -> bool:
    """Whether the first line has cells, and is not three words with a label first or last."""
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            line = file.readline()
    except OSError as error:
        raise InputError(path, None, f"cannot be read: {error.strerror}") from None
    words = line.split()
    labelled = len(words) == 3 and bool(LABELS.keys() & {words[0], words[2]}) and words[0][-1] not in ",;"
    return not labelled and len(re.split("[,;\t]", line)) > 2


def csv_rows(path: Path, columns: str) -> Iterator[tuple[int, list[str]]]:
    return read_csv(path, COLUMNS, columns)


def word_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, [enroll, test, label]) of lines with the label last, or first."""
    form, last = "", True
    for number, line in read_lines(path):
        words = line.split()
        if not form:
            last = len(words) == 3 and words[2] in LABELS
            form = "ENROLL TEST target|nontarget" if last else "1|0 ENROLL TEST"
        if len(words) != 3 or words[2 if last else 0] not in LABELS:
            raise InputError(path, number, f"expected `{form}`")
        yield number, words if last else [*words[1:], words[0]]
