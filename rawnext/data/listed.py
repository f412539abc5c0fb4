# SPDX-License-Identifier: Apache-2.0
"""Corpora that are published with lists of files and keys of trials: read them, and write both sides of the trials."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rawnext.data.manifest import Utterance, check_bad, scan_audio
from rawnext.errors import InputError
from rawnext.files import read_lines
from rawnext.kaldi.tables import Trials, write_trial_list

log = logging.getLogger(__name__)

SUFFIXES = (".flac", ".wav")  # copies of a corpus in another format have the names of its lists with another of these


def rows(path: Path, form: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, words) of a list whose lines have a word for each word of the form, such as `MODEL FILE`.

    More words are allowed if the form ends in `...`.
    Raises: InputError: another number of words.
    """
    least, open_ended = len(form.removesuffix(" ...").split()), form.endswith("...")
    for number, line in read_lines(path):
        words = line.split()
        if len(words) < least or (len(words) > least and not open_ended):
            raise InputError(path, number, f"expected `{form}`, got {line[:60]!r}")
        yield number, words


def listed_file(folder: Path, name: str, path: Path, line: int) -> str:
    """The file `name` of a folder, in the format of the list or another of SUFFIXES.

    Args: path, line: where the list names it.
    Raises: InputError: no such file.
    """
    named = folder / name
    for file in (named, *map(named.with_suffix, SUFFIXES)):
        if file.is_file():
            return str(file)
    raise InputError(path, line, f"no such file {named}, nor with {' or '.join(SUFFIXES)}")


def existing_folder(root: Path, *places: str) -> Path:
    """The first of these places in a root that exists.   Raises: InputError: none does."""
    if not root.is_dir():
        raise InputError(root, None, "no such folder")
    for place in places:
        if (root / place).is_dir():
            return root / place
    found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
    raise InputError(root, None, f"expected {' or '.join(places)} in this folder, found {found}")


def scan_all(files: Mapping[str, tuple[str, str]], bad_list: Path, num_jobs: int) -> list[Utterance]:
    """The utterances of utt -> (spk, file).

    Args: bad_list: file that lists unreadable ones.
    Raises: InputError: there are such; a trial cannot be left out, because the list would be another one.
    """
    utterances, bad = scan_audio(((utt, *file) for utt, file in files.items()), num_jobs)
    check_bad(bad, len(files), bad_list)
    return utterances


def write_lists(folder: Path, lists: Mapping[str, tuple[Trials, Mapping[str, Iterable[str]]]]) -> None:
    """Write trial lists to a data directory.   lists: name -> trials, and their models if the enroll side has such."""
    for name, (trials, models) in lists.items():
        write_trial_list(folder / name, trials, models)
        log.info("%s: %d trials, %d target", folder / name, len(trials.enroll), sum(trials.is_target))
