# SPDX-License-Identifier: Apache-2.0
"""Read many float vectors of one archive in a few large reads; the archive is untrusted input."""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

WINDOW = 1 << 22  # bytes of an archive in memory at a time
HEAD = b"\0BFV \4"  # followed by an int32 and that many float32


def read_plain(file: BinaryIO, offsets: np.ndarray, dim: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read those vectors at N offsets that are `dim` finite numbers in binary float32; the others are left out.

    Args: offsets: (N,) bytes, in any order.
    Returns: parts of the vectors: (n,) positions in `offsets`, and (n, dim) vectors.
    """
    size, order = os.fstat(file.fileno()).st_size, np.argsort(offsets, kind="stable")
    width = len(HEAD) + 4 + 4 * dim
    order = order[offsets[order] <= size - width]
    for part in np.split(order, np.flatnonzero(np.diff(offsets[order] // WINDOW)) + 1) if len(order) else ():
        begin = int(offsets[part[0]])
        file.seek(begin)
        block = np.frombuffer(file.read(int(offsets[part[-1]]) + width - begin), np.uint8)
        vectors, plain = _plain(block, offsets[part] - begin, dim)
        yield part[plain], vectors


def _plain(block: np.ndarray, starts: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the N vectors at `starts` in a block of bytes: the (n, dim) plain ones, and (N,) bool, which are plain."""
    head = np.frombuffer(HEAD + struct.pack("<i", dim), np.uint8)
    heads = sliding_window_view(block, len(head))[starts]
    vectors = sliding_window_view(block, 4 * dim)[starts + len(head)].view("<f4")
    plain = (heads == head).all(axis=1) & np.isfinite(vectors).all(axis=1)
    return vectors if plain.all() else vectors[plain], plain
