#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the data directories of the mini corpus: DATA/train, DATA/dev (held-out training speakers) and DATA/test.

  local/mini/prepare_mini.py corpus data --dev-speakers 8
"""

import argparse
from pathlib import Path

from rawnext.data.manifest import Utterance, check_bad, hold_out_speakers, scan_audio, write_data_dir
from rawnext.errors import InputError, run_main
from rawnext.files import read_lines
from rawnext.log import setup_log


def read_genders(path: Path) -> dict[str, str]:
    """Speaker -> m or f, from speakers.tsv; its first line names the columns, `spk set gender` first."""
    genders = {}
    for number, line in read_lines(path):
        columns = line.split("\t")
        if len(columns) < 3:
            raise InputError(path, number, f"expected 3 or more columns, got {len(columns)}")
        genders[columns[0]] = columns[2]
    return genders


def scan_set(folder: Path, list_path: Path, num_jobs: int) -> list[Utterance]:
    """The utterances of `<folder>/<spk>/<utt>.flac`."""
    files = sorted(folder.glob("*/*.flac"))
    if not files:
        raise InputError(folder, None, "no <spk>/<utt>.flac; make the corpus with local/mini/make_mini.py")
    utterances, bad = scan_audio([(path.stem, path.parent.name, str(path)) for path in files], num_jobs)
    check_bad(bad, len(files), list_path)
    return utterances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, metavar="OUT_DIR", help="output folder of local/mini/make_mini.py")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--dev-speakers", type=int, default=8,
                        help="training speakers held out for validation (default: 8)")
    parser.add_argument("--seed", type=int, default=1, help="seed of their choice (default: 1)")
    parser.add_argument("--nj", type=int, default=2, help="parallel processes (default: 2)")
    args = parser.parse_args()
    setup_log()
    genders = read_genders(args.corpus / "speakers.tsv")
    sets = {"test": scan_set(args.corpus / "test", args.data / "bad_audio", args.nj)}
    train = scan_set(args.corpus / "train", args.data / "bad_audio", args.nj)
    sets["train"], sets["dev"] = hold_out_speakers(train, args.dev_speakers, args.seed)
    for name, utterances in sets.items():
        if utterances:
            write_data_dir(utterances, args.data / name, genders)


if __name__ == "__main__":
    run_main(main)
