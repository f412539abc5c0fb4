# SPDX-License-Identifier: Apache-2.0
"""Linear discriminant analysis: the directions in which speakers differ most for how much their utterances do."""

import numpy as np
from scipy.linalg import eigh


def fit_lda(x: np.ndarray, speaker: np.ndarray, dim: int, shrinkage: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Mean and projection that make the within-speaker covariance of (x - mean) @ projection the identity.

    Args:
        x: (N, D) vectors.   speaker: (N,) whose each is.   dim: directions kept, at most D and one less than speakers.
        shrinkage: share of the mean within-speaker variance that is added to each direction's.
    Returns: (D,) mean, (D, dim) projection, the most telling direction first.
    Raises: ValueError: dim is too large, or no speaker has two vectors.
    Source: Fisher 1936; Bishop, "Pattern Recognition and Machine Learning", section 4.1.6.
    """
    _, label, count = np.unique(speaker, return_inverse=True, return_counts=True)
    if not 1 <= dim <= min(x.shape[1], len(count) - 1):
        raise ValueError(f"LDA of {len(count)} speakers and {x.shape[1]} dimensions has no {dim} directions")
    if count.max() < 2:
        raise ValueError("LDA wants two vectors of some speaker, each has one")
    x = np.asarray(x, dtype=np.float64)
    mean = x.mean(axis=0)
    centre = np.zeros((len(count), x.shape[1]))
    np.add.at(centre, label, x)
    centre /= count[:, None]
    residual = x - centre[label]
    within = residual.T @ residual / len(x)
    within += shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    spread = (centre - mean) * np.sqrt(count / len(x))[:, None]
    vectors = eigh(spread.T @ spread, within)[1]  # ascending
    return mean, vectors[:, ::-1][:, :dim]
