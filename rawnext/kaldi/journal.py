# SPDX-License-Identifier: Apache-2.0
"""An archive of embeddings that grows utterance by utterance, so that a killed job continues where it stopped.

NAME.ark and NAME.scp come with NAME.sources: first the lines that all embeddings depend on (the head: model, options),
then one line for each utterance. While the job runs, its embeddings are in .NAME.ark.partial; the archive and then its
scp appear when it is complete. A job that finds NAME.sources compares it with its own lines, keeps the embeddings of
the utterances up to the first difference, and computes the rest. So after a change of the model nothing is kept, after
a change of one file the utterances before it, and after a change of the number of jobs the common first part.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from rawnext.files import refuse_special, writable, write_lines
from rawnext.kaldi.ark import FLOAT_HEAD

log = logging.getLogger(__name__)

Embed = Callable[[int], Iterable[tuple[str, np.ndarray]]]


def write_journal(name: Path, head: Sequence[str], utts: Sequence[tuple[str, str]], chunk: int,
                  embed: Embed) -> int:
    """Write NAME.ark, NAME.scp and NAME.sources, continuing from what an earlier job left.

    Args:
        head: lines on which all embeddings depend.   utts: (utt, line on which its embedding depends) each.
        chunk: utterances that are embedded together; a whole number of chunks is kept.
        embed: first -> (utt, (D,) embedding) of utts[first:], in order; not called if nothing is missing.
    Returns: the number of utterances kept; len(utts) if the job was complete already.
    Raises: InputError: the folder cannot be written, or a file is a FIFO, device or socket.
        ValueError: a vector that Kaldi cannot use.
    """
    lines = [*head, *(f"{utt} {source}" for utt, source in utts)]
    ids = [utt for utt, _ in utts]
    ark, scp, made_from = (name.with_name(f"{name.name}.{kind}") for kind in ("ark", "scp", "sources"))
    partial = name.with_name(f".{ark.name}.partial")
    refuse_special(ark, scp, made_from, partial)
    with writable(ark, made_from, partial, scp), only_writer(made_from) as sources:
        old_lines = sources.read().split("\n")[:-1]
        if old_lines == lines and scp.exists() and len(ends := whole_entries(ark, ids)) == len(ids):
            if not names(scp, ark):
                write_scp(scp, ark, ids, ends)
            return len(ids)
        Path(os.path.realpath(scp)).unlink(missing_ok=True)  # a link stays
        if ark.exists():
            os.replace(ark, partial)
        ends = whole_entries(partial, ids)
        kept = max(0, min(len(ends), num_common(old_lines, lines) - len(head)))
        kept -= kept % chunk if kept < len(ids) or old_lines != lines else 0
        with open(partial, "ab") as file:
            file.truncate(ends[kept - 1] if kept else 0)
            if old_lines != lines:
                replace_text(sources, lines)  # after the truncation: must not list more than the archive has
            if kept < len(ids):
                append(file, ids[kept:], embed(kept))
            file.flush()
            os.fsync(file.fileno())
        ends = whole_entries(partial, ids)
        if len(ends) < len(ids):
            raise RuntimeError(f"{partial}: {len(ends)} embeddings instead of {len(ids)}")
        shutil.move(partial, os.path.realpath(ark))  # a link stays
        write_scp(scp, ark, ids, ends)
    return kept


def write_scp(scp: Path, ark: Path, utts: Sequence[str], ends: Sequence[int]) -> None:
    write_lines(scp, (f"{utt} {ark.resolve()}:{at + len(utt.encode()) + 1}" for utt, at in zip(utts, [0, *ends])))


def names(scp: Path, ark: Path) -> bool:
    """Whether an scp names this archive; after a copy or move of its folder, it names the original."""
    with open(scp, encoding="utf-8") as file:
        return f" {ark.resolve()}:" in file.readline()


def append(file: BinaryIO, utts: Sequence[str], vectors: Iterable[tuple[str, np.ndarray]]) -> None:
    """Append each vector as soon as it is computed and flush it, so that it survives the process."""
    dim = None
    for expected, (utt, vector) in zip(utts, vectors):
        vector = np.asarray(vector, dtype="<f4")
        dim = dim or vector.size
        if utt != expected or vector.ndim != 1 or vector.size != dim or not np.isfinite(vector).all():
            raise ValueError(f"{utt}: want {dim} finite numbers of {expected}, got shape {vector.shape}")
        file.write(f"{utt} ".encode() + FLOAT_HEAD + struct.pack("<i", dim) + vector.tobytes())
        file.flush()


def whole_entries(ark: Path, utts: Iterable[str]) -> list[int]:
    """End offsets of an archive's entries, as long as they are complete and hold these utterances in this order."""
    ends: list[int] = []
    if not ark.exists():
        return ends
    with open(ark, "rb") as file:
        for utt in utts:
            start = f"{utt} ".encode() + FLOAT_HEAD
            head = file.read(len(start) + 4)
            if head[:-4] != start:
                break
            size = 4 * struct.unpack("<i", head[-4:])[0]
            if size <= 0 or len(file.read(size)) < size:
                break
            ends.append(file.tell())
    return ends


def num_common(old: Sequence[str], new: Sequence[str]) -> int:
    """Length of the common first part of two lists."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new)))


def replace_text(file: TextIO, lines: Sequence[str]) -> None:
    """Overwrite an open file, which keeps its lock; a file that was cut off lists less, but nothing wrong."""
    file.seek(0)
    file.truncate()
    file.writelines(f"{line}\n" for line in lines)
    file.flush()


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[TextIO]:
    """Open a file to read and write under an exclusive lock; waits for a job of a killed run that is still alive."""
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                log.info("waiting for another job that writes %s", path)
                fcntl.lockf(file, fcntl.LOCK_EX)
            else:
                log.warning("%s: cannot be locked (%s); make sure that no other job writes it", path, error.strerror)
        file.seek(0)
        yield file
