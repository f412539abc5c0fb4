# SPDX-License-Identifier: Apache-2.0
"""Kaldi's tables for the programs of this folder: read with all faults collected."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # also without path.sh: these modules need no package

from rawnext.errors import InputError, printable
from rawnext.files import UTT_TABLES, condition_tables, readable
from rawnext.kaldi.words import check_id

Row = tuple[int, list[str]]  # line number, fields
MAX_FAULTS = 10  # printed per file: an unsorted list of a million lines needs no million messages


class Faults:
    """Faults by file."""

    def __init__(self) -> None:
        self.found: dict[Path, list[str]] = {}

    def add(self, path: Path, line: int | None, why: str) -> None:
        self.found.setdefault(path, []).append(printable(f"{path}:{line}: {why}" if line else f"{path}: {why}"))

    def exit_if_any(self) -> None:
        for path, messages in self.found.items():
            print(*messages[:MAX_FAULTS], sep="\n", file=sys.stderr)
            if len(messages) > MAX_FAULTS:
                print(f"{printable(str(path))}: and {len(messages) - MAX_FAULTS} more faults", file=sys.stderr)
        if self.found:
            sys.exit(1)


def read_rows(path: Path, faults: Faults, num_fields: int = 0, is_list: bool = False, num_ids: int = 1) -> list[Row]:
    """Read the fields of each line of a table, which must be sorted by a unique first field.

    Args:
        num_fields: fields per line; 0: two or more. Malformed lines are reported and left out.
        num_ids: how many fields, from the first, are ids.
        is_list: a trial list: the first field may repeat, in any order, but one space separates fields (for `cut`).
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
            fields = _fields(raw, num_fields, num_ids, is_free=path.name == "text")
        except ValueError as why:
            faults.add(path, number, str(why))
            continue
        if rows and not is_list and fields[0] <= rows[-1][1][0]:
            how = "appears twice" if fields[0] == rows[-1][1][0] else "is not in order; sort with LC_ALL=C"
            faults.add(path, number, f"{fields[0]} {how}")
        if is_list and raw != b" ".join(raw.split()):
            faults.add(path, number, "fields must be separated by exactly one space")
        rows.append((number, fields))
    return rows


def _fields(raw: bytes, num_fields: int, num_ids: int, is_free: bool) -> list[str]:
    """The fields of a line; is_free: it may contain characters at which programs split differently."""
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
    for field in fields[:num_ids]:
        try:
            check_id(field, "")
        except InputError as error:
            raise ValueError(error.why) from None
    return fields


def read_text(path: Path) -> str:
    """A table in any order and with any line ends, without a byte order mark.   Raises: InputError: it is not text."""
    try:
        with readable(path):
            return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(path, error.object.count(b"\n", 0, error.start) + 1, "not UTF-8 text") from None


def read_utt2spk(folder: Path, faults: Faults) -> dict[str, str]:
    """utt -> spk of a data directory."""
    return {utt: spk for _, (utt, spk) in read_rows(folder / "utt2spk", faults, num_fields=2, num_ids=2)}


def read_places(folder: Path) -> dict[str, tuple[str, str, str, str]]:
    """utt -> path, start, end and channel by wav.scp and segments, whose faults are not reported."""
    def rows(name: str) -> list[list[str]]:
        path = folder / name
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
        return [line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2]

    wavs = {key: path.strip() for key, path in rows("wav.scp")}
    if not (folder / "segments").exists():
        return {utt: (path, "0", "-1", "0") for utt, path in wavs.items()}
    segments = ((utt, *[*place.split(), "0"][:4]) for utt, place in rows("segments") if len(place.split()) in (3, 4))
    return {utt: (wavs.get(recording, ""), start, end, channel) for utt, recording, start, end, channel in segments}


def misplaced(cut: dict, place: tuple[str, str, str, str]) -> str:
    """Which part of a cut of one file differs from the tables; empty: none, or a cut of other audio."""
    try:
        path, start, end, channel = place[0], float(place[1]), float(place[2]), int(place[3])
        (source,) = cut["recording"]["sources"]
        first, last, known = cut["start"], cut["start"] + cut["duration"], os.path.normpath(source["source"])
        same = known == os.path.normpath(path) if os.path.isabs(path) else Path(known).name == Path(path).name
        if not same:
            return f"the file {known}, wav.scp {path}"
        if abs(first - start) > 0.01 or (end >= 0 and not -0.51 < last - end < 0.01):
            return f"{first:g} to {last:g} s, segments {place[1]} {place[2]}"
        return f"channel {cut['channel']}, segments {channel}" if cut["channel"] != channel else ""
    except (KeyError, TypeError, ValueError):
        return ""


def check_cuts(folder: Path, utt2spk: Mapping[str, str], faults: Faults) -> None:
    """Training reads cuts.jsonl, if there is one, and all else the tables: both have the same utterances, speakers and
    audio."""
    path, known = folder / "cuts.jsonl", dict(utt2spk)
    if not path.exists():
        return
    places, again = read_places(folder), f"steps/make_cuts.py {folder} makes cuts.jsonl again"
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                cut = json.loads(line)
                utt, spk = cut["id"], cut["supervisions"][0]["speaker"]
            except (ValueError, KeyError, IndexError, TypeError, RecursionError):
                faults.add(path, number, "not a lhotse cut with a speaker")
                continue
            if (other := known.pop(utt, None)) != spk:
                where = f"utt2spk has {other}" if other else "it is not in utt2spk"
                faults.add(path, number, f"{utt} of {spk}: {where}; {again}")
            elif utt in places and (why := misplaced(cut, places[utt])):
                faults.add(path, number, f"{utt} has {why}; {again}")
    if missing := next(iter(known), None):
        faults.add(path, None, f"{missing} of utt2spk is missing; {again}")


def properties(*folders: Path) -> list[str]:
    """Names of the tables utt2X and spk2X that any of these data directories has besides UTT_TABLES and spk2utt; they
    need not have all utterances or speakers."""
    return sorted({path.name for folder in folders for path in condition_tables(folder)} - {*UTT_TABLES})


def group_by_speaker(utt2spk: Mapping[str, str]) -> dict[str, list[str]]:
    """spk -> its utts."""
    spk2utt: dict[str, list[str]] = {}
    for utt, spk in utt2spk.items():
        spk2utt.setdefault(spk, []).append(utt)
    return spk2utt


def read_models(path: Path, utts: Iterable[str], faults: Faults) -> dict[str, list[str]]:
    """model -> its enrollment utterances, from a table TRIALS.enroll with lines `model utt utt ...`."""
    models, utts = {}, set(utts)
    for number, (model, *names) in read_rows(path, faults):
        if unknown := next((name for name in names if name not in utts), None):
            faults.add(path, number, f"{unknown} is not in utt2spk")
        if len(set(names)) < len(names):
            faults.add(path, number, f"{model} has an utterance twice")
        if model in utts:
            faults.add(path, number, f"{model} is also an utterance")
        models[model] = names
    return models
