# SPDX-License-Identifier: Apache-2.0
"""How well each embedding agrees with the speaker label of its utterance."""

from typing import NamedTuple

import numpy as np

from rawnext.scoring.cosine import blocks, unit_vectors

BLOCK = 1 << 24  # numbers at a time


class Agreement(NamedTuple):
    """(N,) each. own: cosine to the mean of the speaker's other sessions; NaN if there is none.   nearest: the most
    similar other speaker.   other: cosine to the mean of that speaker.
    """

    own: np.ndarray
    nearest: np.ndarray
    other: np.ndarray


def label_agreement(x: np.ndarray, speaker: np.ndarray, session: np.ndarray) -> Agreement:
    """Compare each of N embeddings with the means of its own and of all other speakers, means of unit vectors.

    The own session is left out, because utterances of one session are similar and usually have the same wrong label.

    Args: x: (N, D), no zero vectors.   speaker: (N,) 0 to S - 1, S of 2 or more.   session: (N,) 0 and up; those of two
        speakers differ, whatever their numbers.
    """
    x, num = unit_vectors(x), int(speaker.max()) + 1
    _, pair = np.unique(speaker * (int(session.max()) + 1) + session, return_inverse=True)
    totals, parts = sums(x, speaker, num), sums(x, pair, int(pair.max()) + 1)
    own, other, nearest = np.empty(len(x)), np.empty(len(x)), np.empty(len(x), np.int64)
    means = (totals / np.maximum(np.linalg.norm(totals, axis=1, keepdims=True), 1e-12)).astype(x.dtype).T
    for part in blocks(len(x), max(means.shape), BLOCK):
        rest, cosines = totals[speaker[part]] - parts[pair[part]], x[part] @ means
        with np.errstate(invalid="ignore", divide="ignore"):
            own[part] = np.einsum("nd,nd->n", x[part], rest) / np.linalg.norm(rest, axis=1)
        rows = np.arange(len(cosines))
        cosines[rows, speaker[part]] = -np.inf
        nearest[part] = cosines.argmax(1)
        other[part] = cosines[rows, nearest[part]]
    own[np.bincount(pair)[pair] == np.bincount(speaker)[speaker]] = np.nan  # the speaker's only session
    return Agreement(own, nearest, other)


def sums(x: np.ndarray, group: np.ndarray, num: int) -> np.ndarray:
    """(num, D) float64 sums of the rows of x (N, D) in each group; every group has a row."""
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], np.arange(num))
    return np.add.reduceat(x[order], first, axis=0, dtype=np.float64)
