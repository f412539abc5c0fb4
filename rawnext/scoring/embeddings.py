# SPDX-License-Identifier: Apache-2.0
"""The embeddings of the two sides of a trial list: read, moved by a back end's mean and LDA, averaged by model."""

from collections.abc import Container, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.kaldi.ark import read_matrix
from rawnext.kaldi.tables import read_enroll_map, read_table
from rawnext.scoring.cosine import unit_vectors
from rawnext.scoring.kaldi_models import read_transform, read_vector

BLOCK = 1 << 14  # embeddings that are in float64 at a time


class Side(NamedTuple):
    """keys: N utts or models.   x: (N, D) float32, none of which is zero.   num_utts: (N,) utterances behind each."""

    keys: list[str]
    x: np.ndarray
    num_utts: np.ndarray


class Front(NamedTuple):
    """What is done to each embedding x before it is scored: linear @ (x - mean) + offset.

    mean: (D,).   linear: (K, D), None: the identity.   offset: (K,).
    """

    mean: np.ndarray
    linear: np.ndarray | None = None
    offset: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, K) float32 of (N, D)."""
        if self.linear is None or self.offset is None:
            return x - self.mean.astype(np.float32)
        out = np.empty((len(x), len(self.linear)), np.float32)
        for start in range(0, len(x), BLOCK):
            part = slice(start, start + BLOCK)
            out[part] = (x[part] - self.mean) @ self.linear.T + self.offset
        return out


def read_front(folder: Path, lda: bool) -> Front:
    """mean.vec and, if wanted, transform.mat of a folder of Kaldi's models.

    Raises: InputError: one is missing or damaged, or their sizes do not fit.
    """
    mean = read_vector(folder / "mean.vec")
    return Front(mean, *read_transform(folder / "transform.mat", len(mean))) if lda else Front(mean)


def check_directions(keys: list[str], x: np.ndarray, path: PathLike) -> None:
    """Raise InputError if a vector is zero; path: the table whose keys these are, or some of them."""
    zero = ~x.any(axis=1)
    if zero.any():
        key = keys[int(np.argmax(zero))]
        raise InputError(path, list(read_table(path)).index(key) + 1, f"{key} is a zero vector, which has no direction")


def read_side(scp: PathLike, front: Front | None = None, wanted: Container[str] | None = None) -> Side:
    """The embeddings of an scp, or those of the wanted utts, moved by `front`.

    Raises: InputError: one cannot be read, is zero, or does not fit.
    """
    keys, x = read_matrix(scp, wanted)
    check_directions(keys, x, scp)
    if front:
        if x.shape[1] != len(front.mean):
            raise InputError(scp, None, f"{x.shape[1]} dimensions, but the back end has {len(front.mean)}")
        x = front(x)
        check_directions(keys, x, scp)
    return Side(keys, x, np.ones(len(keys), int))


def enroll_models(side: Side, enroll_map: PathLike, scp: PathLike, unit: bool) -> Side:
    """The models of an enroll map, each the average of its utterances' embeddings.

    Args:
        scp: whose utts the side has, for messages.   unit: average unit vectors (cosine), so that each counts alike.
    Raises: InputError: the map is wrong, names an utt that is not there, or the average is zero.
    """
    models = read_enroll_map(enroll_map)
    place = {key: row for row, key in enumerate(side.keys)}
    vectors = unit_vectors(side.x) if unit else side.x
    means = np.empty((len(models), side.x.shape[1]), np.float32)
    for row, utts in enumerate(models.values()):
        if missing := [utt for utt in utts if utt not in place]:
            raise InputError(enroll_map, row + 1, f"{missing[0]} not in {scp}")
        means[row] = vectors[[place[utt] for utt in utts]].mean(axis=0, dtype=np.float64)
    check_directions(list(models), means, enroll_map)
    return Side(list(models), means, np.array([len(utts) for utts in models.values()]))


def rows_of(wanted: Sequence[str], side: Side, trials: PathLike, scp: PathLike) -> np.ndarray:
    """(T,) rows of a side that the trials name, line by line.

    Raises: InputError: one is not there.
    """
    place = {key: row for row, key in enumerate(side.keys)}
    rows = np.fromiter(map(place.get, wanted, repeat(-1)), np.int64, len(wanted))
    if (rows < 0).any():
        line = int(np.argmax(rows < 0))
        raise InputError(trials, line + 1, f"{wanted[line]} not in {scp}")
    return rows


class Sides(NamedTuple):
    """Both sides of T trials. enroll, test: the sides; enroll_index, test_index: (T,) rows of them."""

    enroll: Side
    test: Side
    enroll_index: np.ndarray
    test_index: np.ndarray


def read_sides(enroll_scp: str, test_scp: str, front: Front | None, enroll_map: str | None, unit: bool,
               trials: PathLike, enroll_ids: Sequence[str], test_ids: Sequence[str]) -> Sides:
    """The embeddings that a trial list wants, in columns of which these ids stand; see read_side and enroll_models."""
    models = read_enroll_map(enroll_map).values() if enroll_map else ()
    enrolled, tested = set(chain(*models)) if models else set(enroll_ids), set(test_ids)
    one_set = test_scp == enroll_scp
    enroll = read_side(enroll_scp, front, enrolled | tested if one_set else enrolled)
    test = enroll if one_set else read_side(test_scp, front, tested)
    if enroll.x.shape[1] != test.x.shape[1]:
        raise InputError(test_scp, None, f"{test.x.shape[1]} dimensions, but {enroll_scp} has {enroll.x.shape[1]}")
    if enroll_map:
        enroll = enroll_models(enroll, enroll_map, enroll_scp, unit)
    return Sides(enroll, test, rows_of(enroll_ids, enroll, trials, enroll_map or enroll_scp),
                 rows_of(test_ids, test, trials, test_scp))
