# SPDX-License-Identifier: Apache-2.0
"""Inputs of the commands: files, folders and lists as sources with ids that are valid in Kaldi's tables."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rawnext.cli.output import print_doubts
from rawnext.data.audio import is_audio_name
from rawnext.data.media import file_source
from rawnext.data.wav import Source, check_sources, decode, read_sources
from rawnext.errors import InputError
from rawnext.files import read_lines
from rawnext.kaldi.tables import read_table
from rawnext.kaldi.words import check_id
from rawnext.log import progress

if TYPE_CHECKING:
    from rawnext.inference.extractor import Extractor


STDIN = "/dev/stdin"


def gather(names: Iterable[str], lists: Iterable[str], channel: int = 0) -> list[Source]:
    """Sources in Kaldi's order.

    Args:
        channel: of each file, counted from 0.
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
    return sorted((source._replace(channel=channel) for source in sources), key=lambda source: source.utt.encode())


def files(names: Sequence[str], channel: int) -> list[Source]:
    """Sources of files, with the file name as the utt.   Raises: InputError: a folder or a command."""
    for name in names:
        refuse_commands(name, name, None)
        if os.path.isdir(name):
            raise InputError(name, None, "is a folder; name files")
    return [file_source(name, channel) for name in names]


def from_name(name: str) -> Iterator[Source]:
    """A file, or all audio files in a folder and its subfolders."""
    if not os.path.isdir(name):
        refuse_commands(name, name, None)
        yield file_source(name)._replace(utt=as_id(Path(name).stem, name))
        return
    found = [path for path in sorted(Path(name).rglob("*")) if path.is_file()]
    audio = [path for path in found if is_audio_name(path)]
    if not audio:
        raise InputError(name, None, "contains no audio files")
    for path in audio:
        utt = "-".join(path.relative_to(name).with_suffix("").parts)
        yield file_source(path)._replace(utt=as_id(utt, str(path)))
    if others := Counter(path.suffix or "no ending" for path in found if path not in set(audio)):
        kinds = ", ".join(f"{num} of {suffix}" for suffix, num in sorted(others.items()))
        print(f"{name}: {sum(others.values())} files were skipped, not audio by their names: {kinds}", file=sys.stderr)


def from_list(path: str) -> Iterator[Source]:
    for number, line in read_lines(path):
        words, place = line.split(None, 1), line.strip()
        if len(words) == 1 or os.path.exists(place):  # a path may contain spaces
            utt = as_id(Path(place).stem, path, number)
        else:
            utt, place = check_id(words[0], path, number), words[1].strip()
        refuse_commands(place, path, number)
        yield Source(utt, place, 0.0, -1.0, path, number)


def speaker_table(path: str, channel: int) -> tuple[list[Source], list[str]]:
    """N sources and their speakers, of a data directory or of a file with lines `speaker path`.

    Raises: InputError: a damaged table, a command instead of a file, an utterance without a speaker, no line.
    """
    if os.path.isdir(path):
        sources = read_sources(path, allow_pipes=True)
        for source in sources:
            refuse_commands(source.path, source.table, source.line)
        sources = [source._replace(channel=channel) for source in sources] if channel else sources
        speakers, table = read_table(f"{path}/utt2spk", one_word=True), f"{path}/utt2spk"
        spks = [speakers.get(source.utt, "") for source in sources]
        if "" in spks:
            source = sources[spks.index("")]
            raise InputError(source.table, source.line, f"{source.utt} is not in {table}")
    else:
        sources, spks = list[Source](), list[str]()
        for number, line in read_lines(path):
            words = line.split(None, 1)
            if len(words) != 2:
                raise InputError(path, number, "expected `speaker path`")
            spks.append(check_id(words[0], path, number))
            place = words[1].strip()
            refuse_commands(place, path, number)
            sources.append(Source(place, place, 0.0, -1.0, path, number, channel))
    if not sources:
        raise InputError(path, None, "is empty")
    return sources, [check_id(spk, path) for spk in spks]


def as_id(name: str, table: str, line: int | None = None) -> str:
    """A file's name without its ending as utt id.   Raises: InputError: it cannot be one."""
    try:
        return check_id(name, table, line)
    except InputError as error:
        raise InputError(table, line, f"{error.why}; give it another id in a list with lines `utt path` (option -l)"
                         ) from None


def refuse_commands(name: str, table: str, line: int | None) -> None:
    if name.endswith("|") or name.startswith("|"):
        raise InputError(table, line, f"{name[:60]!r} is a command, not a file; commands are not run")


def read_each(sources: Iterable[Source], seconds: dict[str, float],
              doubts: dict[str, list[str]] | None = None) -> Iterator[tuple[str, np.ndarray, int]]:
    """(utt, (T,) waveform, rate in Hz) of each source; its seconds, and warnings about it, are noted as it comes."""
    from rawnext.inference.doubts import of_recording
    from rawnext.inference.extractor import checked

    for source in progress(sources, desc="embed", unit="file"):
        wave, rate = decode(source)
        try:
            checked(wave, rate)  # the reader allows for half a sample at 16 kHz
        except ValueError as error:
            raise source.fault(error) from None
        seconds[source.utt] = len(wave) / rate
        if doubts is not None:
            doubts[source.utt] = of_recording(wave, rate)
        yield source.utt, wave, rate
        del wave  # before the next one is read


def embed_listed(sources: Sequence[Source],
                 load: Callable[[], "Extractor"]) -> tuple[np.ndarray, np.ndarray, dict[str, list[str]], "Extractor"]:
    """(N, D) embeddings of N sources with their own utts, their (N,) seconds (with --vad, of speech), warnings about
    each, which are also printed on standard error, and the model, which is loaded after all files are checked.

    Raises: InputError: a file cannot be read, or the model gives no direction for it.
    """
    doubts = dict[str, list[str]]()
    check_sources(sources)
    extractor = load()
    x, seconds = embed_sources(sources, extractor, doubts)
    for name, found in doubts.items():
        print_doubts(found, name)
    return x, seconds, doubts, extractor


def embed_sources(sources: Sequence[Source], extractor: "Extractor",
                  doubts: dict[str, list[str]] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) embeddings of N sources with their own utts, and their (N,) seconds (with --vad, of speech).

    Args: doubts: takes warnings about each.
    Raises: InputError: a file cannot be read, or the model gives no direction for it.
    """
    from rawnext.inference.doubts import SHORT_S

    x, seconds = np.empty((len(sources), extractor.embedding_dim), np.float32), dict[str, float]()
    for row, (utt, vector) in enumerate(extractor.embed_each(read_each(sources, seconds, doubts), seconds)):
        x[row] = vector
        if doubts is not None and extractor.vad and seconds[utt] < SHORT_S:
            doubts[utt].append(f"Little speech: {seconds[utt]:.2f} s by --vad {extractor.vad}.")
        if not (np.isfinite(vector).all() and vector.any()):
            raise sources[row].fault("the model gives an embedding that is zero or not finite")
    return x, np.array([seconds[source.utt] for source in sources])
