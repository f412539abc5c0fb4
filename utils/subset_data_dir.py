#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a data directory of some utterances of another one; the choice is deterministic.

  utils/subset_data_dir.py --per-spk 10 data/train exp/rawnext/cohort
  utils/subset_data_dir.py --utt-list good_utts data/train data/train_good

--per-spk and --speakers take every k-th utterance of a speaker and every k-th speaker; options may be combined. Writes
spk2utt, and those of utt2spk, wav.scp, segments, reco2dur and other tables of utterances and speakers (utt2X, spk2X)
that DATA_DIR has.
steps/make_cuts.py prepares the result for training.
"""

import sys
from pathlib import Path

from data_tables import Faults, group_by_speaker, properties, read_text, read_utt2spk

from rawnext.errors import ArgumentParser, run_main
from rawnext.files import UTT_TABLES, write_lines


def choose(utts: list[str], num: int) -> list[str]:
    """num of the utterances in equal steps, or all if there are fewer."""
    step = max(1, len(utts) // num)
    return utts[:num * step:step]


def read_list(path: Path, faults: Faults) -> dict[str, None]:
    """The first word of each line."""
    try:
        return {line.split()[0]: None for line in path.read_text(encoding="utf-8").split("\n") if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        faults.add(path, None, "no such file" if isinstance(error, FileNotFoundError) else str(error))
        return {}


def copy_table(source: Path, out: Path, kept: set[str]) -> list[list[str]]:
    """Copy the lines whose key is in `kept`, if the table exists; returns their fields."""
    if not source.exists():
        out.unlink(missing_ok=True)
        return []
    lines = [line for line in read_text(source).split("\n") if kept.intersection(line.split(None, 1)[:1])]
    write_lines(out, lines)
    return [line.split() for line in lines]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--per-spk", type=int, metavar="N", help="maximum utterances per speaker")
    parser.add_argument("--speakers", type=int, metavar="N", help="maximum number of speakers")
    parser.add_argument("--utt-list", type=Path, metavar="FILE", help="utterances to keep, the first word of each line")
    parser.add_argument("--spk-list", type=Path, metavar="FILE", help="speakers to keep, likewise")
    parser.add_argument("--without", type=Path, metavar="DIR", help="leave out the speakers of this data directory")
    parser.add_argument("data_dir", type=Path, help="data directory to read")
    parser.add_argument("out_dir", type=Path, help="data directory to write")
    options = parser.parse_args()
    if all(value is None for value in (options.per_spk, options.speakers, options.utt_list, options.spk_list,
                                         options.without)):
        parser.error("want one of --per-spk, --speakers, --utt-list, --spk-list and --without")
    for name in ("per_spk", "speakers"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    data, out, faults = options.data_dir, options.out_dir, Faults()
    if data.resolve() == out.resolve():
        parser.error("DATA_DIR and OUT_DIR are the same folder")
    utt2spk = read_utt2spk(data, faults)
    for path, what in ((options.utt_list, 0), (options.spk_list, 1)):
        if path:
            listed = read_list(path, faults)
            known = set(utt2spk) if what == 0 else set(utt2spk.values())
            if missing := next((name for name in listed if name not in known), None):
                faults.add(path, None, f"{missing} is not in {data}/utt2spk")
            utt2spk = {utt: spk for utt, spk in utt2spk.items() if (utt, spk)[what] in listed}
    if options.without:
        others = set(read_utt2spk(options.without, faults).values())
        utt2spk = {utt: spk for utt, spk in utt2spk.items() if spk not in others}
    spk2utt = group_by_speaker(utt2spk)
    if not (data / "wav.scp").exists():
        faults.add(data / "wav.scp", None, "no such file")
    faults.exit_if_any()
    spks = choose(list(spk2utt), options.speakers or len(spk2utt))
    chosen = {spk: choose(spk2utt[spk], options.per_spk or len(spk2utt[spk])) for spk in spks}
    if not chosen:
        sys.exit(f"subset_data_dir.py: no utterance of {data} is left")
    for name in ("cuts.jsonl", "cuts.npz"):
        (out / name).unlink(missing_ok=True)
    utts = {utt for part in chosen.values() for utt in part}
    tables = {name: copy_table(data / name, out / name, utts) for name in UTT_TABLES}
    recordings = {fields[1] for fields in tables["segments"]} or utts
    own = {name: set(chosen) if name.startswith("spk2") else utts for name in properties(data, out)}
    for name, kept in {"wav.scp": recordings, "reco2dur": recordings, **own}.items():
        copy_table(data / name, out / name, kept)
    write_lines(out / "spk2utt", (f"{spk} {' '.join(part)}" for spk, part in sorted(chosen.items())))
    print(f"subset_data_dir.py: {len(utts)} utterances of {len(chosen)} speakers in {out}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
