# SPDX-License-Identifier: Apache-2.0
"""Finds VoxCeleb's audio, trial lists and tables in the common layouts on disk."""

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from rawnext.errors import InputError
from rawnext.files import PathLike

log = logging.getLogger(__name__)

PAGE = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/"
# trial list -> names of the cleaned file, names of the original one
LISTS = {"O": (("veri_test2.txt", "voxceleb1_test_v2.txt"), ("veri_test.txt",)),
         "E": (("list_test_all2.txt",), ("list_test_all.txt",)),
         "H": (("list_test_hard2.txt",), ("list_test_hard.txt",))}

SPEAKER = re.compile(r"id\d{5}")
DEPTH = 4  # maximum depth of speaker folders below the root
PREFERENCE = (".wav", ".flac", ".m4a")  # order of preference among an utterance's files; m4a can only be transcoded


def chosen_lists(text: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Those of LISTS that are named in a text such as `O E H`.

    Raises: InputError: an unknown one, or none.
    """
    if unknown := [name for name in text.split() if name not in LISTS]:
        raise InputError("--test-lists", None, f"unknown {unknown[0]}; VoxCeleb1 has {', '.join(LISTS)}")
    if not text.split():
        raise InputError("--test-lists", None, f"is empty; name one or more of {', '.join(LISTS)}")
    return {name: files for name, files in LISTS.items() if name in text.split()}


def speaker_folders(*roots: PathLike) -> dict[str, list[str]]:
    """Speaker -> its folders anywhere below the roots (dev/aac, vox1_dev_wav/wav, test, wav, ...); follows links.

    Raises: InputError: a root is missing, or there are no speakers.
    """
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for root in roots:
        if not os.path.isdir(root):
            raise InputError(root, None, "no such folder")
        _find_speakers(os.path.abspath(root), DEPTH, seen, found)
    if not found:
        raise InputError(roots[0], None, "contains no speaker folders (id10001, ...)")
    return dict(sorted(found.items()))


def _find_speakers(folder: str, depth: int, seen: set[str], found: dict[str, list[str]]) -> None:
    real = os.path.realpath(folder)
    if real in seen or depth == 0:
        return
    seen.add(real)
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if not entry.is_dir():
            continue
        if SPEAKER.fullmatch(entry.name):
            found.setdefault(entry.name, []).append(entry.path)
        else:
            _find_speakers(entry.path, depth - 1, seen, found)


def find_audio(folders: dict[str, list[str]]) -> dict[str, str]:
    """Utterance -> its file, for all `<speaker>/<video>/<segment>` of these speakers.

    A file may be found twice (links, parts that are also merged into one tree) or exist in several formats.
    Raises: InputError: two different files for one utterance.
    """
    audio: dict[str, str] = {}
    for spk, paths in folders.items():
        for path in paths:
            for video in sorted(e.name for e in os.scandir(path) if e.is_dir()):
                for name in sorted(os.listdir(os.path.join(path, video))):
                    stem, suffix = os.path.splitext(name)
                    if suffix in PREFERENCE and not name.startswith("."):
                        _add(audio, f"{spk}-{video}-{stem}", os.path.join(path, video, name))
    return audio


def _add(audio: dict[str, str], utt: str, path: str) -> None:
    other = audio.setdefault(utt, path)
    ours, theirs = (PREFERENCE.index(os.path.splitext(name)[1]) for name in (path, other))
    if ours < theirs:
        audio[utt] = path
    elif ours == theirs and other is not path and os.stat(path).st_size != os.stat(other).st_size:
        raise InputError(path, None, f"and {other} are different files for {utt}")


def find_list(folder: PathLike, names: Iterable[str]) -> str | None:
    """The first of these files that exists."""
    return next((path for name in names if os.path.isfile(path := os.path.join(folder, name))), None)


def read_meta(path: PathLike) -> tuple[dict[str, str], dict[str, str]]:
    """Speaker -> m or f, and speaker -> nationality, from vox1_meta.csv (tabs) or vox2_meta.csv (commas preceded by
    spaces, no nationalities).

    Raises: InputError: no column of ids or genders, or a gender other than m or f.
    """
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    header, *rows = ([field.strip() for field in re.split(r"[\t,]", line)] for line in lines or [""])
    ids = next((i for i, name in enumerate(header) if name.startswith("VoxCeleb")), -1)
    if ids < 0 or "Gender" not in header:
        raise InputError(path, 1, "expected a header with VoxCeleb1 or 2 ID and Gender")
    gender, genders, nations = header.index("Gender"), dict[str, str](), dict[str, str]()
    for number, columns in enumerate(rows, 2):
        if any(columns):
            if len(columns) <= max(ids, gender) or columns[gender] not in ("m", "f"):
                raise InputError(path, number, "no gender m or f")
            genders[columns[ids]] = columns[gender]
            if nation := dict(zip(header, columns)).get("Nationality"):
                nations[columns[ids]] = "_".join(nation.split())
    return genders, nations
