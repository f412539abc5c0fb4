# SPDX-License-Identifier: Apache-2.0
"""Adaptation of back ends to another domain, of which there are embeddings without speaker labels."""

import numpy as np
import scipy

from rawnext.scoring.lda import FLOOR
from rawnext.scoring.plda import Plda, from_covariances

WITHIN_SCALE, BETWEEN_SCALE = 0.3, 0.7  # defaults of ivector-adapt-plda


def mean_and_covariance(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and covariance (D, D) of (N, D) vectors, float64."""
    mean = x.mean(axis=0, dtype=np.float64)
    centred = x - mean
    return mean, centred.T @ centred / len(x)


def coral(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Source vectors with the mean and covariance of the target: whitened by their own, coloured by the target's.

    Args:
        source: (N, D) vectors of the training domain.   target: (M, D) of the other domain.
    Returns: (N, D) float64. Directions in which the source does not vary stay without variance.
    Raises: ValueError: M is at most D, so the target's covariance is singular.
    Source: Sun et al., "Return of frustratingly easy domain adaptation", 2016, without its identity matrices, which
        suit only features of unit variance; Alam et al., "Speaker verification in mismatched conditions with
        frustratingly easy domain adaptation", 2018.
    """
    if (num := len(np.unique(target, axis=0))) <= target.shape[1]:
        raise ValueError(f"CORAL of {target.shape[1]} dimensions needs more different vectors than that, got {num}")
    (source_mean, source_covariance), (target_mean, target_covariance) = map(mean_and_covariance, (source, target))
    variance, axes = scipy.linalg.eigh(source_covariance)
    whiten = axes / np.sqrt(np.maximum(variance, FLOOR * variance[-1])) @ axes.T
    variance, axes = scipy.linalg.eigh(target_covariance)
    colour = axes * np.sqrt(np.maximum(variance, 0)) @ axes.T
    return (source - source_mean) @ (whiten @ colour) + target_mean


def adapt_plda(plda: Plda, x: np.ndarray, within_scale: float = WITHIN_SCALE, between_scale: float = BETWEEN_SCALE,
               mean_diff_scale: float = 1.0) -> Plda:
    """Add variance in the directions in which vectors of another domain vary more than the model expects.

    Args:
        x: (N, D) vectors of the other domain, processed as those that PLDA was trained on.
        within_scale, between_scale: shares of the excess variance for the within- and between-speaker covariance.
        mean_diff_scale: of the outer product of the difference of the means, which is part of the other domain's
            variance.
    Returns: a model whose mean is that of x.
    Source: Kaldi's ivector-adapt-plda (PldaUnsupervisedAdaptor::UpdatePlda).
    """
    mean, total = mean_and_covariance(x)
    total += mean_diff_scale * np.outer(mean - plda.mean, mean - plda.mean)
    unit = plda.transform / np.sqrt(1 + plda.psi)[:, None]  # makes the model's total covariance the identity
    variance, axes = scipy.linalg.eigh(unit @ total @ unit.T)
    excess = axes * np.maximum(variance - 1, 0) @ axes.T
    back = np.linalg.inv(unit)
    within, between = np.diag(1 / (1 + plda.psi)), np.diag(plda.psi / (1 + plda.psi))
    return from_covariances(mean, back @ (within + within_scale * excess) @ back.T,
                            back @ (between + between_scale * excess) @ back.T)
