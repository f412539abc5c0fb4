#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make data directories from CSV files: the speaker of each file, and pairs of files to compare.

  local/csv/prepare_csv.py --pairs test_pairs.csv train.csv data

  train.csv    idx, wav path, speaker id      -> DATA/train, and DATA/dev of speakers held out for validation
  pairs.csv    idx, left wav, right wav       -> DATA/pairs with the list `pairs`: lines `left right idx`

Columns are found by the names in the first line (path, wav, file or audio; speaker, spk or client_id; idx, index or
id; left; right; in any case, also as parts of longer names); the log shows them. Without a header, which contains no
file name, they have the order above. Separators are commas, semicolons or tabs. Relative paths begin at --wav-dir.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.manifest import Utterance, check_bad, hold_out_speakers, num_samples_16k, scan_audio, write_data_dir
from rawnext.data.wav import LEAST_SAMPLES
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import write_lines
from rawnext.kaldi.csv_table import read_csv
from rawnext.kaldi.words import check_id
from rawnext.log import setup_log

log = logging.getLogger(__name__)

# content of a column -> pattern of its name, and its index if no name matches
TRAIN = {"path": (r"path|wav|file|audio", 1), "speaker": (r"speaker|spk|^client_id$", 2)}
PAIRS = {"idx": (r"^(idx|index|id)$", 0), "left": (r"left", 1), "right": (r"right", 2)}


class Wave(NamedTuple):
    """A file in a CSV, and the first line that lists it."""

    utt: str
    spk: str
    path: str
    line: int


def safe(text: str) -> str:
    """Replace characters that ids and file names cannot contain, or that sort before the hyphen, by underscores."""
    return re.sub(r"[^\w.]+", "_", text).strip("._")


def read_train(path: Path, folder: Path, asked: str) -> list[Wave]:
    """All files of a training CSV, each with the utt `speaker-path`.

    Raises: InputError: a file is listed twice, or two speakers or files would get the same id.
    """
    waves, speakers = [], dict[str, str]()
    lines: dict[str, int] = {}  # first line of each file and utt
    for line, (name, speaker) in read_csv(path, TRAIN, asked, "--train-columns"):
        spk = check_id(safe(speaker), path, line)
        if (other := speakers.setdefault(spk, speaker)) != speaker:
            raise InputError(path, line, f"speakers {other!r} and {speaker!r} would both be called {spk}")
        utt = check_id(f"{spk}-{safe(name.rsplit('.', 1)[0])}", path, line)
        wave = Wave(utt, spk, os.path.abspath(folder / name), line)
        for key in (wave.path, wave.utt):
            if (before := lines.setdefault(key, line)) != line:
                raise InputError(path, line, f"{key} is also on line {before}")
        waves.append(wave)
    return waves


def read_pairs(path: Path, folder: Path, asked: str) -> tuple[list[Wave], list[str]]:
    """The files of a CSV of pairs, each once, and lines `left right idx`.

    Raises: InputError: an idx occurs twice or contains a space, or two files would get the same id.
    """
    waves: dict[str, Wave] = {}
    idx_lines: dict[str, int] = {}
    pairs = []
    for line, (idx, *names) in read_csv(path, PAIRS, asked, "--pairs-columns"):
        if not idx.isprintable() or len(idx.split()) != 1:
            raise InputError(path, line, f"expected an idx without spaces, got {idx[:60]!r}")
        if (before := idx_lines.setdefault(idx, line)) != line:
            raise InputError(path, line, f"idx {idx} is also on line {before}")
        utts = []
        for name in names:
            utt, wav = check_id(safe(name.rsplit(".", 1)[0]), path, line), os.path.abspath(folder / name)
            if (known := waves.setdefault(utt, Wave(utt, utt, wav, line))).path != wav:
                raise InputError(path, line, f"{wav} and {known.path} (line {known.line}) would both be called {utt}")
            utts.append(utt)
        pairs.append(f"{utts[0]} {utts[1]} {idx}")
    return list(waves.values()), pairs


def scan(path: Path, waves: Sequence[Wave], num_jobs: int, list_path: Path, max_bad_fraction: float) -> list[Utterance]:
    """The readable utterances; the CSV lines of the others are logged and listed in list_path."""
    good, bad = scan_audio([wave[:3] for wave in waves], num_jobs)
    short = {u.path for u in good if num_samples_16k(u) < LEAST_SAMPLES}
    bad += [(name, f"shorter than {LEAST_SAMPLES / SAMPLE_RATE} s") for name in sorted(short)]
    lines = {wave.path: wave.line for wave in waves}
    check_bad([(f"{path}:{lines[name]}: {name}", why) for name, why in bad], len(waves), list_path, max_bad_fraction)
    return [u for u in good if u.path not in short]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path, metavar="TRAIN_CSV")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--pairs", type=Path, metavar="PAIRS_CSV", help="pairs to compare (default: none)")
    parser.add_argument("--wav-dir", type=Path, help="base of relative paths (default: each CSV's folder)")
    parser.add_argument("--train-columns", default="", metavar="PATH,SPEAKER", help="column names, or numbers from 1")
    parser.add_argument("--pairs-columns", default="", metavar="IDX,LEFT,RIGHT",
                        help="column names, or numbers from 1")
    parser.add_argument("--dev-speakers", type=int, metavar="N",
                        help="held out for validation (default: a fifth of the speakers with two utterances, 2 to 20)")
    parser.add_argument("--seed", type=int, default=1, help="seed of their choice (default: 1)")
    parser.add_argument("--max-bad-fraction", type=float, default=0.0,
                        help="maximum share of unreadable training files, which are left out (default: 0)")
    parser.add_argument("--nj", type=int, default=2, help="parallel processes (default: 2)")
    args = parser.parse_args()
    if args.dev_speakers is not None and args.dev_speakers < 2:
        parser.error("--dev-speakers must be 2 or more: one speaker gives no nontarget trials")
    setup_log()
    waves = read_train(args.train, args.wav_dir or args.train.parent, args.train_columns)
    if args.pairs:
        sides, pairs = read_pairs(args.pairs, args.wav_dir or args.pairs.parent, args.pairs_columns)
        compared = scan(args.pairs, sides, args.nj, args.data / "bad_pairs.tsv", 0.0)
    utterances = scan(args.train, waves, args.nj, args.data / "bad_audio.tsv", args.max_bad_fraction)
    num_fit = sum(num > 1 for num in Counter(u.spk for u in utterances).values())
    num_dev = min(20, max(2, num_fit // 5)) if args.dev_speakers is None else args.dev_speakers
    train, dev = hold_out_speakers(utterances, num_dev, args.seed)
    if args.pairs:
        write_data_dir(compared, args.data / "pairs")
        write_lines(args.data / "pairs" / "pairs", pairs)
    write_data_dir(dev, args.data / "dev")
    write_data_dir(train, args.data / "train")


if __name__ == "__main__":
    run_main(main)
