#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the data directories and trial lists of the VOiCES challenge of 2019. Nothing is downloaded.

  local/voices/prepare_voices.py /corpora/VOiCES data

for each set, dev and eval:

  DATA/voices_SET_enroll  the files of the enrollment list
  DATA/voices_SET_test    the test files of the key, with trials and their models in trials.enroll

An utt is SPEAKER-FILE. Tables utt2session (the chapter that is read) and, on the test side, utt2room, utt2noise and
utt2microphone are taken from the names Lab41-SRI-VOiCES-ROOM-NOISE-spSPEAKER-chCHAPTER-sgSEGMENT-mcMICROPHONE-...; the
files before they were played in a room have `src` in place of ROOM-NOISE. In the evaluation set, the map from the
anonymous names to these gives the speakers.

The layout is that of the archives, as in the recipes by D. Snyder (make_voices_2019_challenge.pl) and hyperion
(egs/voices_challenge/v1):

  Development_Data/Speaker_Recognition/sid_dev/sp0000/*.wav
  Development_Data/Speaker_Recognition/sid_dev_lists_and_keys/dev-enroll.lst           MODEL FILE
  Development_Data/Speaker_Recognition/sid_dev_lists_and_keys/dev-trial-keys.lst       MODEL FILE tgt|imp
  Speaker_Recognition/sid_eval/*.wav, Speaker_Recognition/sid_eval_lists/eval-enroll.lst
  VOiCES_challenge_2019_post-eval-release/VOiCES_challenge_2019_eval.SID.{trial-keys.lst,map}

FILE is sid_dev/sp0000/NAME.wav, or sid_eval/NAME.wav, in the key also NAME.wav. A line of the map is `NAME NAME`.
"""

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rawnext.data.listed import existing_folder, listed_file, rows, scan_all, write_lists
from rawnext.data.manifest import write_data_dir
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.kaldi.trial_forms import read_trial_list
from rawnext.log import setup_log

NAME = re.compile(r".*VOiCES-(?:src|(?P<room>rm\d+)-(?P<noise>\w+))-(?P<spk>sp\d+)-(?P<session>ch\d+)-sg\d+"
                  r"(?:-(?P<microphone>mc\d+))?(?:-.*)?")
SETS = ("dev", "eval")
POST_EVAL = "VOiCES_challenge_2019_post-eval-release"


class Layout(NamedTuple):
    """Where a set is.   audio: the folder that the paths of its lists begin in.   names: the map of anonymous names."""

    audio: Path
    enroll: Path
    key: Path
    names: Path | None


def layout(root: Path, name: str) -> Layout:
    """Raises: InputError: a folder is missing."""
    if name == "dev":
        lists = existing_folder(root, "Development_Data/Speaker_Recognition/sid_dev_lists_and_keys",
                                "Speaker_Recognition/sid_dev_lists_and_keys", "sid_dev_lists_and_keys")
        return Layout(lists.parent, lists / "dev-enroll.lst", lists / "dev-trial-keys.lst", None)
    lists = existing_folder(root, "Speaker_Recognition/sid_eval_lists", "sid_eval_lists")
    key = existing_folder(root, POST_EVAL) / "VOiCES_challenge_2019_eval.SID.trial-keys.lst"
    return Layout(lists.parent, lists / "eval-enroll.lst", key, key.with_name("VOiCES_challenge_2019_eval.SID.map"))


class Names:
    """What the names of a set's files say."""

    def __init__(self, path: Path | None):
        self.path = path
        self.original = {PurePosixPath(name).name.removesuffix(".wav"): other
                         for _, (name, other) in (rows(path, "NAME NAME") if path else ())}
        self.parts = dict[str, dict[str, str]]()  # utt -> room, noise, spk, session, microphone

    def utt(self, file: str, path: Path, line: int) -> str:
        """The utt of a file.   path, line: where it is named.

        Raises: InputError: it is not in the map, or its name has another form.
        """
        stem = PurePosixPath(file).name.removesuffix(".wav")
        if self.path and stem not in self.original:
            raise InputError(path, line, f"{stem} is not in {self.path}")
        name = PurePosixPath(self.original.get(stem, stem)).name.removesuffix(".wav")
        if not (found := NAME.fullmatch(name)):
            raise InputError(path, line, f"expected ...VOiCES-ROOM-NOISE-sp0000-ch0-sg0-mc00-..., got {name[:90]!r}")
        utt = f"{found['spk']}-{stem}"
        self.parts[utt] = found.groupdict(default="source") | {"noise": found["noise"] or "none"}
        return utt

    def table(self, part: str, utts: dict[str, tuple[str, str]]) -> dict[str, str]:
        return {utt: self.parts[utt][part] for utt in utts}


def prepare(where: Layout, out: str, num_jobs: int) -> None:
    """Write OUT_enroll and OUT_test."""
    names, key = Names(where.names), read_trial_list(where.key)
    enroll, test = dict[str, tuple[str, str]](), dict[str, tuple[str, str]]()
    models, tests = dict[str, list[str]](), dict[str, str]()
    for line, (model, file) in rows(where.enroll, "MODEL FILE"):
        utt = names.utt(file, where.enroll, line)
        enroll[utt] = utt.split("-")[0], listed_file(where.audio, file, where.enroll, line)
        models.setdefault(model, []).append(utt)
    for file, line in key.test_lines.items():
        tests[file] = utt = names.utt(file, key.path, line)
        inside = file if "/" in file else f"sid_eval/{file}"
        test[utt] = utt.split("-")[0], listed_file(where.audio, inside, key.path, line)
    trials = key.renamed(tests, f"{where.enroll}", {model: model for model in models})
    bad = Path(f"{out}_bad_audio.tsv")
    sides = {"enroll": (enroll, scan_all(enroll, bad, num_jobs)), "test": (test, scan_all(test, bad, num_jobs))}
    for side, (utts, utterances) in sides.items():
        # figures by the test side alone: see rawnext/results/conditions.py
        parts = ("session", "room", "noise", "microphone") if side == "test" else ("session",)
        tables = {f"utt2{part}": names.table(part, utts) for part in parts}
        write_data_dir(utterances, f"{out}_{side}", conditions=tables)
    write_lists(Path(f"{out}_test"), {"trials": (trials, models)})


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SETS, help="prepare one set alone (default: both)")
    parser.add_argument("--nj", type=int, default=4, help="parallel processes (default: 4)")
    parser.add_argument("corpus", type=Path, help="folder of the unpacked archives")
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    setup_log()
    for name, where in [(name, layout(args.corpus, name)) for name in ([args.only] if args.only else SETS)]:
        prepare(where, f"{args.data}/voices_{name}", args.nj)


if __name__ == "__main__":
    run_main(main)
