# SPDX-License-Identifier: Apache-2.0
"""Trial lists and score files of other programs: `1|0 file file` as for VoxCeleb, CSV, scores without names."""

import os
import re
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike, read_lines, readable
from rawnext.kaldi.csv_table import Columns, read_csv
from rawnext.kaldi.tables import Trials, read_scored_trials, read_trials
from rawnext.kaldi.words import check_id, to_number

LABELS = {"1": True, "target": True, "tgt": True, "0": False, "nontarget": False, "imp": False}
COLUMNS: Columns = {"enroll": (r"enrol|left|^(path|wav|file|audio|utt)[_ ]?[1a]?$", None),
                    "test": (r"test|right|other|^(path|wav|file|audio|utt)[_ ]?[2b]$", None),
                    "label": (r"label|target|same|^key$", None)}


class NamedTrials(NamedTuple):
    """Trials with the utterance names of their list.

    enroll, test: (N,) indices of names in `lines`, which maps each name to the first line that has it.
    """

    path: Path
    enroll: array
    test: array
    is_target: np.ndarray
    lines: dict[str, int]

    @property
    def test_lines(self) -> dict[str, int]:
        """Each name of the test side -> the first line that has it."""
        used = set(self.test)
        return {name: line for index, (name, line) in enumerate(self.lines.items()) if index in used}

    def renamed(self, utts: Mapping[str, str], where: str, enroll_utts: Mapping[str, str] | None = None) -> Trials:
        """The trials by utt ids.

        Args: utts: name -> utt.   enroll_utts: the same for the enroll side, if different.   where: source of `utts`,
            for the message.
        Raises: InputError: a name without an utt.
        """
        def ids(side: array, known: Mapping[str, str]) -> list[str]:
            used = set(side)
            for index, (name, line) in enumerate(self.lines.items()):
                if index in used and name not in known:
                    raise InputError(self.path, line, f"{name} is not in {where}")
            names = [known.get(name, "") for name in self.lines]
            return [names[index] for index in side]

        return Trials(ids(self.enroll, utts if enroll_utts is None else enroll_utts), ids(self.test, utts),
                      self.is_target)


def read_trial_list(path: Path, columns: str = "", target_is_0: bool = False) -> NamedTrials:
    """Read a list in any of these formats; the first line decides which one.

    Args: columns: enroll,test,label of a CSV by names or numbers (from 1); empty: found by their names.
          target_is_0: label 0 means the same speaker and 1 different speakers.
    Raises: InputError: an unknown format, or a line that differs from the format of the first.
    """
    enroll, test, labels, lines = array("L"), array("L"), array("b"), dict[str, int]()
    index_of: dict[str, int] = {}
    rows = read_csv(path, COLUMNS, columns, "--columns") if is_csv(path) else word_rows(path)
    for number, (left, right, label) in rows:
        if (kind := LABELS.get(label.lower())) is None:
            raise InputError(path, number, f"expected a label {', '.join(LABELS)}, got {label[:60]!r}")
        for side, name in ((enroll, left), (test, right)):
            side.append(index_of.setdefault(name, len(index_of)))
            lines.setdefault(name, number)
        labels.append(kind != (target_is_0 and label in ("0", "1")))
    if not labels:
        raise InputError(path, None, "is empty")
    return NamedTrials(path, enroll, test, np.frombuffer(labels, dtype=bool), lines)


def is_csv(path: Path) -> bool:
    """Whether the first line has cells and is not three words with a label first or last."""
    with readable(path), open(path, encoding="utf-8-sig", errors="replace") as file:
        line = file.readline()
    words = line.split()
    labelled = len(words) == 3 and bool(LABELS.keys() & {words[0], words[2]}) and words[0][-1] not in ",;"
    return not labelled and len(re.split("[,;\t]", line)) > 2


def word_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, [enroll, test, label]) of lines with the label either last or first."""
    form, last = "", True
    for number, line in read_lines(path):
        words = line.split()
        if not form:
            last = len(words) == 3 and words[2] in LABELS
            form = "ENROLL TEST target|nontarget" if last else "1|0 ENROLL TEST"
        if len(words) != 3 or words[2 if last else 0] not in LABELS:
            raise InputError(path, number, f"expected `{form}`")
        yield number, words if last else [*words[1:], words[0]]


def read_any_trials(path: PathLike) -> Trials:
    """A trial list in Kaldi's format or, if it is a file, in any of read_trial_list; names are taken as utt ids.

    Raises: InputError: see read_trial_list.
    """
    try:
        return read_trials(path)
    except InputError:
        if not os.path.isfile(path):
            raise
    named = read_trial_list(Path(path))
    for name, line in named.lines.items():
        check_id(name, path, line)
    return named.renamed({name: name for name in named.lines}, "")


def num_columns(path: PathLike) -> int:
    """The number of words in the first line of a file; 0: not a regular file, or empty."""
    if not os.path.isfile(path):  # a pipe cannot be read twice
        return 0
    with readable(path):
        return len(next(read_lines(path), (0, ""))[1].split())


def read_any_pairs(path: PathLike) -> tuple[list[str], list[str]]:
    """(N enroll ids, N test ids) of a trial list as in read_any_trials, or of lines `enroll test`."""
    if num_columns(path) != 2:
        return read_any_trials(path)[:2]
    enroll, test = list[str](), list[str]()
    for number, line in read_lines(path):
        words = line.split()
        if len(words) != 2:
            raise InputError(path, number, f"expected 2 columns, got {len(words)}")
        for side, word in zip((enroll, test), words):
            side.append(check_id(word, path, number))
    return enroll, test


def read_any_scores(path: PathLike, trials_path: PathLike | None) -> tuple[Trials | None, np.ndarray, np.ndarray]:
    """The trial list (None without one), (N,) bool is_target and (N,) scores of a score file.

    Its lines are `enroll test score` in any order, or `score` in the order of the list; without a list, `score label`,
    the label as in LABELS (the input of Kaldi's compute-eer).
    Raises: InputError: a line of another form, or a trial without a score.
    """
    if trials_path is None:
        rows = [_numbered(path, number, line, 2) for number, line in read_lines(path)]
        if wrong := [number for number, words in rows if words[1] not in LABELS]:
            raise InputError(path, wrong[0], f"expected `score label`, the label one of {', '.join(LABELS)}")
        return None, np.array([LABELS[words[1]] for _, words in rows], bool), np.array([float(w[0]) for _, w in rows])
    trials = read_any_trials(trials_path)
    if num_columns(path) != 1:
        return trials, trials.is_target, read_scored_trials(path, trials_path, trials)[1]
    scores = np.array([float(_numbered(path, number, line, 1)[1][0]) for number, line in read_lines(path)])
    if len(scores) != len(trials.is_target):
        raise InputError(path, None, f"has {len(scores):,} scores, but {os.fspath(trials_path)} has "
                                     f"{len(trials.is_target):,} trials")
    return trials, trials.is_target, scores


def _numbered(path: PathLike, number: int, line: str, columns: int) -> tuple[int, list[str]]:
    """(line number, words) of a line that begins with a score; InputError if it has another form."""
    words = line.split()
    if len(words) != columns:
        hint = "; with `enroll test score`, name the trial list too" if columns == 2 else ""
        raise InputError(path, number, f"expected {columns} column{'s' * (columns > 1)}, got {len(words)}{hint}")
    if not np.isfinite(to_number(words[0])):
        raise InputError(path, number, f"not a score: {words[0][:60]!r}")
    return number, words
