# SPDX-License-Identifier: Apache-2.0
"""Two-covariance PLDA: Gaussian speakers around the mean, Gaussian utterances around each speaker.

After subtraction of the mean, one transform makes the within-speaker covariance the identity and the between-speaker
covariance diagonal (psi); the average of n utterances then has covariance psi + 1/n. Training, smoothing and scoring
are those of Kaldi.
Source: Ioffe, "Probabilistic linear discriminant analysis", 2006; Kaldi's ivector/plda.cc.
"""

from typing import NamedTuple

import numpy as np
import scipy

from rawnext.scoring.cosine import dot_products
from rawnext.scoring.lda import degrees_of_freedom, speaker_means


class Plda(NamedTuple):
    """mean: (D,).   transform: (D, D), applied to x - mean.   psi: (D,) between-speaker variances, descending."""

    mean: np.ndarray
    transform: np.ndarray
    psi: np.ndarray


def fit_plda(x: np.ndarray, speaker: np.ndarray, iterations: int = 10) -> Plda:
    """Maximum likelihood by EM from unit covariances.

    Args:
        x: (N, D) vectors, usually scaled to length sqrt(D).   speaker: (N,) speaker of each.
    Raises: ValueError: N - S (degrees_of_freedom) is below D, or no speaker has two vectors.
    """
    x = np.asarray(x, dtype=np.float64)
    means, label, count = speaker_means(x, speaker)
    if (free := degrees_of_freedom(x, speaker)) < x.shape[1] or count.max() < 2:
        raise ValueError(f"PLDA of {x.shape[1]} dimensions needs more: as many different vectors, one for each "
                         f"speaker, and a speaker with two; got {free + len(count)} vectors of {len(count)} speakers")
    residual = x - means[label]
    mean = means.mean(axis=0)  # of speakers, not weighted by their utterances
    within = between = np.eye(x.shape[1])
    for _ in range(iterations):
        within, between = em_step(within, between, residual.T @ residual, means - mean, count)
    return from_covariances(mean, within, between)


def from_covariances(mean: np.ndarray, within: np.ndarray, between: np.ndarray) -> Plda:
    """The model with this mean (D,), within-speaker and between-speaker covariance (D, D)."""
    unit = scipy.linalg.solve_triangular(scipy.linalg.cholesky(within, lower=True), np.eye(len(within)), lower=True)
    psi, axes = scipy.linalg.eigh(unit @ between @ unit.T)  # ascending
    return Plda(mean, axes[:, ::-1].T @ unit, np.maximum(psi[::-1], 0))


def em_step(within: np.ndarray, between: np.ndarray, scatter: np.ndarray, means: np.ndarray,
            count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One EM iteration: new within-speaker and between-speaker covariances, (D, D) each.

    Args:
        scatter: (D, D) of utterances around their speakers' means.   means: (S, D) of speakers, with their mean
            subtracted.   count: (S,) utterances of each.
    """
    within_inverse, between_inverse = np.linalg.inv(within), np.linalg.inv(between)
    new_within, new_between = scatter.copy(), np.zeros_like(between)
    for n in np.unique(count):
        m = means[count == n]
        posterior = np.linalg.inv(between_inverse + n * within_inverse)  # covariance of a speaker given n utterances
        spk = m @ (n * within_inverse @ posterior)                       # and its mean
        new_between += len(m) * posterior + spk.T @ spk
        new_within += n * (len(m) * posterior + (m - spk).T @ (m - spk))
    # the scatter has N - S degrees of freedom, each speaker mean one
    return new_within / count.sum(), new_between / len(count)


def smooth(plda: Plda, factor: float) -> Plda:
    """Add to the within-speaker covariance `factor` times the between-speaker one, as ivector-copy-plda --smoothing."""
    within = 1 + factor * plda.psi
    return Plda(plda.mean, plda.transform / np.sqrt(within)[:, None], plda.psi / within)


def project(plda: Plda, x: np.ndarray, num_utts: np.ndarray | int = 1, normalize_length: bool = True) -> np.ndarray:
    """Project into the space with diagonal covariances, and there to the length that the model expects.

    Args:
        x: (N, D), each the average of num_utts utterances, (N,) or one number for all.
    Returns: (N, D) float64.
    """
    y = (x - plda.mean) @ plda.transform.T
    if normalize_length:
        variance = plda.psi + 1 / np.broadcast_to(num_utts, len(y))[:, None]
        y *= np.sqrt(y.shape[1] / (y * y / variance).sum(axis=1, keepdims=True))
    return y


def plda_scores(plda: Plda, enroll: np.ndarray, test: np.ndarray, enroll_index: np.ndarray, test_index: np.ndarray,
                num_utts: np.ndarray | int = 1, normalize_length: bool = True) -> np.ndarray:
    """Log-likelihood ratio (natural) of every trial: the test vector is of the enrolled speaker, or of any speaker.

    Args:
        enroll: (M, D), each the average of num_utts utterances.   test: (N, D).   enroll_index, test_index: (T,) rows.
        num_utts: (M,) or one number for all.
    Returns: (T,) float64.
    Source: Kaldi's Plda::LogLikelihoodRatio; as in Kaldi, an average is length-normalised like a single vector.
    """
    counts, which = np.unique(np.broadcast_to(num_utts, len(enroll)), return_inverse=True)
    u = project(plda, enroll, counts[which], normalize_length)
    v = project(plda, test, 1, normalize_length)
    n = counts[:, None]
    share = n * plda.psi / (n * plda.psi + 1)             # (C, D); given n utterances of mean u: mean share * u
    variance = 1 + plda.psi / (n * plda.psi + 1)          # (C, D), of a further utterance of that speaker
    spk = share[which] * u
    # log N(v; spk, variance) - log N(v; 0, 1 + psi), with the square expanded
    square = (v * v) @ (0.5 / (1 + plda.psi) - 0.5 / variance).T   # (N, C)
    constant = 0.5 * (np.log1p(plda.psi) - np.log(variance)).sum(axis=1)[which]
    constant -= 0.5 * (spk * spk / variance[which]).sum(axis=1)
    scores = dot_products(spk / variance[which], v, enroll_index, test_index)
    return scores + square[test_index, which[enroll_index]] + constant[enroll_index]
