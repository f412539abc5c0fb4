#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the data directories and trial lists of VoxCeleb. Nothing is downloaded.

  local/voxceleb/prepare_voxceleb.py --vox1 /corpora/VoxCeleb1 --vox2 /corpora/VoxCeleb2 --vox2-flac data/vox2_flac data

  DATA/train       VoxCeleb2, dev and test, without the held-out speakers
  DATA/dev         the held-out speakers (utils/make_trials.py draws their trials)
  DATA/vox1_test   the speakers of trial list O, with trials_O
  DATA/vox1        all of VoxCeleb1, with trials_E and trials_H

--test-lists O needs only VoxCeleb1's test part and list O, and leaves DATA/vox1 alone; E and H leave DATA/vox1_test.

trials_X is the cleaned list; trials_X_original is the list as first published, if its file exists. Each directory has a
table utt2session with the videos.
"""

import logging
from pathlib import Path

from layout import LISTS, PAGE, chosen_lists, find_audio, find_list, read_meta, speaker_folders

from rawnext.data.manifest import Utterance, check_bad, hold_out_speakers, scan_audio, write_data_dir
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import read_lines
from rawnext.kaldi.tables import Trials, write_trials
from rawnext.kaldi.trial_forms import read_trial_list
from rawnext.log import setup_log

log = logging.getLogger(__name__)


def read_list(path: str, utts: dict[str, str]) -> Trials:
    """Read `1|0 id10270/<video>/00001.wav id10271/<video>/00002.wav`; utts: the known ones, each mapped to itself."""
    named = read_trial_list(Path(path))
    ids = ((name, name.rsplit(".", 1)[0].replace("/", "-")) for name in named.lines)
    return named.renamed({name: utts[utt] for name, utt in ids if utt in utts}, "VoxCeleb1 on disk")


def read_lists(folder: str, audio: dict[str, str], names: str) -> dict[str, Trials]:
    """O, O_original, E, ... -> trials, of the lists with these names; original lists are optional."""
    utts = {utt: utt for utt in audio}
    lists = {}
    for name, (cleaned, original) in chosen_lists(names).items():
        if (path := find_list(folder, cleaned)) is None:
            raise InputError(Path(folder) / cleaned[0], None, f"no such trial list; get it from {PAGE}vox1.html")
        lists[name] = read_list(path, utts)
        if path := find_list(folder, original):
            lists[f"{name}_original"] = read_list(path, utts)
        else:
            log.info("%s: no such file, so trials_%s_original is not written", Path(folder) / original[0], name)
    return lists


def find_vox2(root: str, flac_dir: str | None) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """VoxCeleb2's readable files, and (path, reason) of those that ffmpeg could not transcode."""
    copies = [Path(flac_dir)] if flac_dir and Path(flac_dir).is_dir() else []
    audio = find_audio(speaker_folders(root, *copies))
    m4a = {utt: audio.pop(utt) for utt, path in list(audio.items()) if path.endswith(".m4a")}
    if not m4a:
        return audio, []
    rows = (line.split("\t", 1) for folder in copies for table in sorted(folder.glob("undecodable.*.tsv"))
            for _, line in read_lines(table))
    why = {Path(path).parts[-3:]: reason for path, reason in rows}
    if left := [path for path in m4a.values() if Path(path).parts[-3:] not in why]:
        raise InputError(left[0], None, f"this and {len(left) - 1} more m4a files have no FLAC copy in "
                                        f"{flac_dir or '--vox2-flac'}; run local/voxceleb/transcode_vox2.py (stage 0)")
    return audio, [(path, why[Path(path).parts[-3:]]) for path in m4a.values()]


def check_disjoint(vox1: dict[str, str], vox2: dict[str, str]) -> None:
    """Raise InputError if an evaluation speaker would be in the training set."""
    if both := {utt[:7] for utt in vox1} & {utt[:7] for utt in vox2}:
        raise InputError("--vox2", None, f"{len(both)} speakers are also in --vox1 ({min(both)}, ...) and would "
                                         "be in training and test; give each corpus its own folder")


def scan(audio: dict[str, str], num_jobs: int) -> tuple[list[Utterance], list[tuple[str, str]]]:
    return scan_audio(((utt, utt[:7], path) for utt, path in audio.items()), num_jobs)


