#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the data directories and trial lists of CN-Celeb (OpenSLR 82). Nothing is downloaded.

  local/cnceleb/prepare_cnceleb.py /corpora/CN-Celeb_flac data
  local/cnceleb/prepare_cnceleb.py --only test /corpora/CN-Celeb_flac data

  DATA/cnceleb_train    the speakers of dev/dev.lst, without the held-out ones
  DATA/cnceleb_dev      the held-out speakers (utils/make_trials.py draws their trials)
  DATA/cnceleb_enroll   the enroll side: eval/enroll, and the utterances of eval/lists/enroll.map
  DATA/cnceleb_test     eval/test, with trials and trials_parts

trials is eval/lists/trials.lst, whose models have one file each, joined from several utterances. trials_parts has the
same trials with these utterances apart, whose embeddings are averaged: its models, in trials_parts.enroll, are those of
enroll.map without `-enroll`. Tables utt2genre and, for training, utt2session are taken from the names
(genre-session-number).

The layout is that of Kaldi's egs/cnceleb/v1: data/id00000/singing-01-001.flac, dev/dev.lst, eval/lists/*,
eval/enroll/id00800-enroll.flac, eval/test/id00800-singing-01-001.flac. The lists have .wav where the files are FLAC.
"""

import argparse
import logging
import re
from pathlib import Path

from rawnext.data.listed import SUFFIXES, existing_folder, listed_file, rows, scan_all, write_lists
from rawnext.data.manifest import Utterance, hold_out_speakers, write_data_dir
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.kaldi.tables import read_enroll_map
from rawnext.kaldi.trial_forms import read_trial_list
from rawnext.log import setup_log

log = logging.getLogger(__name__)

Files = dict[str, tuple[str, str]]  # utt -> speaker, file

NAME = re.compile(r"(id\d{5})[-/](\w+)-(\d+)-\d+")  # speaker, genre, session, number


def utt_of(name: str, path: Path, line: int | None) -> tuple[str, str]:
    """Utt and speaker of a file: id00800-singing-01-001 and id00800.   path, line: where it is named."""
    stem = name.removeprefix("test/").rsplit(".", 1)[0]
    if not (parts := NAME.fullmatch(stem)):
        raise InputError(path, line, f"expected id00000-GENRE-SESSION-NUMBER in place of {name[:60]!r}")
    return stem.replace("/", "-"), parts[1]


def genres(utterances: list[Utterance]) -> dict[str, str]:
    return {u.utt: u.utt.split("-")[1] for u in utterances}


def sessions(utterances: list[Utterance]) -> dict[str, str]:
    return {u.utt: "-".join(u.utt.split("-")[1:3]) for u in utterances}


def train_files(root: Path) -> Files:
    """All files of the speakers of dev/dev.lst.   Raises: InputError: a speaker without files."""
    files, speakers = Files(), root / "dev/dev.lst"
    for line, (spk,) in rows(speakers, "SPEAKER"):
        found = {path.stem: path for suffix in reversed(SUFFIXES) for path in (root / "data" / spk).glob(f"*{suffix}")}
        if not found:
            raise InputError(speakers, line, f"no {' or '.join(SUFFIXES)} files in {root}/data/{spk}")
        for path in found.values():
            utt, _ = utt_of(f"{spk}/{path.name}", path, None)
            files[utt] = spk, str(path)
    return files


def write_train(files: Files, args: argparse.Namespace) -> None:
    utterances = scan_all(files, args.data / "cnceleb_bad_audio.tsv", args.nj)
    train, dev = hold_out_speakers(utterances, args.dev_speakers, args.seed)
    for name, part in (("dev", dev), ("train", train)):
        if part:
            write_data_dir(part, args.data / f"cnceleb_{name}",
                           conditions={"utt2genre": genres(part), "utt2session": sessions(part)})


def prepare_test(root: Path, args: argparse.Namespace) -> None:
    lists = root / "eval/lists"
    named = read_trial_list(lists / "trials.lst")
    test, enroll, tests, models = Files(), Files(), dict[str, str](), dict[str, str]()
    for name, line in named.test_lines.items():
        utt, spk = utt_of(name, named.path, line)
        test[utt] = spk, listed_file(root / "eval", name, named.path, line)
        tests[name] = utt
    for line, (model, name) in rows(lists / "enroll.lst", "MODEL FILE"):
        enroll[model] = model.split("-")[0], listed_file(root / "eval", name, lists / "enroll.lst", line)
        models[model] = model
    trials = {"trials": (named.renamed(tests, f"{lists}/enroll.lst", models), dict[str, list[str]]())}
    if (table := lists / "enroll.map").exists():
        parts, apart = dict[str, list[str]](), dict[str, str]()
        for line, (model, names) in enumerate(read_enroll_map(table).items(), 1):
            apart[model] = model.removesuffix("-enroll")
            parts[apart[model]] = []
            for name in names:
                utt, spk = utt_of(name, table, line)
                enroll[utt] = spk, listed_file(root / "data", name, table, line)
                parts[apart[model]].append(utt)
        trials["trials_parts"] = named.renamed(tests, f"{table}", apart), parts
    else:
        log.info("%s: no such file, so trials_parts is not written", table)
    bad = args.data / "cnceleb_bad_audio.tsv"
    sides = {"enroll": scan_all(enroll, bad, args.nj), "test": scan_all(test, bad, args.nj)}
    for side, utterances in sides.items():
        tables = {"utt2genre": genres(utterances)} if side == "test" else {}  # a joined file has several
        write_data_dir(utterances, args.data / f"cnceleb_{side}", conditions=tables)
    write_lists(args.data / "cnceleb_test", trials)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("train", "test"), help="prepare one set alone (default: both)")
    parser.add_argument("--dev-speakers", type=int, default=20,
                        help="training speakers held out for validation; 0: none (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="seed of their choice (default: 1)")
    parser.add_argument("--nj", type=int, default=4, help="parallel processes (default: 4)")
    parser.add_argument("corpus", type=Path, help="folder with data, dev and eval, or that contains CN-Celeb_flac")
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    if args.dev_speakers < 0 or args.dev_speakers == 1:
        parser.error("--dev-speakers must be 0 or at least 2: one speaker gives no nontarget trials")
    setup_log()
    root = existing_folder(args.corpus, "eval", "CN-Celeb_flac/eval", "CN-Celeb_wav/eval").parent
    train = train_files(root) if args.only != "test" else None
    if args.only != "train":
        prepare_test(root, args)
    if train:
        write_train(train, args)


if __name__ == "__main__":
    run_main(main)
