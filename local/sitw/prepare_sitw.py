#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the data directories and trial lists of Speakers in the Wild (SITW). Nothing is downloaded.

  local/sitw/prepare_sitw.py /corpora/sitw data

for each set, dev and eval:

  DATA/sitw_SET_enroll  the enroll side: files of lists/enroll-core.lst, segments of lists/enroll-assist.lst
  DATA/sitw_SET_test    the test files of the keys, with trials_core-core, trials_core-multi, trials_assist-core and
                        trials_assist-multi, as far as their keys exist, and their models in TRIALS.enroll

An utt is SPEAKER-FILE by keys/meta.lst, which also gives spk2gender, utt2session and, on the test side, utt2microphone
and utt2speakers (the number of speakers in a file). An assisted enrollment is the annotated segment of its file, where
Kaldi's recipe takes the whole file.

The layout is that of Kaldi's egs/sitw/v1 and of the corpus' readme: SET/audio/*.flac, SET/lists/enroll-core.lst (`MODEL
FILE`), SET/lists/enroll-assist.lst (`MODEL FILE START END`, in seconds), SET/keys/*.lst (`MODEL FILE tgt|imp`),
SET/keys/meta.lst (`FILE SPEAKER GENDER MICROPHONE SESSION START END NUMBER_OF_SPEAKERS ...`).
"""

import logging
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rawnext.data.listed import existing_folder, listed_file, rows, scan_all, write_lists
from rawnext.data.manifest import Utterance, write_data_dir
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.kaldi.trial_forms import NamedTrials, read_trial_list
from rawnext.kaldi.words import to_number
from rawnext.log import setup_log

log = logging.getLogger(__name__)

SETS = ("dev", "eval")
ENROLL = {"core": "MODEL FILE", "assist": "MODEL FILE START END"}
TESTS = ("core", "multi")
META = "FILE SPEAKER GENDER MICROPHONE SESSION START END NUMBER_OF_SPEAKERS ..."


class Meta(NamedTuple):
    """What meta.lst says about a file. utt: SPEAKER-FILE, without its ending."""

    utt: str
    spk: str
    gender: str
    microphone: str
    session: str
    speakers: str


class Part(NamedTuple):
    """The segment of a file that enrolls a model, in seconds; end 0: the whole file. line: of the list `path`."""

    file: str
    begin: float
    end: float
    path: Path
    line: int


class Set:
    """The folder of a set, and its meta.lst by file."""

    def __init__(self, root: Path):
        self.root, self.meta = root, dict[str, Meta]()
        path = root / "keys/meta.lst"
        for line, (file, spk, gender, microphone, session, _, _, speakers, *_) in rows(path, META):
            if gender not in ("m", "f"):
                raise InputError(path, line, f"expected m or f, got {gender[:60]!r}")
            self.meta[file] = Meta(f"{spk}-{PurePosixPath(file).stem}", spk, gender, microphone, session, speakers)

    def known(self, file: str, path: Path, line: int) -> Meta:
        if file not in self.meta:
            raise InputError(path, line, f"{file} is not in {self.root}/keys/meta.lst")
        return self.meta[file]

    def models(self, condition: str, parts: dict[str, Part]) -> dict[str, list[str]]:
        """Model -> its utts, by the list of an enrollment condition; adds the utts to `parts`."""
        models, path = dict[str, list[str]](), self.root / f"lists/enroll-{condition}.lst"
        for line, (model, file, *times) in rows(path, ENROLL[condition]):
            utt = self.known(file, path, line).utt
            begin, end = map(to_number, times or ("0", "0"))
            if times:
                if not 0 <= begin < end:
                    raise InputError(path, line, f"not a segment in seconds: {' '.join(times)}")
                utt += f"-{begin * 100:06.0f}-{end * 100:06.0f}"
            parts[utt] = Part(file, begin, end, path, line)
            models.setdefault(model, []).append(utt)
        return models


def cut_out(whole: Utterance, utt: str, part: Part) -> Utterance:
    """The segment of a file.   Raises: InputError: the file ends before it."""
    if not part.end:
        return whole
    begin, end = (round(seconds * whole.sample_rate) for seconds in (part.begin, part.end))
    if end > whole.num_samples:
        raise InputError(part.path, part.line, f"the segment ends at {part.end:g} s, but {whole.path} has "
                                               f"{whole.num_samples / whole.sample_rate:.2f} s")
    return whole._replace(utt=utt, start=begin, num_samples=end - begin, recording=whole.utt)


def read_keys(root: Path) -> dict[str, NamedTrials]:
    """core-core and others -> the trials of the key, with the names of models and files. core-core must exist."""
    found = {}
    for name in (f"{enroll}-{test}" for enroll in ENROLL for test in TESTS):
        if (path := root / f"keys/{name}.lst").exists() or name == "core-core":
            found[name] = read_trial_list(path)
        else:
            log.info("%s: no such file, so trials_%s is not written", path, name)
    return found


def prepare(root: Path, out: str, num_jobs: int) -> None:
    """Write OUT_enroll and OUT_test."""
    corpus, keys, parts = Set(root), read_keys(root), dict[str, Part]()
    enroll, test = dict[str, tuple[str, str]](), dict[str, tuple[str, str]]()
    conditions = dict.fromkeys(name.split("-")[0] for name in keys)
    models = {condition: corpus.models(condition, parts) for condition in conditions}
    utts = {file: meta.utt for file, meta in corpus.meta.items()}
    for part in parts.values():
        enroll[utts[part.file]] = corpus.meta[part.file].spk, listed_file(root, part.file, part.path, part.line)
    lists = {}
    for name, named in keys.items():
        for file, line in named.test_lines.items():
            meta = corpus.known(file, named.path, line)
            test[meta.utt] = meta.spk, listed_file(root, file, named.path, line)
        own = models[condition := name.split("-")[0]]
        trials = named.renamed(utts, f"{root}/lists/enroll-{condition}.lst", {model: model for model in own})
        lists[f"trials_{name}"] = trials, own
    bad = Path(f"{out}_bad_audio.tsv")
    whole = {u.utt: u for u in scan_all(enroll, bad, num_jobs)}
    sides = {"enroll": [cut_out(whole[utts[part.file]], utt, part) for utt, part in parts.items()],
             "test": scan_all(test, bad, num_jobs)}

    by_utt = {meta.utt: meta for meta in corpus.meta.values()}
    genders = {meta.spk: meta.gender for meta in corpus.meta.values()}
    for side, utterances in sides.items():
        of_file = {u.utt: by_utt[u.recording or u.utt] for u in utterances}
        tables = {"utt2session": {utt: meta.session for utt, meta in of_file.items()}}
        if side == "test":  # figures by the test side alone: see rawnext/results/conditions.py
            tables["utt2microphone"] = {utt: meta.microphone for utt, meta in of_file.items()}
            tables["utt2speakers"] = {utt: meta.speakers for utt, meta in of_file.items()}
        write_data_dir(utterances, f"{out}_{side}", genders, tables)
    write_lists(Path(f"{out}_test"), lists)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SETS, help="prepare one set alone (default: both)")
    parser.add_argument("--nj", type=int, default=4, help="parallel processes (default: 4)")
    parser.add_argument("corpus", type=Path, help="folder with dev and eval")
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    setup_log()
    for name in [args.only] if args.only else SETS:
        prepare(existing_folder(args.corpus, f"{name}/keys").parent, f"{args.data}/sitw_{name}", args.nj)


if __name__ == "__main__":
    run_main(main)