def all_meta(*folders: str) -> tuple[dict[str, str], dict[str, str]]:
    """Speaker -> gender, and speaker -> nationality."""
    genders, nations = dict[str, str](), dict[str, str]()
    for folder in dict.fromkeys(folders):
        for name in ("vox1_meta.csv", "vox2_meta.csv"):
            if path := find_list(folder, [name]):
                for all_known, known in zip((genders, nations), read_meta(path)):
                    all_known |= known
    return genders, nations


def write_set(utterances: list[Utterance], folder: Path, meta: tuple[dict[str, str], dict[str, str]]) -> None:
    """Write a data directory with utt2session, the video of each utterance, and spk2nationality, as far as known."""
    genders, nations = meta
    videos = {u.utt: u.utt[8:].rsplit("-", 1)[0] for u in utterances}
    write_data_dir(utterances, folder, genders, {"utt2session": videos, "spk2nationality": nations})


def speakers_of_o(lists: dict[str, Trials]) -> set[str]:
    """The speakers of O and O_original."""
    return {utt[:7] for name, trials in lists.items() if name.startswith("O") for side in trials[:2] for utt in side}


def only_o(lists: dict[str, Trials]) -> bool:
    return all(name.startswith("O") for name in lists)


def write_eval(data: Path, vox1: list[Utterance], lists: dict[str, Trials],
               meta: tuple[dict[str, str], dict[str, str]]) -> None:
    if tested := speakers_of_o(lists):
        write_set([u for u in vox1 if u.spk in tested], data / "vox1_test", meta)
    if not only_o(lists):
        write_set(vox1, data / "vox1", meta)
    for name, trials in lists.items():
        path = data / ("vox1_test" if name.startswith("O") else "vox1") / f"trials_{name}"
        write_trials(path, trials)
        log.info("%s: %d trials, %d target", path, len(trials.enroll), sum(trials.is_target))


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--vox1", required=True, help="VoxCeleb1, dev and test (list O: test)")
    parser.add_argument("--vox2", required=True, help="VoxCeleb2, dev and test")
    parser.add_argument("--vox2-flac", help="FLAC copies made by local/voxceleb/transcode_vox2.py, if VoxCeleb2 is m4a")
    parser.add_argument("--lists", help="folder of the trial lists (default: --vox1)")
    parser.add_argument("--test-lists", default=" ".join(LISTS), metavar="NAMES",
                        help="trial lists to prepare, with their audio (default: %(default)s)")
    parser.add_argument("--dev-speakers", type=int, default=40,
                        help="speakers held out for validation; 0: none (default: 40)")
    parser.add_argument("--seed", type=int, default=1, help="seed of their choice (default: 1)")
    parser.add_argument("--max-bad-fraction", type=float, default=0.0,
                        help="maximum share of unreadable audio files, which are left out (default: 0)")
    parser.add_argument("--nj", type=int, default=4, help="parallel processes (default: 4)")
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    if options.dev_speakers < 0 or options.dev_speakers == 1:
        parser.error("--dev-speakers must be 0 or at least 2: one speaker gives no nontarget trials")
    setup_log()
    vox1_audio = find_audio(speaker_folders(options.vox1))
    lists = read_lists(options.lists or options.vox1, vox1_audio, options.test_lists)
    vox2_audio, undecodable = find_vox2(options.vox2, options.vox2_flac)
    check_disjoint(vox1_audio, vox2_audio)
    if only_o(lists):
        tested = speakers_of_o(lists)
        vox1_audio = {utt: path for utt, path in vox1_audio.items() if utt[:7] in tested}
    meta = all_meta(options.vox1, options.vox2, options.lists or options.vox1)

    log.info("reading the headers of %d + %d audio files", len(vox1_audio), len(vox2_audio))
    vox1, bad1 = scan(vox1_audio, options.nj)
    vox2, bad2 = scan(vox2_audio, options.nj)
    bad = undecodable + bad2 + bad1
    check_bad(bad, len(vox1) + len(vox2) + len(bad), options.data / "bad_audio.tsv", options.max_bad_fraction)
    if bad1:
        # fails if a trial needs a bad file
        read_lists(options.lists or options.vox1, {u.utt: u.path for u in vox1}, options.test_lists)
    write_eval(options.data, vox1, lists, meta)
    train, dev = hold_out_speakers(vox2, options.dev_speakers, options.seed)
    if dev:
        write_set(dev, options.data / "dev", meta)
    write_set(train, options.data / "train", meta)


if __name__ == "__main__":
    run_main(main)
