# SPDX-License-Identifier: Apache-2.0
"""Numbers computed by Kaldi's programs, as arrays."""

from pathlib import Path

import kaldi_native_io
import numpy as np


def read_ark(path: Path) -> tuple[list[str], np.ndarray]:
    """Keys and (N, D) vectors."""
    with kaldi_native_io.SequentialFloatVectorReader(f"ark:{path}") as reader:
        vectors = {key: np.array(value) for key, value in reader}
    return list(vectors), np.stack(list(vectors.values()))


def read_text(path: Path) -> tuple[list[str], np.ndarray]:
    """Keys and numbers of lines `key  [ 1 2 3 ]` or `key 1`."""
    words = [line.replace("[", "").replace("]", "").split() for line in path.read_text().splitlines()]
    return [row[0] for row in words], np.array([row[1:] for row in words], dtype=float)


def read_table(path: Path) -> dict[str, str]:
    return dict(line.split(None, 1) for line in path.read_text().splitlines())


def read_scores(path: Path, enroll: list[str], test: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T,) rows of the enroll and test keys that a score file names, and its scores."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return (np.array([enroll.index(row[0]) for row in rows]), np.array([test.index(row[1]) for row in rows]),
            np.array([float(row[2]) for row in rows]))
