#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check that all corpora of the VoxCeleb recipe are complete before anything runs, and list everything missing.

  local/voxceleb/check_voxceleb.py --vox1 /corpora/VoxCeleb1 --vox2 /corpora/VoxCeleb2 --musan /corpora/musan
"""

import glob
import os
import shutil
import sys
from collections.abc import Iterable, Iterator

from layout import LISTS, PAGE, SPEAKER, chosen_lists, find_list, speaker_folders

from rawnext.errors import ArgumentParser, InputError, run_main

VOX1 = f"vox1_dev_wav.zip and vox1_test_wav.zip from {PAGE}vox1.html"
VOX1_TEST = f"vox1_test_wav.zip from {PAGE}vox1.html"  # all that list O needs
VOX2 = f"vox2_dev_aac.zip and vox2_test_aac.zip from {PAGE}vox2.html"
MUSAN = "https://www.openslr.org/17/"
RIRS = "https://www.openslr.org/28/"


def missing_speech(option: str, root: str, where: str) -> Iterator[str]:
    try:
        folders = speaker_folders(root)
    except InputError as error:
        yield f"{option} {error}; unpack {where}"
        return
    sample = next(iter(folders.values()))[0]
    suffixes = {os.path.splitext(path)[1] for path in glob.glob(f"{glob.escape(sample)}/*/*")}
    if not suffixes & {".wav", ".flac", ".m4a"}:
        yield f"{option} {sample}: no wav, flac or m4a files; unpack {where}"
    elif ".m4a" in suffixes and not suffixes & {".wav", ".flac"} and not shutil.which("ffmpeg"):
        yield f"ffmpeg: not found, and {root} is m4a; install it (apt-get install ffmpeg)"


def missing_lists(vox1: str, folder: str, names: Iterable[str], where: str) -> Iterator[str]:
    """Those of the cleaned lists that are missing, and speakers of the others that VoxCeleb1 lacks."""
    listed: set[str] = set()
    for name in names:
        cleaned, _ = LISTS[name]
        if path := find_list(folder, cleaned):
            with open(path, encoding="utf-8", errors="replace") as file:
                listed.update(part[:7] for line in file for part in line.split()[1:3])
        else:
            yield f"--lists {folder}/{cleaned[0]}: no such file (trial list {name}); get it from {PAGE}vox1.html"
    try:
        lacking = sorted(filter(SPEAKER.fullmatch, listed - speaker_folders(vox1).keys()))
    except InputError:
        return  # missing_speech reports that VoxCeleb1 is missing
    if lacking:
        yield (f"--vox1 {vox1}: {len(lacking)} of {len(listed)} speakers of the lists are missing ({lacking[0]}, ..."
               f"); unpack {where}")


def missing_files(option: str, root: str, patterns: list[str], where: str) -> Iterator[str]:
    if not os.path.isdir(root):
        yield f"{option} {root}: no such folder; get it from {where}"
        return
    for pattern in patterns:
        if not next(glob.iglob(f"{glob.escape(root)}/{pattern}"), None):
            yield f"{option} {root}: no {pattern}; get it from {where}"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--vox1", required=True, help="VoxCeleb1, dev and test (list O: test)")
    parser.add_argument("--vox2", required=True, help="VoxCeleb2, dev and test, as m4a, wav or flac")
    parser.add_argument("--musan", help="MUSAN; checked if given")
    parser.add_argument("--rirs", help="RIRS_NOISES; checked if given")
    parser.add_argument("--lists", help="folder of the trial lists (default: --vox1)")
    parser.add_argument("--test-lists", default=" ".join(LISTS), metavar="NAMES",
                        help="trial lists that are used (default: %(default)s)")
    options = parser.parse_args()
    names = list(chosen_lists(options.test_lists))
    vox1_from = VOX1_TEST if names == ["O"] else VOX1
    missing = [*missing_speech("--vox1", options.vox1, vox1_from), *missing_speech("--vox2", options.vox2, VOX2),
               *missing_lists(options.vox1, options.lists or options.vox1, names, vox1_from)]
    if options.musan:
        missing += missing_files("--musan", options.musan, ["music/*/*.wav", "noise/*/*.wav", "speech/*/*.wav"], MUSAN)
    if options.rirs:
        missing += missing_files("--rirs", options.rirs, ["simulated_rirs/*/*/*.wav"], RIRS)
    for line in missing:
        print(f"check_voxceleb.py: {line}", file=sys.stderr)
    if missing:
        sys.exit(1)


if __name__ == "__main__":
    run_main(main)
