#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check that a data directory keeps Kaldi's rules for speaker verification (no text, no features needed).

  utils/validate_data_dir.py data/dev

Wanted: utt2spk, spk2utt, wav.scp. Checked if there: segments, reco2dur, spk2gender, utt2dur, utt2num_frames, utt2lang,
utt2uniq, utt2session, vad.scp, feats.scp, text, and all lists trials* or trials/*, with their models in trials*.enroll.
Each fault is one line `path:line: why` (at most 10 a file); exit code 1 if there is any.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

Row = tuple[int, list[str]]  # line number, fields
ID_LIMIT = 200  # bytes; rawnext/kaldi/tables.py has the same rule, tests/fuzz/test_ids.py compares them
BAD_ID = re.compile(r"[\s\"'\\]|(?:^|/)\.\.(?:/|$)|^/|^-")
NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
MAX_FAULTS = 10  # printed of one file: an unsorted list of a million lines needs no million messages


class Faults:
    """What is wrong, file by file."""

    def __init__(self) -> None:
        self.found: dict[Path, list[str]] = {}

    def add(self, path: Path, line: int | None, why: str) -> None:
        place = f"{path}:{line}" if line else f"{path}"
        self.found.setdefault(path, []).append(f"{place}: {why}")

    def exit_if_any(self) -> None:
        for path, messages in self.found.items():
            print(*messages[:MAX_FAULTS], sep="\n", file=sys.stderr)
            if len(messages) > MAX_FAULTS:
                print(f"{path}: and {len(messages) - MAX_FAULTS} more faults", file=sys.stderr)
        if self.found:
            sys.exit(1)


def is_id(text: str) -> bool:
    """Whether Kaldi's tables and file names can carry an utt or spk id."""
    return text.isprintable() and not BAD_ID.search(text) and 1 <= len(text.encode()) <= ID_LIMIT


def read_rows(path: Path, faults: Faults, num_fields: int = 0, is_list: bool = False, num_ids: int = 1) -> list[Row]:
    """The fields of each line of a table, which must be sorted by a first field that stands once.

    Args:
        num_fields: how many fields a line has; 0: two or more. A line that breaks this is reported and left out.
        num_ids: how many of them, from the first, are ids.
        is_list: trials: the first field may repeat, in any order, but one space stands between fields (cut reads it).
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        faults.add(path, None, "no such file" if isinstance(error, FileNotFoundError) else str(error.strerror))
        return []
    if lines[-1]:
        faults.add(path, len(lines), "the last line does not end in a newline")
    else:
        lines.pop()
    if not lines:
        faults.add(path, None, "is empty")
    rows: list[Row] = []
    for number, raw in enumerate(lines, 1):
        try:
            fields = _fields(raw, num_fields, is_free=path.name == "text")
            _check_ids(fields[:num_ids])
        except ValueError as why:
            faults.add(path, number, str(why))
            continue
        if rows and not is_list and fields[0] <= rows[-1][1][0]:
            how = "stands twice" if fields[0] == rows[-1][1][0] else "is not in order; sort with LC_ALL=C"
            faults.add(path, number, f"{fields[0]} {how}")
        if is_list and raw != b" ".join(raw.split()):
            faults.add(path, number, "fields must be separated by exactly one space")
        rows.append((number, fields))
    return rows


def _check_ids(fields: list[str]) -> None:
    for field in fields:
        if not is_id(field):
            raise ValueError(f"{field[:60]!r} cannot be an id: 1-{ID_LIMIT} bytes, printable, without spaces, quotes, "
                             "backslashes or '..', not starting with '/' or '-'")


def _fields(raw: bytes, num_fields: int, is_free: bool) -> list[str]:
    """The fields of a line; one that is_free may hold characters that programs split at differently, behind its key."""
    try:
        line = raw.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    if "\r" in line:
        raise ValueError("carriage return (Windows line end?); convert the file with dos2unix")
    if odd := None if is_free else next((c for c in line.replace("\t", "") if not c.isprintable()), None):
        raise ValueError(f"control character or unusual space (U+{ord(odd):04X})")
    fields = line.split()
    if not fields:
        raise ValueError("empty line")
    if len(fields) != num_fields and (num_fields or len(fields) < 2):
        raise ValueError(f"expected {num_fields or 'at least 2'} fields, got {len(fields)}")
    return fields


def keys(rows: list[Row]) -> list[str]:
    return [fields[0] for _, fields in rows]


def check_keys(path: Path, rows: list[Row], wanted: Iterable[str], source: str, faults: Faults) -> None:
    """A table has exactly the keys that its source has; one without any line was reported when it was read."""
    if not rows:
        return
    missing = dict.fromkeys(wanted)
    known = set(missing)
    for number, fields in rows:
        missing.pop(fields[0], None)
        if fields[0] not in known:
            faults.add(path, number, f"{fields[0]} is not in {source}")
    for key in missing:
        faults.add(path, None, f"{key} of {source} is missing")


def to_number(text: str) -> float:
    """A number as every program reads it, NaN for anything else (Python alone also reads 1_000)."""
    return float(text) if NUMBER.fullmatch(text) else math.nan


def positive(text: str) -> bool:
    return 0 < to_number(text) < math.inf


# table -> what its second field must be; None: anything
UTT_TABLES: dict[str, tuple[Callable[[str], bool], str] | None] = {
    "utt2dur": (positive, "a number of seconds > 0"),
    "utt2num_frames": (lambda text: bool(re.fullmatch(r"0*[1-9][0-9]*", text, re.ASCII)), "a whole number > 0"),
    "utt2lang": None, "utt2uniq": None, "utt2session": None, "vad.scp": None, "feats.scp": None, "text": None,
}


def check_values(path: Path, rows: list[Row], rule: tuple[Callable[[str], bool], str], faults: Faults) -> None:
    for number, fields in rows:
        if not rule[0](fields[1]):
            faults.add(path, number, f"expected {rule[1]}, got {fields[1]!r}")


def check_speakers(folder: Path, utt2spk: list[Row], faults: Faults) -> None:
    """utt2spk sorted by speaker too; spk2utt its exact inverse; spk2gender knows the same speakers."""
    spk2utt: dict[str, list[str]] = {}
    previous = ("", "")
    for number, (utt, spk) in utt2spk:
        if spk < previous[0] and utt > previous[1]:  # else read_rows said that it is not in order
            faults.add(folder / "utt2spk", number, f"{utt} {spk} is not in the order of speakers (sort -k2); let "
                                                   "utterance ids start with their speaker's")
        previous = (spk, utt)
        spk2utt.setdefault(spk, []).append(utt)
    path = folder / "spk2utt"
    rows = read_rows(path, faults)
    check_keys(path, rows, spk2utt, "utt2spk", faults)
    for number, (spk, *utts) in rows:
        if spk in spk2utt and utts != spk2utt[spk]:
            differing = sorted(set(utts) ^ set(spk2utt[spk]))
            why = f"{differing[0]} is in one of them only" if differing else "another order"
            faults.add(path, number, f"{spk} has other utterances than in utt2spk: {why}")
    if (path := folder / "spk2gender").exists():
        rows = read_rows(path, faults, num_fields=2)
        check_keys(path, rows, spk2utt, "utt2spk", faults)
        check_values(path, rows, (lambda text: text in ("m", "f"), "m or f"), faults)


def check_audio(folder: Path, utts: list[str], faults: Faults) -> None:
    """wav.scp, indexed by utterance, or by recording if there are segments."""
    recos, source = utts, "utt2spk"
    if (path := folder / "segments").exists():
        segments = read_rows(path, faults, num_fields=4, num_ids=2)
        check_keys(path, segments, utts, "utt2spk", faults)
        recos, source = [fields[1] for _, fields in segments], "segments"
        for number, (_, _, start, end) in segments:
            if not 0 <= to_number(start) < to_number(end) < math.inf:
                faults.add(path, number, f"expected 0 <= start < end in seconds, got {start} {end}")
    wav = read_rows(folder / "wav.scp", faults)
    check_keys(folder / "wav.scp", wav, recos, source, faults)
    for number, fields in wav:
        if fields[1].startswith("~"):
            faults.add(folder / "wav.scp", number, f"{fields[1]}: only a shell knows ~; write the path out")
    if (path := folder / "reco2dur").exists():
        rows = read_rows(path, faults, num_fields=2)
        check_keys(path, rows, keys(wav), "wav.scp", faults)
        check_values(path, rows, (positive, "a number of seconds > 0"), faults)


def read_models(path: Path, utts: set[str], faults: Faults) -> dict[str, list[str]]:
    """The table TRIALS.enroll, `model utt utt ...`: what is enrolled in place of utterances."""
    models = {}
    for number, (model, *names) in read_rows(path, faults):
        if unknown := next((name for name in names if name not in utts), None):
            faults.add(path, number, f"{unknown} is not in utt2spk")
        if len(set(names)) < len(names):
            faults.add(path, number, f"{model} has an utterance twice")
        if model in utts:
            faults.add(path, number, f"{model} is an utterance too")
        models[model] = names
    return models


def check_trials(path: Path, utts: set[str], spks: set[str], faults: Faults) -> None:
    """A list, and beside it the table of its models if it has one; else an enrollment can be a speaker."""
    enroll_ids, where, table = spks | utts, "utt2spk", path.with_name(f"{path.name}.enroll")
    if table.exists():
        enroll_ids, where = set(read_models(table, utts, faults)), table.name
    for number, (enroll, test, kind) in read_rows(path, faults, num_fields=3, is_list=True, num_ids=2):
        if kind not in ("target", "nontarget"):
            faults.add(path, number, f"expected target or nontarget, got {kind!r}")
        if enroll not in enroll_ids:
            faults.add(path, number, f"{enroll} is not in {where}")
        if test not in utts:
            faults.add(path, number, f"{test} is not in utt2spk")


def validate(folder: Path) -> Faults:
    """All faults of a data directory."""
    faults = Faults()
    if not folder.is_dir():
        faults.add(folder, None, "no such folder")
        return faults
    utt2spk = read_rows(folder / "utt2spk", faults, num_fields=2, num_ids=2)
    if not utt2spk:  # everything else would only repeat that
        return faults
    utts = keys(utt2spk)
    check_speakers(folder, utt2spk, faults)
    check_audio(folder, utts, faults)
    for name, rule in UTT_TABLES.items():
        if (path := folder / name).exists():
            rows = read_rows(path, faults, num_fields=2 if rule else 0)
            check_keys(path, rows, utts, "utt2spk", faults)
            if rule:
                check_values(path, rows, rule, faults)
    spks = {spk for _, (_, spk) in utt2spk}
    for path in sorted([*folder.glob("trials*"), *folder.glob("trials*/[!.]*")]):
        if path.is_file() and path.suffix != ".enroll":
            check_trials(path, set(utts), spks, faults)
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    folder = parser.parse_args().data_dir
    validate(folder).exit_if_any()
    print(f"Successfully validated data-directory {folder}")


if __name__ == "__main__":
    main()
