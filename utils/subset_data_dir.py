#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Take some utterances of each speaker of a data directory, always the same ones: a Kaldi data directory of them.

  utils/subset_data_dir.py --per-spk 10 data/train exp/rawnext/cohort

Takes every k-th utterance of a speaker, as Kaldi's utils/subset_data_dir.sh --per-spk. Writes utt2spk, spk2utt, and of
wav.scp, segments, reco2dur, utt2dur, utt2num_frames, spk2gender those that are there.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from validate_data_dir import Faults, read_rows

UTT_TABLES = ("utt2spk", "utt2dur", "utt2num_frames", "segments")


def choose(utts: list[str], num: int) -> list[str]:
    """num of the utterances, in equal steps; all of them if there are fewer."""
    step = max(1, len(utts) // num)
    return utts[:num * step:step]


def write(path: Path, lines: Iterable[str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        os.replace(temporary, path)
    except OSError as error:
        sys.exit(f"{path}: cannot be written: {error.strerror}")
    finally:
        temporary.unlink(missing_ok=True)


def copy_table(source: Path, out: Path, kept: set[str]) -> list[list[str]]:
    """Copy the lines whose key is kept, if there is such a table; returns their fields."""
    if not source.exists():
        out.unlink(missing_ok=True)
        return []
    lines = [line for line in source.read_text(encoding="utf-8").split("\n") if line and line.split()[0] in kept]
    write(out, lines)
    return [line.split() for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-spk", type=int, required=True, metavar="N", help="utterances of each speaker, at most")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    options = parser.parse_args()
    if options.per_spk < 1:
        parser.error("--per-spk must be at least 1")
    data, out, faults = options.data_dir, options.out_dir, Faults()
    if data.resolve() == out.resolve():
        parser.error("the two folders are the same")
    spk2utt: dict[str, list[str]] = {}
    for _, (utt, spk) in read_rows(data / "utt2spk", faults, num_fields=2, num_ids=2):
        spk2utt.setdefault(spk, []).append(utt)
    if not (data / "wav.scp").exists():
        faults.add(data / "wav.scp", None, "no such file")
    faults.exit_if_any()
    chosen = {spk: choose(utts, options.per_spk) for spk, utts in spk2utt.items()}
    utts = {utt for part in chosen.values() for utt in part}
    tables = {name: copy_table(data / name, out / name, utts) for name in UTT_TABLES}
    recordings = {fields[1] for fields in tables["segments"]} or utts
    for name, kept in (("wav.scp", recordings), ("reco2dur", recordings), ("spk2gender", set(spk2utt))):
        copy_table(data / name, out / name, kept)
    write(out / "spk2utt", (f"{spk} {' '.join(part)}" for spk, part in sorted(chosen.items())))
    print(f"subset_data_dir.py: {len(utts)} utterances of {len(chosen)} speakers in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
