#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check that a data directory follows Kaldi's rules for speaker verification (needs no transcripts or features).

  utils/validate_data_dir.py data/dev
  utils/validate_data_dir.py --enroll data/sitw_eval_enroll data/sitw_eval_test

Required: utt2spk, spk2utt, wav.scp. Checked if present: segments, reco2dur, spk2gender, utt2dur, utt2num_frames,
utt2lang, utt2uniq, utt2session, vad.scp, feats.scp, text, cuts.jsonl, all trial lists trials* or trials/* with their
models in trials*.enroll, and the ids of other tables utt2X and spk2X. Each fault is one line `path:line: why` (at most
10 per file); the exit code is 1 if there are any.
"""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from data_tables import Faults, Row, check_cuts, group_by_speaker, properties, read_models, read_rows, read_utt2spk

from rawnext.errors import ArgumentParser, run_main
from rawnext.kaldi.words import refusal, to_number

Rule = tuple[Callable[[str], bool], str]  # whether a table's second field is valid; what it should be


SECONDS: Rule = (lambda text: 0 < to_number(text) < math.inf, "a number of seconds > 0")
GENDER: Rule = (lambda text: text in ("m", "f"), "m or f")
UTT_TABLES: dict[str, Rule | None] = {
    "utt2dur": SECONDS,
    "utt2num_frames": (lambda text: bool(re.fullmatch(r"0*[1-9][0-9]*", text, re.ASCII)), "a whole number > 0"),
    "utt2lang": None, "utt2uniq": None, "utt2session": None, "vad.scp": None, "feats.scp": None, "text": None,
}


def check_table(path: Path, wanted: Iterable[str], source: str, faults: Faults, rule: Rule | None = None,
                num_ids: int = 1) -> list[Row]:
    """Read a table, which must have exactly the keys `wanted` of the table `source`, and values by the rule."""
    rows = read_rows(path, faults, 2 if rule else 0, num_ids=num_ids)
    missing = dict.fromkeys(wanted if rows else ())  # a table without lines has already been reported
    known = set(missing)
    for number, fields in rows:
        missing.pop(fields[0], None)
        if fields[0] not in known:
            faults.add(path, number, f"{fields[0]} is not in {source}")
        if rule and not rule[0](fields[1]):
            faults.add(path, number, f"expected {rule[1]}, got {fields[1]!r}")
    for key in missing:
        faults.add(path, None, f"{key} of {source} is missing")
    return rows


def check_speakers(folder: Path, utt2spk: list[Row], faults: Faults) -> None:
    """utt2spk is also sorted by speaker, spk2utt is its inverse, and spk2gender has the same speakers."""
    previous = ("", "")
    for number, (utt, spk) in utt2spk:
        if spk < previous[0] and utt > previous[1]:  # else read_rows has reported the order
            faults.add(folder / "utt2spk", number, f"{utt} {spk} is not in the order of speakers (sort -k2); start "
                                                   "utterance ids with their speaker id")
        previous = (spk, utt)
    spk2utt, path = group_by_speaker({utt: spk for _, (utt, spk) in utt2spk}), folder / "spk2utt"
    for number, (spk, *utts) in check_table(path, spk2utt, "utt2spk", faults):
        if utts != spk2utt.get(spk, utts):
            differing = sorted(set(utts) ^ set(spk2utt[spk]))
            why = f"{differing[0]} is in only one of them" if differing else "another order"
            faults.add(path, number, f"{spk} has other utterances than in utt2spk: {why}")
    if (path := folder / "spk2gender").exists():
        check_table(path, spk2utt, "utt2spk", faults, GENDER)


def check_audio(folder: Path, utts: list[str], faults: Faults) -> None:
    """wav.scp is indexed by utterance, or by recording if there are segments."""
    recos, source = utts, "utt2spk"
    if (path := folder / "segments").exists():
        segments = check_table(path, utts, "utt2spk", faults, num_ids=2)
        recos, source = [fields[1] for _, fields in segments], "segments"
        for number, (_, _, *place) in segments:
            if len(place) not in (2, 3):
                faults.add(path, number, f"expected 4 fields, or 5 with a channel, got {2 + len(place)}")
            elif not (0 <= to_number(place[0]) < math.inf and (to_number(place[1]) == -1 or to_number(place[0])
                                                              < to_number(place[1]) < math.inf)):
                faults.add(path, number, f"expected 0 <= start < end in seconds or -1, got {' '.join(place[:2])}")
            elif len(place) == 3 and not re.fullmatch("[0-9]{1,3}", place[2]):
                faults.add(path, number, f"expected a channel of 0 or more, got {place[2]!r}")
    wav = check_table(folder / "wav.scp", recos, source, faults)
    for number, fields in wav:
        if why := refusal(fields[1], allow_pipes=True):
            faults.add(folder / "wav.scp", number, f"{fields[0]} {why}")
    if (path := folder / "reco2dur").exists():
        check_table(path, (fields[0] for _, fields in wav), "wav.scp", faults, SECONDS)


def check_trials(path: Path, utts: set[str], enroll_utt2spk: dict[str, str], faults: Faults) -> None:
    """A trial list, and the table of its models if it has one; without it, an enrollment may also be a speaker."""
    table = path.with_name(f"{path.name}.enroll")
    enroll_ids, where = {*enroll_utt2spk, *enroll_utt2spk.values()}, "utt2spk"
    if table.exists():
        enroll_ids, where = set(read_models(table, enroll_utt2spk, faults)), table.name
    for number, (enroll, test, kind) in read_rows(path, faults, num_fields=3, is_list=True, num_ids=2):
        if kind not in ("target", "nontarget"):
            faults.add(path, number, f"expected target or nontarget, got {kind!r}")
        if enroll not in enroll_ids:
            faults.add(path, number, f"{enroll} is not in {where}")
        if test not in utts:
            faults.add(path, number, f"{test} is not in utt2spk")


def validate(folder: Path, enroll: Iterable[Path] = ()) -> Faults:
    """Collect all faults of a data directory.   enroll: those of the enroll side of its trials, if elsewhere."""
    faults = Faults()
    if not folder.is_dir():
        faults.add(folder, None, "no such folder")
        return faults
    utt2spk = read_rows(folder / "utt2spk", faults, num_fields=2, num_ids=2)
    if not utt2spk:  # every other check would only repeat that
        return faults
    speaker = {utt: spk for _, (utt, spk) in utt2spk}
    utts = [fields[0] for _, fields in utt2spk]
    check_speakers(folder, utt2spk, faults)
    check_audio(folder, utts, faults)
    check_cuts(folder, speaker, faults)
    for name, rule in UTT_TABLES.items():
        if (path := folder / name).exists():
            check_table(path, utts, "utt2spk", faults, rule)
    sides = [read_utt2spk(place, faults) for place in enroll] or [speaker]
    enroll_utt2spk = {utt: spk for side in sides for utt, spk in side.items()}
    for name in properties(folder):
        known = set(speaker.values()) if name.startswith("spk2") else speaker.keys()
        rows = [] if name == "spk2gender" else read_rows(folder / name, faults)
        for number, (key, *_) in rows:
            if key not in known:
                faults.add(folder / name, number, f"{key} is not in utt2spk")
    for path in sorted([*folder.glob("trials*"), *folder.glob("trials*/[!.]*")]):
        if path.is_file() and path.suffix != ".enroll":
            check_trials(path, set(utts), enroll_utt2spk, faults)
    return faults


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path, help="data directory to check")
    parser.add_argument("--enroll", type=Path, action="append", default=[], metavar="DIR",
                        help="data directory of the enroll side of its trial lists (default: itself)")
    options = parser.parse_args()
    validate(options.data_dir, options.enroll).exit_if_any()
    print(f"Successfully validated data-directory {options.data_dir}")


if __name__ == "__main__":
    run_main(main)
