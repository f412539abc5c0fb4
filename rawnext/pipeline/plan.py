# SPDX-License-Identifier: Apache-2.0
"""EXP/plan.tsv: a row for each score file of an experiment. Stages 4 to 9 do what its rows need.

A user may delete rows. EXP/made/plan.tsv is the plan as it was last written, to recognise such an edit.
"""

import itertools
import os
import shlex
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rawnext.errors import InputError
from rawnext.files import read_lines, write_lines
from rawnext.registry import nearest

FROM_EMBEDDINGS = ("cosine", "siamese")  # back ends that need no training speakers
FROM_COHORT = ("cosine_mean", "lda", "plda", "snorm", "asnorm", "asnorm_speakers", "asnorm_matched")  # those that do
BACKENDS = (*FROM_EMBEDDINGS, *FROM_COHORT)
PROTOCOLS = ("paper", "native")
ROLES = ("eval", "calibration")
SIDES = ("test", "enroll", "both")
COHORT = "cohort"  # folder in an experiment: its cohort's data directory


class Row(NamedTuple):
    """One score file, EXP/scores/BACKEND/NAME.

    role: `eval` (in the results) or `calibration` (held-out trials, on which calibrations are fitted).
    enroll, test: data directories of the two sides.   enroll_seconds, test_seconds: `full`, or the seconds they are cut
    to.   trials: the list's file.   backend: one of BACKENDS, or BACKEND+cal for its calibrated scores.
    """

    role: str
    protocol: str
    enroll: str
    enroll_seconds: str
    test: str
    test_seconds: str
    trials: str
    backend: str
    name: str

    @property
    def uncalibrated(self) -> str:
        return self.backend.removesuffix("+cal")

    @property
    def is_calibrated(self) -> bool:
        return self.backend.endswith("+cal")

    @property
    def duration(self) -> str:
        """`full`, or the seconds that one side or both are cut to."""
        return self.enroll_seconds if self.test_seconds == "full" else self.test_seconds

    @property
    def cut_side(self) -> str:
        """Which side is cut, if any: `test side`, `enroll side` or `both sides`."""
        if self.enroll_seconds == "full":
            return "test side"
        return "enroll side" if self.test_seconds == "full" else "both sides"


HEADER = "\t".join(Row._fields)


def tag(protocol: str, seconds: str, enroll_seconds: str = "full") -> str:
    """The end of a file or folder name: `native`, `native_2s`, `native_2s_2s`, `native_full_2s`."""
    cuts = [seconds, enroll_seconds]
    while cuts and cuts[-1] == "full":
        cuts.pop()
    return "_".join([protocol, *(cut if cut == "full" else f"{cut}s" for cut in cuts)])


def trial_rows(role: str, protocol: str, list_of: str, test_seconds: str, enroll_seconds: str,
               backends: Iterable[str], cut_data: str = "") -> Iterator[Row]:
    """A row for each back end. list_of: TEST_DIR:TRIALS[:ENROLL_DIR].   cut_data: see make_plan."""
    test, trials, enroll = split_list(list_of)
    name = f"{Path(test).name}/{trials}_{tag(protocol, test_seconds, enroll_seconds)}"
    sides = [data if seconds == "full" or not cut_data else f"{cut_data}/{seconds}s"
             for data, seconds in ((enroll, enroll_seconds), (test, test_seconds))]
    for backend in backends:
        yield Row(role, protocol, sides[0], enroll_seconds, sides[1], test_seconds, f"{test}/{trials}", backend, name)


def split_list(text: str) -> tuple[str, str, str]:
    """TEST_DIR:TRIALS[:ENROLL_DIR] -> test directory, name of the list, enroll directory (default: the test side's)."""
    test, _, rest = text.partition(":")
    trials, _, enroll = rest.partition(":")
    if not test or not trials or "/" in trials:
        raise InputError("--eval", None, f"want TEST_DIR:TRIALS[:ENROLL_DIR], got {text!r}")
    return test.rstrip("/"), trials, enroll.rstrip("/") or test.rstrip("/")


