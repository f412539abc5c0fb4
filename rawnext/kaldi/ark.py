# SPDX-License-Identifier: Apache-2.0
"""Kaldi's archives of vectors (ark and scp), written by kaldiio and read as untrusted input.

Nothing in a file is run (kaldiio would unpickle entries and run commands), only regular files are opened, and no more
memory is allocated than the file has bytes. Many vectors of one archive are read in a few large reads.
"""

import contextlib
import glob
import math
import os
import shutil
import stat
import struct
from collections import UserDict
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path, refuse_special, write_lines
from rawnext.kaldi.tables import read_table
from rawnext.kaldi.words import check_id

KINDS = {b"FV ": ("<f4", 1), b"DV ": ("<f8", 1), b"FM ": ("<f4", 2), b"DM ": ("<f8", 2)}  # token: number, axes
TEXT_LIMIT = 1 << 20  # bytes of a vector in text form
DIM_LIMIT = 1 << 16  # of a vector: a long scp may name one vector many times
FLOAT_HEAD = b"\0BFV \4"  # of a float32 vector; an int32 and that many numbers follow
WINDOW = 1 << 22  # bytes of an archive in memory at a time


def split_place(place: str) -> tuple[str, int]:
    """Split `file.ark:offset` (or `file`, offset 0) of an scp line into (path, offset).

    Raises: ValueError: it is a command, the standard input, or a range of a matrix.
    """
    if place.startswith("|") or place.endswith("|"):
        raise ValueError("a command, not a file")
    if place == "-":
        raise ValueError("the standard input, not a file")
    if place.endswith("]"):
        raise ValueError("a range [...] of a matrix is not supported")
    path, _, offset = place.rpartition(":")
    if not (offset.isascii() and offset.isdigit() and len(offset) <= 18 and len(offset) < len(place)):
        return place, 0
    return path, int(offset)


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading; pipes and devices, which may never answer or never end, are refused."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is not a file")
    return open(path, "rb")


def _read_at(file: BinaryIO, offset: int, limit: int) -> np.ndarray:
    size = os.fstat(file.fileno()).st_size
    if offset >= size:
        raise ValueError(f"its file ends before byte {offset}")
    file.seek(offset)
    if file.read(2) != b"\0B":
        return _read_text(file, offset)
    return read_array(file, min(size, offset + 10 + 8 * limit), 1)


def read_array(file: BinaryIO, size: int, num_axes: int) -> np.ndarray:
    """A vector (1 axis) or matrix (2), after `\\0B`: its token, the byte 4 and int32 length of each axis, the numbers.

    Args: size: of the file in bytes; no more memory is allocated.
    Raises: ValueError: something else, cut off or damaged.
    """
    names = {1: "vector", 2: "matrix"}
    kind, found = KINDS.get(file.read(3), ("", 0))
    if found != num_axes:
        raise ValueError(f"a {names[found]}, not a {names[num_axes]}" if found else
                         f"no Kaldi {names[num_axes]} at this offset")
    head = file.read(5 * num_axes)
    if len(head) < 5 * num_axes or set(head[::5]) != {4}:
        raise ValueError("damaged header")
    shape = struct.unpack("<" + num_axes * "xi", head)
    num_bytes, left = math.prod(shape) * np.dtype(kind).itemsize, size - file.tell()
    if min(shape) < 0 or num_bytes > left:
        raise ValueError(f"cut off or damaged: the header states {' x '.join(map(str, shape))} numbers, {left} bytes "
                         "are left")
    return np.frombuffer(file.read(num_bytes), kind).reshape(shape)


def _read_text(file: BinaryIO, offset: int) -> np.ndarray:
    """`[ 1 2.5 -3 ]` on one line."""
    file.seek(offset)
    line = file.readline(TEXT_LIMIT).strip()
    if not (line.startswith(b"[") and line.endswith(b"]")):
        raise ValueError("no Kaldi vector at this offset")
    try:
        return np.array([float(word) for word in line[1:-1].split()])
    except ValueError:
        raise ValueError("not numbers in a text vector") from None


