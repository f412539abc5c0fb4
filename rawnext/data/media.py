# SPDX-License-Identifier: Apache-2.0
"""Audio files that no table lists: of the command line, the page and Python."""

import math
import os

import numpy as np

from rawnext.data.pipes import memory_file, path_of
from rawnext.data.wav import Source, decode
from rawnext.errors import InputError
from rawnext.files import PathLike


def file_source(path: PathLike, channel: int = 0) -> Source:
    """A file that is not listed in a table."""
    name = os.fspath(path)
    return Source(name, name, 0.0, -1.0, name, None, channel)


def read_audio(path: PathLike, channel: int = 0, longest_s: float = math.inf) -> tuple[np.ndarray, int]:
    """A channel of an audio file of any format as (T,) float32 in [-1, 1], and its rate in Hz.

    Args: channel: counted from 0.   longest_s: limit in seconds.
    Raises: InputError: missing, undecodable, cut off, longer than longest_s, shorter than 0.1 s, NaN or infinity, only
        zeros or other audio that cannot be speech.
    """
    return decode(file_source(path, channel), longest_s=longest_s)


def read_bytes(data: bytes | bytearray, longest_s: float, channel: int = 0,
               doubts: list[str] | None = None) -> tuple[np.ndarray, int]:
    """As read_audio, for a file in memory, which is never written to disk.   doubts: see decode."""
    with memory_file() as file:
        file.write(data)
        file.flush()
        try:
            return decode(file_source(path_of(file), channel), longest_s=longest_s, doubts=doubts)
        except InputError as error:
            raise InputError("audio", None, error.why) from None
