#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a data directory of some utterances of each speaker of another one; the choice is deterministic.

  utils/subset_data_dir.py --per-spk 10 data/train exp/rawnext/cohort

Takes every k-th utterance of a speaker, like Kaldi's utils/subset_data_dir.sh --per-spk. Writes utt2spk, spk2utt,
wav.scp, and those of segments, reco2dur, utt2dur, utt2num_frames, spk2gender that DATA_DIR has.
"""

import argparse
import sys
from pathlib import Path

from data_tables import Faults, group_by_speaker, read_utt2spk, write_lines


def choose(utts: list[str], num: int) -> list[str]:
    """num of the utterances in equal steps, or all if there are fewer."""
    step = max(1, len(utts) // num)
    return utts[:num * step:step]


def copy_table(source: Path, out: Path, kept: set[str]) -> list[list[str]]:
    """Copy the lines whose key is in `kept`, if the table exists; returns their fields."""
    if not source.exists():
        out.unlink(missing_ok=True)
        return []
    lines = [line for line in source.read_text(encoding="utf-8").split("\n") if line and line.split()[0] in kept]
    write_lines(out, lines)
    return [line.split() for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-spk", type=int, required=True, metavar="N", help="maximum utterances per speaker")
    parser.add_argument("data_dir", type=Path, help="data directory to read")
    parser.add_argument("out_dir", type=Path, help="data directory to write")
    options = parser.parse_args()
    if options.per_spk < 1:
        parser.error("--per-spk must be at least 1")
    data, out, faults = options.data_dir, options.out_dir, Faults()
    if data.resolve() == out.resolve():
        parser.error("DATA_DIR and OUT_DIR are the same folder")
    spk2utt = group_by_speaker(read_utt2spk(data, faults))
    if not (data / "wav.scp").exists():
        faults.add(data / "wav.scp", None, "no such file")
    faults.exit_if_any()
    chosen = {spk: choose(utts, options.per_spk) for spk, utts in spk2utt.items()}
    utts = {utt for part in chosen.values() for utt in part}
    for name in ("utt2spk", "utt2dur", "utt2num_frames"):
        copy_table(data / name, out / name, utts)
    recordings = {fields[1] for fields in copy_table(data / "segments", out / "segments", utts)} or utts
    for name, kept in (("wav.scp", recordings), ("reco2dur", recordings), ("spk2gender", set(spk2utt))):
        copy_table(data / name, out / name, kept)
    write_lines(out / "spk2utt", (f"{spk} {' '.join(part)}" for spk, part in sorted(chosen.items())))
    print(f"subset_data_dir.py: {len(utts)} utterances of {len(chosen)} speakers in {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
