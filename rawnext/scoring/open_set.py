# SPDX-License-Identifier: Apache-2.0
"""Errors of open-set identification, against the size of the gallery.

A probe is searched in a gallery of n speakers; the answer is the speaker with the highest score if that reaches a
threshold, and otherwise nobody.
FPIR: share of the probes of speakers outside the gallery that are answered with a speaker.
FNIR: share of the probes of speakers in the gallery that are not answered with their speaker.
Source: ISO/IEC 19795-1:2021, false-positive and false-negative identification rates, with a candidate list of one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rawnext.scoring.bootstrap import bootstrap, interval, units_of
from rawnext.scoring.cosine import blocks
from rawnext.scoring.det import Det, det_points

SEARCHES = 1 << 24  # scores in memory at a time, beyond the matrix itself


class Searches(NamedTuple):
    """N searches.   is_mated: (N,) bool, the probe's speaker is in the gallery.   speaker: (N,) of the probe.

    score: (N,) highest score; -inf for a mated probe whose own speaker has not the highest.   best: (N,) speaker with
    the highest score; for a mated probe, its own speaker.
    """

    score: np.ndarray
    is_mated: np.ndarray
    speaker: np.ndarray
    best: np.ndarray


class Row(NamedTuple):
    """Errors at one size and FPIR.   size: speakers in the gallery.   fpir, fnir, closed: fractions.

    closed: FNIR without a threshold (the answer is never nobody).   low, high: 95 % interval of fnir; NaN without one.
    """

    size: int
    fpir: float
    fnir: float
    low: float
    high: float
    closed: float


def search(scores: np.ndarray, speaker: np.ndarray, size: int, repeats: int, seed: int = 0) -> Searches:
    """All probes against random galleries, pooled.

    Args:
        scores: (P, S) of P probes with S speakers.   speaker: (P,) of each probe, 0 to S - 1.
        size: speakers in a gallery, below S.   repeats: number of galleries.   seed: the same galleries everywhere.
    """
    random = np.random.RandomState(seed)  # its stream is frozen (NEP 19)
    parts = []
    for _ in range(repeats):
        gallery = np.sort(random.permutation(scores.shape[1])[:size])
        is_mated = np.isin(speaker, gallery)
        highest, best = np.empty(len(scores), scores.dtype), np.empty(len(scores), np.int64)
        for part in blocks(len(scores), size, SEARCHES):
            found = scores[part, gallery]
            place = found.argmax(axis=1)
            highest[part], best[part] = found[np.arange(len(found)), place], gallery[place]
        missed = is_mated & (best != speaker)
        parts.append(Searches(np.where(missed, -np.inf, highest), is_mated, speaker,
                              np.where(is_mated, speaker, best)))
    return Searches(*(np.concatenate(columns) for columns in zip(*parts)))


def fnir_of(det: Det, fpir: float) -> np.ndarray:
    """(...) FNIR at the loosest threshold whose FPIR is at most `fpir`; see Searches for the scores."""
    place = (det.fpr <= fpir).sum(axis=-1)[..., None] - 1
    return np.take_along_axis(det.fnr, place, axis=-1)[..., 0]


def identification_errors(scores: np.ndarray, speaker: np.ndarray, sizes: Sequence[int], fpirs: Sequence[float],
                          repeats: int, seed: int = 0) -> list[Row]:
    """A row for each size of the gallery and FPIR; see search for the arguments.

    The interval is that of rawnext.scoring.bootstrap, over the speakers of the probes and of the highest scores.
    Raises: ValueError: a size is not in 1 to S - 1.
    """
    if wrong := [size for size in sizes if not 0 < size < scores.shape[1]]:
        raise ValueError(f"a gallery of {wrong[0]} speakers; want 1 to {scores.shape[1] - 1}, because probes of others "
                         "are needed")
    rows = []
    for size in sizes:
        found = search(scores, speaker, size, repeats, seed)
        det = det_points(found.score[found.is_mated], found.score[~found.is_mated])
        closed = float(np.mean(np.isinf(found.score[found.is_mated])))
        speakers = np.unique([found.speaker, found.best], return_inverse=True)[1].reshape(2, -1)
        bounds = np.full((2, len(fpirs)), np.nan)
        if not units_of(found.is_mated, speakers).too_few:
            measures = [lambda det, fpir=fpir: fnir_of(det, fpir) for fpir in fpirs]
            estimate, replicates = bootstrap([found.score], found.is_mated, speakers, measures)
            bounds = interval(estimate, replicates)[:, 0]
        rows += [Row(size, fpir, float(fnir_of(det, fpir)), low, high, closed)
                 for fpir, low, high in zip(fpirs, *bounds.tolist())]
    return rows
