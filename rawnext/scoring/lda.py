# SPDX-License-Identifier: Apache-2.0
"""Linear discriminant analysis: directions of the largest between-speaker relative to within-speaker variance."""

import numpy as np
import scipy

PER_DIM = 4  # vectors beyond one for each speaker that LDA and PLDA want for each dimension
FLOOR = 1e-6  # of eigenvalues of the whitened covariance, relative to its largest; Kaldi's default


def speaker_means(x: np.ndarray, speaker: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S, D) speaker means, (N,) row of each vector's speaker, (S,) vectors per speaker."""
    _, label, count = np.unique(speaker, return_inverse=True, return_counts=True)
    total = np.zeros((len(count), x.shape[1]))
    np.add.at(total, label, x)
    return total / count[:, None], label, count


def degrees_of_freedom(x: np.ndarray, speaker: np.ndarray) -> int:
    """N - S: different vectors of (N, D), less one for each speaker: those that show within-speaker variance."""
    rows = np.ascontiguousarray(x).view(np.dtype((np.void, x.itemsize * x.shape[1])))
    return len(np.unique(rows)) - len(np.unique(speaker))


def principal_directions(x: np.ndarray, num: int) -> np.ndarray:
    """(D, num) directions of the largest total variance of (N, D) vectors."""
    centred = np.asarray(x, dtype=np.float64) - x.mean(axis=0, dtype=np.float64)
    return scipy.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :num]


def fit_lda(x: np.ndarray, speaker: np.ndarray, dim: int, total_covariance_factor: float = 0.0,
            shrinkage: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and projection that whiten a covariance and sort directions by between-speaker variance.

    The whitened covariance is (1 - f) within-speaker + f total covariance, with the factor f.

    Args:
        x: (N, D) vectors.   speaker: (N,) speaker of each.   dim: directions, at most D and S - 1.
        total_covariance_factor: f, 0...1; above 0 directions of large between-speaker variance are scaled down.
        shrinkage: share of the covariance's mean variance that is added to each direction.
    Returns: (D,) mean, (D, dim) projection, the most discriminative direction first.
    Raises: ValueError: dim is too large, no speaker has two vectors, or without shrinkage N - S (degrees_of_freedom) is
        below D: the directions in which the vectors show no within-speaker variance would win.
    Source: Fisher 1936; Bishop, "Pattern Recognition and Machine Learning", section 4.1.6; Kaldi's ivector-compute-lda.
    """
    x = np.asarray(x, dtype=np.float64)
    centre, label, count = speaker_means(x, speaker)
    if not 1 <= dim <= min(x.shape[1], len(count) - 1):
        raise ValueError(f"LDA of {len(count)} speakers and {x.shape[1]} dimensions cannot have {dim} directions")
    if count.max() < 2:
        raise ValueError("LDA needs a speaker with two vectors; each has one")
    if not shrinkage and (free := degrees_of_freedom(x, speaker)) < x.shape[1]:
        raise ValueError(f"LDA of {x.shape[1]} dimensions needs as many different vectors and one for each speaker, "
                         f"got {free + len(count)} of {len(count)} speakers")
    mean = x.mean(axis=0)
    residual = x - centre[label]
    within = residual.T @ residual / len(x)
    spread = (centre - mean) * np.sqrt(count / len(x))[:, None]
    between = spread.T @ spread
    unit = within + total_covariance_factor * between
    unit += shrinkage * np.trace(unit) / len(unit) * np.eye(len(unit))
    variance, axes = scipy.linalg.eigh(unit)
    whiten = axes / np.sqrt(np.maximum(variance, FLOOR * variance[-1]))
    vectors = scipy.linalg.eigh(whiten.T @ between @ whiten)[1]  # ascending
    return mean, whiten @ vectors[:, ::-1][:, :dim]
