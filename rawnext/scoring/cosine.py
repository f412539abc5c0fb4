# SPDX-License-Identifier: Apache-2.0
"""Scores of trials from embeddings."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

BLOCK = 1 << 18  # numbers of one side that are gathered at a time: fits the L2 cache


def lengths(x: np.ndarray) -> np.ndarray:
    """(...) Euclidean lengths of the last axis of (..., D).

    Raises: ValueError: a vector is zero or not finite.
    """
    length = np.sqrt(np.einsum("...d,...d->...", x, x))
    bad = np.argwhere(~((length > 0) & np.isfinite(length)))
    if len(bad):
        raise ValueError(f"embedding {', '.join(map(str, bad[0]))} is zero or not finite and has no direction "
                         f"({len(bad)} in total)")
    return length


def unit_vectors(x: ArrayLike) -> np.ndarray:
    """Scale the last axis to Euclidean length 1; see lengths.

    Args:
        x: (..., D); float32 and float64 are kept, other types become float64.
    """
    x = floating(x)
    return x / lengths(x)[..., None]


def floating(x: ArrayLike) -> np.ndarray:
    """x as an array; types other than float32 and float64 become float64."""
    x = np.asarray(x)
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def length_norm(x: ArrayLike) -> np.ndarray:
    """Scale the last axis to length sqrt(D), as Kaldi's ivector-normalize-length; see unit_vectors.

    Source: Garcia-Romero and Espy-Wilson, "Analysis of i-vector length normalization", Interspeech 2011.
    """
    units = unit_vectors(x)
    return units * units.dtype.type(np.sqrt(units.shape[-1]))


def blocks(num: int, width: int, most: int) -> Iterator[slice]:
    """Parts of `num` rows of `width` numbers, `most` numbers (or a row) at a time."""
    step = max(1, most // width)
    return (slice(start, start + step) for start in range(0, num, step))


def dot_products(enroll: np.ndarray, test: np.ndarray, enroll_index: np.ndarray, test_index: np.ndarray) -> np.ndarray:
    """(T,) products enroll[enroll_index] . test[test_index] of (M, D) and (N, D), in their precision."""
    scores = np.empty(len(enroll_index), dtype=np.result_type(enroll, test))
    for part in blocks(len(scores), enroll.shape[1], BLOCK):
        np.einsum("td,td->t", enroll[enroll_index[part]], test[test_index[part]], out=scores[part])
    return scores


def cosine_scores(enroll: ArrayLike, test: ArrayLike, enroll_index: ArrayLike, test_index: ArrayLike) -> np.ndarray:
    """Cosine of the two embeddings of every trial.

    Args:
        enroll: (M, D).   test: (N, D).   enroll_index, test_index: (T,) rows of the two.
    Returns: (T,) cosines, in the precision of the embeddings.
    Raises: ValueError: an embedding is zero or not finite, or the dimensions differ.
    """
    one_set = enroll is test
    enroll, enroll_index, test_index = floating(enroll), np.asarray(enroll_index), np.asarray(test_index)
    test = enroll if one_set else floating(test)
    if enroll.shape[1] != test.shape[1]:
        raise ValueError(f"enroll embeddings have {enroll.shape[1]} dimensions, test embeddings {test.shape[1]}")
    enroll_length = lengths(enroll)
    test_length = enroll_length if one_set else lengths(test)
    scores = dot_products(enroll, test, enroll_index, test_index)
    scores /= enroll_length[enroll_index] * test_length[test_index]  # avoids copies of all embeddings as unit vectors
    return scores


def siamese_scores(enroll: ArrayLike, test: ArrayLike, enroll_index: ArrayLike, test_index: ArrayLike,
                   weight: ArrayLike, bias: float) -> np.ndarray:
    """Minus the logit of a siamese head, weight . |e1 - e2| + bias, for every trial; higher is more similar.

    Args:
        enroll: (M, D).   test: (N, D).   enroll_index, test_index: (T,) rows of the two.   weight: (D,).
    Returns: (T,) scores; above 0 if the head decides for the same speaker.
    Raises: ValueError: the dimensions differ.
    """
    enroll, test, weight = np.asarray(enroll), np.asarray(test), np.asarray(weight)
    enroll_index, test_index = np.asarray(enroll_index), np.asarray(test_index)
    if not enroll.shape[1] == test.shape[1] == len(weight):
        raise ValueError(f"enroll embeddings have {enroll.shape[1]} dimensions, test embeddings {test.shape[1]}, the "
                         f"head {len(weight)}")
    scores = np.empty(len(enroll_index))
    for part in blocks(len(scores), len(weight), BLOCK):
        scores[part] = np.abs(enroll[enroll_index[part]] - test[test_index[part]]) @ weight
    return -(scores + bias)


def segment_pair_scores(enroll: np.ndarray, test: np.ndarray, enroll_index: np.ndarray, test_index: np.ndarray,
                        distance: bool = False) -> np.ndarray:
    """Mean over all pairs of an enroll and a test segment, for every trial: of their cosines, or of minus the Euclidean
    distances between their unit vectors.

    Args:
        enroll: (M, S, D) unit vectors of up to S segments; zero vectors: no segment.   test: (N, R, D), as enroll.
        enroll_index, test_index: (T,) rows of the two.
    Returns: (T,) scores.
    Source: Chung et al., "In defence of metric learning for speaker recognition", 2020 (distances).
    """
    weight, test_weight = (x.any(axis=2) / x.any(axis=2).sum(axis=1, keepdims=True) for x in (enroll, test))
    if not distance:  # the mean of the products is the product of the means
        return dot_products(np.einsum("msd,ms->md", enroll, weight), np.einsum("nrd,nr->nd", test, test_weight),
                            enroll_index, test_index)
    square, test_square = (np.einsum("msd,msd->ms", x, x, dtype=np.float64) for x in (enroll, test))  # about 1
    scores = np.empty(len(enroll_index))
    for part in blocks(len(scores), max(enroll[0].size, test[0].size), BLOCK):
        first, second = enroll_index[part], test_index[part]
        products = enroll[first].astype(np.float64) @ test[second].transpose(0, 2, 1)
        distances = np.sqrt(np.maximum(square[first][:, :, None] + test_square[second][:, None] - 2 * products, 0))
        scores[part] = -np.einsum("ts,tsr,tr->t", weight[first], distances, test_weight[second])
    return scores
