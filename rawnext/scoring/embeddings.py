# SPDX-License-Identifier: Apache-2.0
"""Embeddings of both sides of a trial list: read, transformed by a back end's mean and LDA, averaged per model."""

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike, readable
from rawnext.identity import one_model, origin_of_embeddings
from rawnext.kaldi.ark import read_matrix
from rawnext.kaldi.tables import indices_of, read_enroll_map, read_table
from rawnext.scoring.cosine import blocks, unit_vectors
from rawnext.scoring.kaldi_models import read_transform, read_vector

SAME = 1e-6  # relative differences of numbers up to this are rounding
BLOCK = 1 << 14  # embeddings in float64 at a time


class Side(NamedTuple):
    """Embeddings of the enroll or test side.

    keys: N utts or models.   x: (N, D) float32, no zero vectors.   num_utts: (N,) utterances averaged in each.
    model: fingerprint of the embedding model (rawnext/identity.py); empty: not known.
    """

    keys: list[str]
    x: np.ndarray
    num_utts: np.ndarray
    model: str = ""

    @property
    def row_of(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys)}


class Transform(NamedTuple):
    """Transform of each embedding x before scoring: linear @ (x - mean) + offset.

    mean: (D,).   linear: (K, D); None: identity.   offset: (K,).
    """

    mean: np.ndarray
    linear: np.ndarray | None = None
    offset: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, K) float32."""
        if self.linear is None or self.offset is None:
            return x - self.mean.astype(np.float32)
        out = np.empty((len(x), len(self.linear)), np.float32)
        for part in blocks(len(x), 1, BLOCK):
            out[part] = (x[part] - self.mean) @ self.linear.T + self.offset
        return out


def backend_transform(folder: Path, lda: bool) -> Transform:
    """The transform of mean.vec and, with lda, transform.mat in a folder.

    Raises: InputError: one is missing or damaged, or their sizes do not match.
    """
    mean = read_vector(folder / "mean.vec")
    return Transform(mean, *read_transform(folder / "transform.mat", len(mean))) if lda else Transform(mean)


def check_nonzero(keys: list[str], x: np.ndarray, path: PathLike) -> None:
    """Raise InputError if a vector is zero; path: the table that lists the keys."""
    zero = ~x.any(axis=1)
    if zero.any():
        key = keys[int(np.argmax(zero))]
        raise InputError(path, list(read_table(path)).index(key) + 1, f"{key} is a zero vector")


def read_side(scp: PathLike, transform: Transform | None = None, wanted: Container[str] | None = None) -> Side:
    """The embeddings of an scp, or of the wanted utts in it, transformed.

    Raises: InputError: one cannot be read, is zero, or has another dimension than the transform; all are equal; they
        are of several models, or of another folder than that of a copied scp.
    """
    keys, x = read_matrix(scp, wanted)
    model = origin_of_embeddings(scp)
    check_nonzero(keys, x, scp)
    if len(x) > 1 and np.ptp(x, axis=0).max() <= SAME * np.abs(x[0]).max():
        raise InputError(scp, None, f"all {len(x)} embeddings are equal: the model gives every utterance the same one")
    if transform:
        if x.shape[1] != len(transform.mean):
            raise InputError(scp, None, f"{x.shape[1]} dimensions, but the back end has {len(transform.mean)}")
        x = transform(x)
        check_nonzero(keys, x, scp)
    return Side(keys, x, np.ones(len(keys), int), model)


def read_cohort(path: str, other: PathLike, model: str) -> np.ndarray:
    """(C, D) embeddings of a cohort, an scp or a file in NumPy's format.

    Args: other, model: another file and its fingerprint, which that of the cohort must not contradict.
    Raises: InputError: they are missing, damaged, or of another model.
    """
    if path.endswith(".npy"):
        return load_cohort(path)
    side = read_side(path)
    one_model({other: model, path: side.model})
    return side.x


def load_cohort(path: PathLike) -> np.ndarray:
    """(C, D) float32 of a cohort in NumPy's format.   Raises: InputError: it is missing, damaged or another array."""
    with readable(path):
        try:
            cohort = np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # no memory for what is not there
        except (ValueError, EOFError) as error:
            raise InputError(path, None, f"cannot be read as an array: {error}") from None
    if cohort.ndim != 2 or cohort.dtype != np.float32 or len(cohort) < 2 or not np.isfinite(cohort).all():
        raise InputError(path, None, f"want (C, D) finite float32 with two rows or more, got {cohort.dtype} "
                                     f"{cohort.shape}")
    if not cohort.any(axis=1).all():
        raise InputError(path, None, f"row {int(np.argmin(cohort.any(axis=1)))} is a zero vector")
    return cohort


def enroll_models(side: Side, enroll_map: PathLike, scp: PathLike, unit: bool) -> Side:
    """The models of an enroll map, each the average of its utterances' embeddings.

    Args:
        scp: source of the side, for messages.   unit: average unit vectors, so that all utterances weigh the same.
    Raises: InputError: the map is malformed, has an unknown utt, or an average is zero.
    """
    row_of = side.row_of
    models = read_enroll_map(enroll_map, row_of, scp)
    vectors = unit_vectors(side.x) if unit else side.x
    means = np.empty((len(models), side.x.shape[1]), np.float32)
    for row, utts in enumerate(models.values()):
        means[row] = vectors[[row_of[utt] for utt in utts]].mean(axis=0, dtype=np.float64)
    check_nonzero(list(models), means, enroll_map)
    return Side(list(models), means, np.array([len(utts) for utts in models.values()]), side.model)