@contextlib.contextmanager
def switching(ark: Path, scp: Path, offsets: Mapping[str, int]) -> Iterator[Path]:
    """A temporary name for an ark with vectors at these bytes, which then replaces the ark and its scp.

    Between the two renames, an scp that named the ark would have wrong offsets. So the scp first names a second link to
    the new ark, which is deleted at the end.
    """
    spare = ark.with_name(f".{ark.name[:200]}.{os.getpid()}.new")
    with atomic_path(ark) as temporary:
        yield temporary
        if scp.exists():
            spare = next(path for i in count() if not (path := spare.with_suffix(f".{i}.new")).exists())
            try:
                os.link(temporary, spare)
            except OSError:  # a file system without hard links
                shutil.copyfile(temporary, spare)
            write_lines(scp, (f"{key} {spare}:{offset}" for key, offset in offsets.items()))
    write_lines(scp, (f"{key} {ark}:{offset}" for key, offset in offsets.items()))
    for old in ark.parent.glob(glob.escape(f".{ark.name[:200]}.") + "*.new"):  # also those of killed programs
        old.unlink(missing_ok=True)


def write_vectors(ark: PathLike, scp: PathLike, vectors: Iterable[tuple[str, np.ndarray]], one_dim: bool = True) -> int:
    """Write float32 vectors to a binary ark and its scp (absolute paths); returns their number.

    Every vector is checked before its key is written (a new id; 1-D, finite, with one_dim the first one's dimension),
    so Kaldi can read every archive that exists to its end. While an existing pair is replaced, the scp is readable at
    any time, with the old vectors or the new ones.
    """
    import kaldiio

    refuse_special(ark, scp)
    ark, scp, seen, dim = Path(ark).resolve(), Path(scp).resolve(), set[str](), 0
    if not str(ark).isprintable():
        raise InputError(ascii(str(ark)), None, "an scp cannot carry this name")
    offsets = dict[str, int]()
    with (switching(ark, scp, offsets) as ark_tmp,
          open(ark_tmp, "wb") as ark_file):
        for key, vector in vectors:
            if check_id(key, ark) in seen:
                raise InputError(ark, None, f"{key} is listed twice")
            seen.add(key)
            vector = np.asarray(vector, dtype=np.float32)
            dim = dim if dim and one_dim else vector.size
            if vector.ndim != 1 or vector.size != dim or not np.isfinite(vector).all():
                raise ValueError(f"{key}: want {dim} finite numbers, got shape {vector.shape}")
            offsets[key] = ark_file.tell() + len(key.encode()) + 1  # after "key "
            kaldiio.save_ark(ark_file, {key: vector})
    return len(seen)


class Vectors(UserDict[str, Any]):
    """The mapping that read_vectors returns: N entries, each at a byte of an archive.

    paths: the archives.   which: (N,) index of each entry's archive.   offsets: (N,) bytes.
    """

    def __init__(self, scp: PathLike, dim_limit: int = DIM_LIMIT):
        super().__init__()
        self.data, self.dim_limit = read_table(scp), dim_limit
        self.scp, self.opened = scp, ""
        self.file: BinaryIO | None = None
        number, which, offsets = dict[str, int](), list[int](), list[int]()
        for key, place in self.data.items():
            try:
                path, offset = split_place(place)
            except ValueError as why:
                raise self.fault(key, str(why)) from None
            which.append(number.setdefault(path, len(number)))
            offsets.append(offset)
        self.paths, self.which, self.offsets = list(number), np.array(which), np.array(offsets)

    def fault(self, key: str, why: str) -> InputError:
        return InputError(self.scp, list(self).index(key) + 1, f"{key}: {why}")

    def __getitem__(self, key: str) -> np.ndarray:
        try:
            return self.read(*split_place(self.data[key]))
        except ValueError as why:
            raise self.fault(key, str(why)) from None

    def open(self, path: str) -> BinaryIO:
        """The archive of this name; ValueError if it cannot be opened. The one that was read last stays open."""
        try:
            if self.file is None or path != self.opened:
                self.file = open_regular(path)
                self.opened = path
        except OSError as error:
            raise ValueError(f"{error.strerror}: {path}") from None
        return self.file

    def read(self, path: str, offset: int) -> np.ndarray:
        """The (D,) vector at a byte of a file, as finite float32; in the file it is binary (float32, float64) or text.

        Raises: ValueError: it cannot be read, is not a vector, or is not finite.
        """
        file = self.open(path)
        try:
            vector = _read_at(file, offset, self.dim_limit)
        except OSError as error:
            raise ValueError(f"{error.strerror}: {path}") from None
        if not 1 <= vector.size <= self.dim_limit:
            raise ValueError(f"a vector of {vector.size} dimensions")
        with np.errstate(over="ignore"):  # float32 turns too large numbers into infinity
            vector = vector.astype(np.float32)
        if not np.isfinite(vector).all():
            raise ValueError("is not finite")
        return vector


