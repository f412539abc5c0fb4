# SPDX-License-Identifier: Apache-2.0
"""Linear discriminant analysis: the directions in which speakers differ most for how much their utterances do."""

import numpy as np

FLOOR = 1e-6  # of an eigenvalue of the covariance that becomes the identity, for each of its largest: Kaldi's default


def speaker_means(x: np.ndarray, speaker: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S, D) mean of each speaker's vectors, (N,) whose each is as a row of it, (S,) how many each has."""
    _, label, count = np.unique(speaker, return_inverse=True, return_counts=True)
    total = np.zeros((len(count), x.shape[1]))
    np.add.at(total, label, x)
    return total / count[:, None], label, count


def fit_lda(x: np.ndarray, speaker: np.ndarray, dim: int, total_covariance_factor: float = 0.0,
            shrinkage: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean and projection that make a covariance of (x - mean) @ projection the identity, and sort by what is left.

    That covariance is (1 - f) times the within-speaker one and f times that of all vectors, f the factor.

    Args:
        x: (N, D) vectors.   speaker: (N,) whose each is.   dim: directions kept, at most D and one less than speakers.
        total_covariance_factor: f, 0...1; above 0 also what is constant within speakers is held down.
        shrinkage: share of that covariance's mean variance that is added to each direction's.
    Returns: (D,) mean, (D, dim) projection, the most telling direction first.
    Raises: ValueError: dim is too large, or no speaker has two vectors.
    Source: Fisher 1936; Bishop, "Pattern Recognition and Machine Learning", section 4.1.6; Kaldi's ivector-compute-lda.
    """
    from scipy.linalg import eigh

    x = np.asarray(x, dtype=np.float64)
    centre, label, count = speaker_means(x, speaker)
    if not 1 <= dim <= min(x.shape[1], len(count) - 1):
        raise ValueError(f"LDA of {len(count)} speakers and {x.shape[1]} dimensions has no {dim} directions")
    if count.max() < 2:
        raise ValueError("LDA wants two vectors of some speaker, each has one")
    mean = x.mean(axis=0)
    residual = x - centre[label]
    within = residual.T @ residual / len(x)
    spread = (centre - mean) * np.sqrt(count / len(x))[:, None]
    between = spread.T @ spread
    unit = within + total_covariance_factor * between
    unit += shrinkage * np.trace(unit) / len(unit) * np.eye(len(unit))
    variance, axes = eigh(unit)
    whiten = axes / np.sqrt(np.maximum(variance, FLOOR * variance[-1]))
    vectors = eigh(whiten.T @ between @ whiten)[1]  # ascending
    return mean, whiten @ vectors[:, ::-1][:, :dim]
