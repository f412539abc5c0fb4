# SPDX-License-Identifier: Apache-2.0
"""Inputs of the commands: files, folders and lists as sources with ids that are valid in Kaldi's tables."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rawnext.data.audio import is_audio_name
from rawnext.data.media import file_source
from rawnext.data.wav import Source, check_sources, decode
from rawnext.errors import InputError
from rawnext.files import read_lines
from rawnext.kaldi.tables import check_id
from rawnext.log import progress

if TYPE_CHECKING:
    from rawnext.inference.extractor import Extractor


STDIN = "/dev/stdin"


def gather(names: Iterable[str], lists: Iterable[str]) -> list[Source]:
    """Sources in Kaldi's order.

    Args:
        names: files (utt: the name without its ending), folders (utt: the relative path with - for /), `-`: a list on
            standard input.   lists: files with lines `path` (utt as for a file) or `utt path`, as in wav.scp.
    Raises: InputError: a missing file, a command instead of a file, an utt that is not an id or occurs twice.
    """
    lists = [*lists, *(STDIN for name in names if name == "-")]
    sources = [source for name in names if name != "-" for source in from_name(name)]
    sources += [source for path in lists for source in from_list(path)]
    first: dict[str, Source] = {}
    for source in sources:
        if (other := first.setdefault(source.utt, source)) is not source:
            raise InputError(source.table, source.line, f"{source.path} and {other.path} would both be {source.utt}; "
                                                        "name them in a list with lines `utt path` (option -l)")
    return sorted(sources, key=lambda source: source.utt.encode())


def files(names: Sequence[str]) -> list[Source]:
    """Sources of files, with the file name as the utt.   Raises: InputError: a folder or a command."""
    for name in names:
        refuse_commands(name, name, None)
        if os.path.isdir(name):
            raise InputError(name, None, "is a folder; name files")
    return [file_source(name) for name in names]


def from_name(name: str) -> Iterator[Source]:
    """A file, or all audio files in a folder and its subfolders."""
    if not os.path.isdir(name):
        refuse_commands(name, name, None)
        yield file_source(name)._replace(utt=check_id(Path(name).stem, name))
        return
    found = [path for path in sorted(Path(name).rglob("*")) if path.is_file()]
    audio = [path for path in found if is_audio_name(path)]
    if not audio:
        raise InputError(name, None, "contains no audio files")
    for path in audio:
        utt = "-".join(path.relative_to(name).with_suffix("").parts)
        yield file_source(path)._replace(utt=check_id(utt, path))
    if others := Counter(path.suffix or "no ending" for path in found if path not in set(audio)):
        kinds = ", ".join(f"{num} of {suffix}" for suffix, num in sorted(others.items()))
        print(f"{name}: {sum(others.values())} files were skipped, not audio by their names: {kinds}", file=sys.stderr)


def from_list(path: str) -> Iterator[Source]:
    for number, line in read_lines(path):
        utt, place = ([*line.split(None, 1)] if len(line.split(None, 1)) == 2 else [Path(line.strip()).stem, line])
        place = place.strip()
        refuse_commands(place, path, number)
        yield Source(check_id(utt, path, number), place, 0.0, -1.0, path, number)


def refuse_commands(name: str, table: str, line: int | None) -> None:
    if name.endswith("|") or name.startswith("|"):
        raise InputError(table, line, f"{name[:60]!r} is a command, not a file; commands are not run")


def read_each(sources: Iterable[Source], seconds: dict[str, float]) -> Iterator[tuple[str, np.ndarray, int]]:
    """(utt, (T,) waveform, rate in Hz) of each source; `seconds` of each are noted as they come."""
    for source in progress(sources, desc="embed", unit="file"):
        wave, rate = decode(source)
        seconds[source.utt] = len(wave) / rate
        yield source.utt, wave, rate


def embed_files(names: Sequence[str], load: Callable[[], "Extractor"]) -> tuple[np.ndarray, np.ndarray, "Extractor"]:
    """(N, D) embeddings of N files, their (N,) seconds, and the model, which is loaded after all files are checked."""
    sources = files(names)
    check_sources(sources)
    extractor, seconds = load(), dict[str, float]()
    x = np.stack([vector for _, vector in extractor.embed_each(read_each(sources, seconds))])
    return x, np.array([seconds[name] for name in names]), extractor