def make_plan(protocols: str, evals: str, cut: str, durations: str, backends: str, calibrate: str, dev: str,
              sides: str = "test", cut_data: str = "") -> list[Row]:
    """The rows that the options of steps/verification.sh ask for.

    Args:
        evals: lists TEST_DIR:TRIALS[:ENROLL_DIR], separated by spaces, as all of these; quoted as in a shell.
        cut: those of them that are also cut to the durations (seconds); empty: the first.   calibrate: `all`, or some
        of the back ends.
        dev: data directory of the held-out trials; may be empty.   sides: some of SIDES.
        cut_data: folder of steps/cut_data_dir.py with the utterances cut to the durations; empty: extraction cuts them.
        With it, `calibrate` applies the calibrations that the experiment has.
    Raises: InputError: an unknown word, a duration that is not a number, --calibrate without held-out trials, or two
        lists whose scores would be in one file.
    """
    lists, names = words_of("--eval", evals), backends.split()
    check_words("--backends", names, BACKENDS)
    check_words("--protocols", protocols.split(), PROTOCOLS)
    check_words("--sides", sides.split(), SIDES)
    seconds = ["full", *durations.split()]
    for text in seconds[1:]:
        if not is_duration(text):
            raise InputError("--durations", None, f"want seconds, got {text!r}")
    held_out = f"{dev.rstrip('/')}/trials"
    if calibrate == "all":
        calibrate = backends if dev and Path(held_out).is_file() else ""
    for name in calibrate.split():
        if name not in names:
            raise InputError("--calibrate", None, f"{name} is not one of --backends")
        if not cut_data and not Path(held_out).is_file():
            raise InputError("--calibrate", None, f"no such file {held_out}")
    with_durations = words_of("--cut", cut) or lists[:1]
    calibrated = [f"{name}+cal" for name in calibrate.split()]
    rows: list[Row] = []
    for protocol, list_of in itertools.product(protocols.split(), lists):
        test, trials, _ = split_list(list_of)
        # A calibration would look too good on the trials that it was fitted on.
        scored = names if f"{test}/{trials}" == held_out else [*names, *calibrated]
        cells = ((cut_to if side != "enroll" else "full", cut_to if side != "test" else "full")
                 for cut_to in (seconds if list_of in with_durations else seconds[:1]) for side in sides.split())
        for cell in dict.fromkeys(cells):
            rows += trial_rows("eval", protocol, list_of, *cell, scored, cut_data)
    for protocol, cut_to in itertools.product(protocols.split() if calibrated and not cut_data else (), seconds):
        for enroll_seconds in dict.fromkeys(("full", cut_to)):
            rows += trial_rows("calibration", protocol, f"{dev}:trials", cut_to, enroll_seconds, calibrate.split())
    check_names("--eval", rows)
    return rows


def check_words(option: str, words: Iterable[str], known: Iterable[str]) -> None:
    for word in words:
        if word not in known:
            raise InputError(option, None, f"unknown {word}{nearest(word, known)}")


def words_of(option: str, text: str) -> list[str]:
    """The words of a list of data directories; those with spaces are in quotes, as in a shell."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(option, None, f"{text}: {error}") from None


def is_duration(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def check_names(path: str | Path, rows: Collection[Row]) -> None:
    """Raise InputError if two different trial lists have their scores in one file, or two data directories their
    embeddings in one folder."""
    seen: dict[tuple[str, str], Row] = {}
    for row in rows:
        other = seen.setdefault((row.backend, row.name), row)
        if other[1:] != row[1:]:
            raise InputError(path, None, f"{other.trials} and {row.trials} would both be scored to {row.name}")
    check_folders(path, (side for row in rows for side in (row.enroll, row.test)))


def check_folders(path: str | Path, dirs: Iterable[str]) -> None:
    """Raise InputError if the embeddings of two of these data directories would be in one folder."""
    folders: dict[str, str] = {}
    for data in dirs:
        first = folders.setdefault(name := os.path.basename(data), data)
        if name == COHORT or os.path.realpath(first) != os.path.realpath(data):
            raise InputError(path, None, f"the embeddings of {data} would be in the folders of "
                                         f"{'the cohort' if name == COHORT else first}; give it another name, for "
                                         "example by a link")


def read_plan(path: Path) -> list[Row]:
    """The rows of a plan.

    Raises: InputError: another header, a line with another number of columns, or a cell that cannot be.
    """
    lines = list(read_lines(path))
    if not lines or lines[0][1] != HEADER:
        raise InputError(path, 1, f"expected the header line {HEADER!r}")
    rows = []
    for number, line in lines[1:]:
        cells = line.split("\t")
        if len(cells) != len(Row._fields):
            raise InputError(path, number, f"expected {len(Row._fields)} columns, got {len(cells)}")
        row = Row(*cells)
        for column, value, known in (("role", row.role, ROLES), ("protocol", row.protocol, PROTOCOLS),
                                     ("backend", row.uncalibrated, BACKENDS)):
            if value not in known:
                raise InputError(path, number, f"unknown {column} {value}{nearest(value, known)}")
        for text in (row.enroll_seconds, row.test_seconds):
            if text != "full" and not is_duration(text):
                raise InputError(path, number, f"want full or seconds, got {text!r}")
        rows.append(row)
    check_names(path, rows)
    return rows


def settle_plan(exp: Path, rows: list[Row]) -> str:
    """Write EXP/plan.tsv, unless it is there as the user edited it.

    A plan that was not edited follows the options. An edited one is kept while the options stay as
    they were when it was written.
    Returns: a message.   Raises: InputError: it was edited, and the options ask for another plan.
    """
    path, written = exp / "plan.tsv", exp / "made" / "plan.tsv"
    wanted = [HEADER, *map("\t".join, rows)]
    now, then = ([line for _, line in read_lines(file)] if file.exists() else None for file in (path, written))
    if now is not None and now not in (wanted, then):
        if then != wanted:
            raise InputError(path, None, "was edited, and the options ask for another plan than the one that it was "
                                         "made from; delete it to have it written again, or give the former options")
        return (f"{path}: edited, kept: {len(read_plan(path))} rows where the options give {len(rows)}; delete it for "
                "those")
    changed = "; written again for other options" if now not in (None, wanted) else ""
    if now != wanted:
        write_lines(path, wanted)
    if then != wanted:
        write_lines(written, wanted)
    return f"{path}: {len(rows)} score files{changed}"