def read_segments(scp: PathLike, segments: Mapping[str, Sequence[str]], utts: Iterable[str]) -> Side:
    """The utts, each with the unit vectors of its segments: x is (N, S, D), with zero vectors after the last segment.

    Raises: InputError: a segment is missing, or as read_side.
    """
    keys = list(dict.fromkeys(utts))
    side = read_side(scp, wanted=set(chain.from_iterable(segments[key] for key in keys)))
    row_of, count = side.row_of, np.array([len(segments[key]) for key in keys])
    if missing := [(key, name) for key in keys for name in segments[key] if name not in row_of]:
        raise InputError(scp, None, f"{missing[0][1]}, a segment of {missing[0][0]}, is missing")
    x = np.zeros((len(keys), count.max(), side.x.shape[1]), np.float32)
    rows = [row_of[name] for key in keys for name in segments[key]]
    x[np.arange(count.max()) < count[:, None]] = unit_vectors(side.x)[rows]
    return Side(keys, x, count, side.model)


class Sides(NamedTuple):
    """Both sides of T trials. enroll_index, test_index: (T,) rows of enroll and test."""

    enroll: Side
    test: Side
    enroll_index: np.ndarray
    test_index: np.ndarray

    @property
    def model(self) -> str:
        """Fingerprint of the embedding model; empty: not known."""
        return self.enroll.model or self.test.model

    def with_itself(self, models: Mapping[str, Sequence[str]] | None = None) -> np.ndarray:
        """(T,) bool: the test utterance is also on the enroll side.   models: model -> its utterances."""
        row_of = self.test.row_of
        pairs = [row * len(row_of) + row_of[utt] for row, key in enumerate(self.enroll.keys)
                 for utt in (models[key] if models else (key,)) if utt in row_of]
        return np.isin(self.enroll_index * len(row_of) + self.test_index, pairs)

    def with_a_copy(self) -> np.ndarray:
        """(T,) bool: both sides have the same embedding; of segments, the same first one."""
        enroll, test = (side.x if side.x.ndim == 2 else side.x[:, 0] for side in (self.enroll, self.test))
        same = enroll[:, :2].sum(axis=1)[self.enroll_index] == test[:, :2].sum(axis=1)[self.test_index]
        rows = np.flatnonzero(same)
        same[rows] = (enroll[self.enroll_index[rows]] == test[self.test_index[rows]]).all(axis=1)
        return same


def check_sides(enroll: Side, test: Side, enroll_scp: str, test_scp: str) -> None:
    """Raise InputError if two sides are of different models or dimensions."""
    one_model({enroll_scp: enroll.model, test_scp: test.model})
    if enroll.x.shape[-1] != test.x.shape[-1]:
        raise InputError(test_scp, None, f"{test.x.shape[-1]} dimensions, but {enroll_scp} has {enroll.x.shape[-1]}")


def read_sides(enroll_scp: str, test_scp: str, transform: Transform | None, enroll_map: str | None, unit: bool,
               trials: PathLike, enroll_ids: Sequence[str], test_ids: Sequence[str]) -> Sides:
    """The embeddings of a trial list with these ids in its columns; see read_side and enroll_models."""
    models = read_enroll_map(enroll_map).values() if enroll_map else ()
    enroll_utts = set(chain(*models)) if models else set(enroll_ids)
    test_utts = set(test_ids)
    same_scp = test_scp == enroll_scp
    enroll = read_side(enroll_scp, transform, enroll_utts | test_utts if same_scp else enroll_utts)
    test = enroll if same_scp else read_side(test_scp, transform, test_utts)
    check_sides(enroll, test, enroll_scp, test_scp)
    if enroll_map:
        enroll = enroll_models(enroll, enroll_map, enroll_scp, unit)
    return Sides(enroll, test, indices_of(enroll_ids, enroll.row_of, trials, enroll_map or enroll_scp),
                 indices_of(test_ids, test.row_of, trials, test_scp))


def read_segment_sides(enroll_scp: str, test_scp: str, table: PathLike, trials: PathLike, enroll_ids: Sequence[str],
                       test_ids: Sequence[str]) -> Sides:
    """The segments of a trial list with these ids in its columns.   table: lines `utt segment segment ...`.

    Raises: InputError: as read_segments, or an id is not in the table.
    """
    segments = read_enroll_map(table)
    place = {utt: number for number, utt in enumerate(segments)}
    for ids in (enroll_ids, test_ids):
        indices_of(ids, place, trials, table)
    enroll, test = read_segments(enroll_scp, segments, enroll_ids), read_segments(test_scp, segments, test_ids)
    check_sides(enroll, test, enroll_scp, test_scp)
    return Sides(enroll, test, indices_of(enroll_ids, enroll.row_of, trials, enroll_scp),
                 indices_of(test_ids, test.row_of, trials, test_scp))
