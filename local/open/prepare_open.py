#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Join open corpora to DATA/train and DATA/dev, and keep others apart as DATA/NAME to test on.

  local/open/prepare_open.py --train ls=/corpora/LibriSpeech --test so=/corpora/speechocean762/test data
  local/open/prepare_open.py --no-prefix --dev-speakers 12 --train so=/corpora/speechocean762/train data

A corpus is a folder in LibriSpeech's layout (SPEAKERS.TXT, PART/SPEAKER/CHAPTER/*.flac) or a Kaldi data directory
(wav.scp, utt2spk, perhaps spk2gender; relative paths begin at this directory). Ids get the corpus as prefix,
NAME-SPK-UTT, and utt2corpus keeps it; with --no-prefix they are SPK-UTT. Validation speakers are held out of every
training corpus. Other tables of a Kaldi data directory, such as spk2age and utt2session, are copied: evaluation gives
figures by them.
"""

import argparse
from collections import Counter
from pathlib import Path

from rawnext.data.manifest import Utterance, check_bad, hold_out_speakers, scan_audio, write_data_dir
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.kaldi.tables import read_conditions, read_table
from rawnext.kaldi.words import check_id
from rawnext.log import setup_log

File = tuple[str, str, str]  # utt, spk, path


def read_kaldi(folder: Path) -> tuple[list[File], dict[str, str]]:
    """Files and genders of a Kaldi data directory.   Raises: InputError: it has segments, or an utt has no speaker."""
    if (folder / "segments").exists():
        raise InputError(folder / "segments", None, "a corpus with segments cannot be joined; give one file per utt")
    scp = folder / "wav.scp"
    spk_of = read_table(folder / "utt2spk", one_word=True)
    files = []
    for line, (utt, path) in enumerate(read_table(scp).items(), 1):
        if utt not in spk_of:
            raise InputError(scp, line, f"{utt} is not in utt2spk")
        near = folder / path
        if not near.exists() and (folder.parent / path).exists():  # speechocean762 writes paths from its top folder
            near = folder.parent / path
        files.append((utt, spk_of[utt], str(near)))
    return files, read_table(folder / "spk2gender", one_word=True, optional=True)


def read_librispeech(folder: Path) -> tuple[list[File], dict[str, str]]:
    """Files and genders of the parts of LibriSpeech in a folder.   Raises: InputError: there are none."""
    files = [(path.stem, path.parts[-3], str(path)) for path in sorted(folder.glob("*/*/*/*.flac"))]
    if not files:
        raise InputError(folder, None, "no PART/SPEAKER/CHAPTER/*.flac")
    genders = {}
    for line in (folder / "SPEAKERS.TXT").read_text(encoding="utf-8").splitlines():
        if not line.startswith(";"):
            spk, gender, *_ = (word.strip() for word in line.split("|"))
            genders[spk] = gender.lower()
    return files, genders


Tables = dict[str, dict[str, str]]


def read_corpus(asked: str, args: argparse.Namespace) -> tuple[str, list[Utterance], dict[str, str], Tables]:
    """NAME=FOLDER -> name, utterances with prefixed ids, genders by prefixed speaker, and other tables likewise."""
    name, _, path = asked.partition("=")
    folder = Path(path)
    if not path or not folder.is_dir():
        why = "no such folder" if path else "want NAME=FOLDER"
        raise InputError("--train/--test", None, f"{asked!r}: {why}")
    check_id(name, "--train/--test")
    files, genders = (read_librispeech if (folder / "SPEAKERS.TXT").exists() else read_kaldi)(folder)
    prefix = f"{name}-" if args.prefix else ""
    named = [(prefix + (utt if utt.startswith(f"{spk}-") else f"{spk}-{utt}"), prefix + spk, file)
             for utt, spk, file in files]
    utterances, bad = scan_audio(named, args.nj)
    check_bad(bad, len(files), args.data / "bad_audio.tsv")
    new_names = {utt: new for (utt, _, _), (new, _, _) in zip(files, named)}
    tables = {table: {new_names[key] if table.startswith("utt2") else prefix + key: value for key, value in own.items()
                      if table.startswith("spk2") or key in new_names}
              for table, own in read_conditions(folder).items()}
    return name, utterances, {prefix + spk: gender for spk, gender in genders.items()}, tables


def write(utterances: list[Utterance], folder: Path, genders: dict[str, str], tables: Tables, prefix: bool) -> None:
    corpora = {"utt2corpus": {u.utt: u.utt.split("-")[0] for u in utterances}} if prefix else {}
    write_data_dir(utterances, folder, genders, {**tables, **corpora})


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--train", action="append", default=[], metavar="NAME=FOLDER", help="a training corpus")
    parser.add_argument("--test", action="append", default=[], metavar="NAME=FOLDER", help="a corpus for DATA/NAME")
    parser.add_argument("--prefix", action=argparse.BooleanOptionalAction, default=True,
                        help="corpus names in the ids; without them, corpora must not share speaker ids")
    parser.add_argument("--dev-speakers", type=int, metavar="N", help="hold out N speakers of each training corpus")
    parser.add_argument("--dev-share", type=float, default=0.1,
                        help="share of each training corpus' speakers with two utterances to hold out (default: 0.1)")
    parser.add_argument("--seed", type=int, default=1, help="seed of their choice (default: 1)")
    parser.add_argument("--nj", type=int, default=2, help="parallel processes (default: 2)")
    args = parser.parse_args()
    setup_log()
    train, dev, genders, tables = [], [], {}, Tables()
    for asked in args.train:
        _, utterances, known, own = read_corpus(asked, args)
        genders.update(known)
        for table, values in own.items():
            tables.setdefault(table, {}).update(values)
        counts = Counter(u.spk for u in utterances)
        num = args.dev_speakers
        if num is None:
            num = round(args.dev_share * sum(count > 1 for count in counts.values()))
        kept, held = hold_out_speakers(utterances, num, args.seed)
        train += kept
        dev += held
    if dev:
        write(dev, args.data / "dev", genders, tables, args.prefix)
    for asked in args.test:
        name, utterances, known, own = read_corpus(asked, args)
        write(utterances, args.data / name, known, own, args.prefix)
    write(train, args.data / "train", genders, tables, args.prefix)


if __name__ == "__main__":
    run_main(main)