def read_vectors(scp: PathLike) -> Mapping[str, Any]:
    """A lazy mapping utt -> (D,) finite float32 vector over an scp of embeddings; InputError for an invalid entry."""
    return Vectors(scp)


def read_matrix(scp: PathLike, wanted: Container[str] | None = None) -> tuple[list[str], np.ndarray]:
    """Read the wanted vectors of an scp (None: all; at least the first): N keys, in its order, and (N, D) float32.

    Raises: InputError: an entry cannot be read, is not finite, or has another dimension than the first.
    """
    vectors = Vectors(scp)
    lines, keys = zip(*[(line, key) for line, key in enumerate(vectors) if wanted is None or key in wanted]
                      or [(0, next(iter(vectors)))])
    matrix = np.empty((len(keys), len(vectors[keys[0]])), np.float32)  # a list of rows would double it
    for row in _fill(matrix, vectors, np.array(lines)):
        vector = vectors[keys[row]]
        if len(vector) != matrix.shape[1]:
            raise vectors.fault(keys[row], f"{len(vector)} dimensions, the first has {matrix.shape[1]}")
        matrix[row] = vector
    return list(keys), matrix


def _fill(matrix: np.ndarray, vectors: Vectors, lines: np.ndarray) -> np.ndarray:
    """Read in blocks what can be read so; returns the rows that are left, in ascending order."""
    left, which = np.ones(len(lines), bool), vectors.which[lines]
    order = np.argsort(which, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        try:
            file = vectors.open(vectors.paths[which[rows[0]]])
        except ValueError:
            continue  # reading these rows one by one reports the fault
        for part, numbers in _read_plain(file, vectors.offsets[lines[rows]], matrix.shape[1]):
            matrix[rows[part]] = numbers
            left[rows[part]] = False
    return np.flatnonzero(left)


def _read_plain(file: BinaryIO, offsets: np.ndarray, dim: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read those vectors at N offsets that are `dim` finite numbers in binary float32; the others are left out.

    Args: offsets: (N,) bytes, in any order.
    Returns: parts of the vectors: (n,) positions in `offsets`, and (n, dim) vectors.
    """
    head = np.frombuffer(FLOAT_HEAD + struct.pack("<i", dim), np.uint8)
    size, order = os.fstat(file.fileno()).st_size, np.argsort(offsets, kind="stable")
    width = len(head) + 4 * dim
    order = order[offsets[order] <= size - width]
    for part in np.split(order, np.flatnonzero(np.diff(offsets[order] // WINDOW)) + 1) if len(order) else ():
        begin = int(offsets[part[0]])
        file.seek(begin)
        block = np.frombuffer(file.read(int(offsets[part[-1]]) + width - begin), np.uint8)
        starts = offsets[part] - begin
        vectors = sliding_window_view(block, 4 * dim)[starts + len(head)].view("<f4")
        heads = sliding_window_view(block, len(head))[starts]
        plain = (heads == head).all(axis=1) & np.isfinite(vectors).all(axis=1)
        yield part[plain], vectors if plain.all() else vectors[plain]
