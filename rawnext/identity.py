# SPDX-License-Identifier: Apache-2.0
"""What a file was made of: the model, and the audio.

A model is known by its fingerprint (training/checkpoint.py), in a file NAME.sources next to what was made with it.

The fingerprint is in embedding.JOB.sources (kaldi/journal.py), in the sources of scores and back ends, in
train_info.json, calibrations, evaluations and galleries. Programs that read two of these compare them with `one_model`.
A file without it, such as Kaldi's embeddings, may belong to any model.

Embeddings of speech alone are not comparable with those of whole recordings, so the fingerprint of files that were made
with voice activity detection is followed by its kind, such as `vad=energy`.
"""

import contextlib
import functools
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rawnext.errors import InputError
from rawnext.files import PathLike, is_special, read_lines, write_lines
from rawnext.stamp import sha256

COMPUTATION = ""  # to be changed whenever the same model and audio give other embeddings
KEY = "fingerprint"  # in JSON files, and at the start of the first line of NAME.sources
EMBEDDINGS = "embedding.*.sources"
WEIGHTS = ("model.pt", "model.safetensors")  # of a trained and of an exported model
VAD = " vad="


def weights_path(exp: PathLike) -> Path:
    """The first of WEIGHTS that is in a folder; model.pt if there is none."""
    return next((path for name in WEIGHTS if (path := Path(exp) / name).exists()), Path(exp) / WEIGHTS[0])


def with_vad(fingerprint: str, kind: str) -> str:
    """The fingerprint of embeddings that were made with this kind of voice activity detection; empty: with none."""
    return f"{fingerprint}{VAD}{kind}" if kind and fingerprint else fingerprint


def network_of(fingerprint: object) -> object:
    """The fingerprint of the model alone, to be compared with that of its training."""
    return fingerprint.partition(VAD)[0] if isinstance(fingerprint, str) else fingerprint


def described(fingerprint: object, other: object) -> str:
    """The beginning of a fingerprint, and the voice activity detection if the other differs in it."""
    model, _, kind = str(fingerprint).partition(VAD)
    differ = kind != str(other).partition(VAD)[2]
    return model[:12] + (f" with voice activity detection ({kind})" if kind else
                         " without voice activity detection") * differ


def one_model(found: Mapping[Any, object]) -> str:
    """The fingerprint that all files have; empty if none has one.

    Args: found: file -> its fingerprint; not a text: unknown.
    Raises: InputError: two differ.
    """
    first: Any = ""
    for path, value in found.items():
        if not isinstance(value, str) or not value:
            continue
        if first and value != found[first]:
            other = found[first]
            raise InputError(path, None, f"belongs to model {described(value, other)}, but {os.fspath(first)} to model "
                                         f"{described(other, value)}; one of them must be made again")
        first = first or path
    return str(found[first]) if first else ""


def write_origin(path: PathLike, fingerprint: str) -> None:
    """Record the model of a file that has just been written; without a fingerprint, or for a device, nothing."""
    sources = Path(f"{os.fspath(path)}.sources")
    if fingerprint and not is_special(path):
        write_lines(sources, [f"{KEY} {fingerprint}", f"sha256 {sha256(path)}"])
    else:
        sources.unlink(missing_ok=True)


def origin(path: PathLike) -> str:
    """The fingerprint that write_origin recorded; empty if there is none, or the file has changed since."""
    sources = Path(f"{os.fspath(path)}.sources")
    lines = [line for _, line in read_lines(sources)] if sources.is_file() else []
    if len(lines) != 2 or lines[1] != f"sha256 {sha256(path)}":
        return ""
    return lines[0].removeprefix(f"{KEY} ")


def origin_of_embeddings(scp: PathLike) -> str:
    """The fingerprint of the model that made the embeddings of an scp; empty if it is not known.

    Raises: InputError: they are of several models; or the scp is in a folder of embeddings that was copied or moved,
        and names the archives of the original.
    """
    folder = Path(scp).resolve().parent
    is_own, found = any(folder.glob(EMBEDDINGS)), dict[PathLike, object]()
    for ark in arks_of(scp):
        if is_own and ark.resolve().parent != folder:
            raise InputError(scp, None, f"names {ark} of another folder, as after a copy or move; steps/extract.sh "
                                        "makes it again")
        sources = ark.with_suffix(".sources")
        for path in [sources] if sources.is_file() else ark.parent.glob(EMBEDDINGS):
            found[path] = head_of(path)
    return one_model(found)


def head_of(sources: Path) -> str:
    """The fingerprint in the first line of embedding.JOB.sources; empty if it has none."""
    with open(sources, encoding="utf-8", errors="replace") as file:
        key, _, value = file.readline(200).rstrip("\n").partition(" ")
    return value if key == KEY else ""


def arks_of(scp: PathLike) -> Iterator[Path]:
    """The archives that an scp names, each once."""
    with open(scp, encoding="utf-8", errors="replace") as file:
        places = {line.rstrip().partition(" ")[2].rpartition(":")[0] for line in file}
    return map(Path, sorted(places - {""}))


def versions(source: str, checksum: bool = False) -> str:
    """Sizes and times of a file, of the archive of FILE:OFFSET, or of the files that a command ending in | names; of
    a missing file, nothing.   checksum: SHA-256 of their content in place of times, which takes as long as reading it.
    """
    try:
        paths = shlex.split(source.removesuffix("|")) if source.endswith("|") else [source]
    except ValueError:  # an open quote
        paths = source.split()
    if len(paths) == 1 and not os.path.exists(source):
        paths = [source.rpartition(":")[0]]
    found = []
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                found.append(f"{status.st_size} {content_of(path) if checksum else status.st_mtime_ns}")
    return " ".join(found)


content_of = functools.lru_cache(1000)(sha256)  # segments of a recording follow each other
