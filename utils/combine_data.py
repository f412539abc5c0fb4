#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Join data directories, as Kaldi's utils/combine_data.sh: each table that all of them have, sorted.

  utils/combine_data.py data/all data/one data/other

An utterance, recording or speaker with different lines in two directories is an error. steps/make_cuts.py prepares the
result for training.
"""

import sys
from pathlib import Path

from data_tables import Faults, group_by_speaker, properties, read_rows

from rawnext.errors import ArgumentParser, run_main
from rawnext.files import UTT_TABLES, write_lines

TWO_COLUMNS = ("utt2spk", "utt2dur", "utt2num_frames", "reco2dur", "spk2gender")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("out_dir", type=Path, help="data directory to write")
    parser.add_argument("data_dirs", type=Path, nargs="+", help="data directories to join")
    options = parser.parse_args()
    out, faults = options.out_dir, Faults()
    for folder in options.data_dirs:
        if folder.resolve() == out.resolve():
            parser.error("OUT_DIR is one of the folders to join")
    with_segments = [(folder / "segments").exists() for folder in options.data_dirs]
    if any(with_segments) and not all(with_segments):
        faults.add(options.data_dirs[with_segments.index(False)] / "segments", None,
                   "no such file, but another directory has one; write it for all")
    joined: dict[str, dict[str, str]] = {}
    names = (*UTT_TABLES, "wav.scp", "reco2dur", *properties(out, *options.data_dirs))
    for name in names:
        paths = [folder / name for folder in options.data_dirs]
        if name not in ("utt2spk", "wav.scp") and not all(path.exists() for path in paths):
            continue
        table = joined[name] = {}
        for path in paths:
            for number, (key, *rest) in read_rows(path, faults, 2 * (name in TWO_COLUMNS)):
                if table.setdefault(key, " ".join(rest)) != " ".join(rest):
                    faults.add(path, number, f"{key} has another line in another directory")
    faults.exit_if_any()
    for name in (*names, "spk2utt", "cuts.jsonl", "cuts.npz"):
        if name not in joined:
            (out / name).unlink(missing_ok=True)
    for name, table in joined.items():
        write_lines(out / name, (f"{key} {rest}" for key, rest in sorted(table.items())))
    spk2utt = group_by_speaker(dict(sorted(joined["utt2spk"].items())))
    write_lines(out / "spk2utt", (f"{spk} {' '.join(utts)}" for spk, utts in sorted(spk2utt.items())))
    print(f"combine_data.py: {len(joined['utt2spk'])} utterances of {len(spk2utt)} speakers in {out}", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
