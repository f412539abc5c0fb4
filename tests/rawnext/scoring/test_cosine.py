# SPDX-License-Identifier: Apache-2.0
"""Scores of trials equal published values and a loop over trials for any block size; zero embeddings are refused."""

import tracemalloc

import numpy as np
import pytest

from rawnext.scoring import cosine as scoring
from rawnext.scoring.cosine import cosine_scores, segment_pair_scores, siamese_scores, unit_vectors


def all_pairs(num):
    first, second = np.divmod(np.arange(num * num), num)
    return first, second


def test_equal_to_published_implementations(parity):
    z = np.load(parity / "metrics.npz")
    segments = z["cosine/segments"]
    means = segments.mean(axis=1)
    ours = cosine_scores(means, means, *all_pairs(len(means))).reshape(len(means), -1)
    np.testing.assert_allclose(ours, z["cosine/scores"], atol=1e-6)
    # the published code adds 1e-6 to every difference, in float32
    units = unit_vectors(segments)
    ours = segment_pair_scores(units, units, *all_pairs(len(units)), distance=True).reshape(len(units), -1)
    np.testing.assert_allclose(ours, z["vox_style/scores"], atol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 40, 10**6])
def test_scores_equal_a_loop_for_any_block_size(monkeypatch, block):
    rng = np.random.default_rng(0)
    enroll, test = rng.normal(size=(5, 3)), rng.normal(size=(9, 3))
    enroll_index, test_index = rng.integers(5, size=50), rng.integers(9, size=50)
    monkeypatch.setattr(scoring, "BLOCK", block)
    expected = [enroll[e] @ test[t] / np.linalg.norm(enroll[e]) / np.linalg.norm(test[t])
                for e, t in zip(enroll_index, test_index)]
    np.testing.assert_allclose(cosine_scores(enroll, test, enroll_index, test_index), expected, rtol=1e-12)


def test_scores_keep_the_precision_and_ignore_the_length_of_embeddings():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 8)).astype(np.float32)
    pairs = all_pairs(4)
    assert cosine_scores(x, x, *pairs).dtype == np.float32
    assert cosine_scores(x.astype(np.float64), x, *pairs).dtype == np.float64
    np.testing.assert_allclose(cosine_scores(x * [[1], [2], [1e-3], [1e6]], x, *pairs), cosine_scores(x, x, *pairs),
                               atol=1e-6)
    np.testing.assert_allclose(cosine_scores([[3, 4]], [[4, 3]], [0], [0]), [0.96])


def test_zero_and_infinite_embeddings_are_reported_by_index():
    x = np.ones((4, 3))
    x[2] = 0
    with pytest.raises(ValueError, match="embedding 2 is zero or not finite"):
        cosine_scores(x, np.ones((1, 3)), [0], [0])
    x[2] = np.inf
    with pytest.raises(ValueError, match="embedding 2 is zero or not finite"):
        cosine_scores(x, np.ones((1, 3)), [0], [0])
    x[2] = np.nan
    with pytest.raises(ValueError, match=r"embedding 2 is zero or not finite .* \(1 in total"):
        cosine_scores(np.ones((1, 3)), x, [0], [0])
    with pytest.raises(ValueError, match="embedding 1, 0 is zero"):
        unit_vectors([[[1.0], [1.0]], [[0.0], [1.0]]])


@pytest.mark.parametrize("num", [2000, 40000])
def test_memory_beyond_inputs_and_scores_is_one_block(monkeypatch, num):
    monkeypatch.setattr(scoring, "BLOCK", 1 << 12)
    x = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    rows = np.arange(num) % 500, np.arange(num) % 499
    tracemalloc.start()
    scores = cosine_scores(x, x, *rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # a block of both sides; lengths of both sides of each trial, and their product
    assert peak < scores.nbytes + 2 * 4 * scoring.BLOCK + 3 * 4 * num + 50_000 < x.nbytes + 17 * num


def test_different_dimensions_are_refused():
    with pytest.raises(ValueError, match="enroll embeddings have 2 dimensions, test embeddings 3"):
        cosine_scores(np.ones((1, 2)), np.ones((1, 3)), [0], [0])


def test_segment_distance_equals_a_hand_computation():
    enroll = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    test = np.array([[[1.0, 0.0], [-1.0, 0.0]]])
    rows = np.array([0])
    np.testing.assert_allclose(segment_pair_scores(enroll, test, rows, rows, distance=True),
                               [-(0 + 2 + 2 * np.sqrt(2)) / 4])
    np.testing.assert_allclose(segment_pair_scores(enroll, test, rows, rows), [0])


@pytest.mark.parametrize("distance", [False, True])
@pytest.mark.parametrize("block", [1, 100, 10**6])
def test_segment_pairs_equal_a_loop_over_trials_and_segments(monkeypatch, block, distance):
    """Also where utterances have different numbers of segments."""
    monkeypatch.setattr(scoring, "BLOCK", block)
    rng = np.random.default_rng(0)
    enroll, test = ([unit_vectors(rng.normal(size=(num, 5))) for num in counts] for counts in ((3, 1, 2), (4, 4, 2, 1)))
    padded = [np.stack([np.pad(x, ((0, most - len(x)), (0, 0))) for x in side]) for side, most in
              ((enroll, 3), (test, 4))]
    first, second = np.divmod(np.arange(12), 4)
    expected = [np.mean([-np.linalg.norm(a - b) if distance else a @ b for a in enroll[e] for b in test[t]])
                for e, t in zip(first, second)]
    np.testing.assert_allclose(segment_pair_scores(*padded, first, second, distance), expected, atol=1e-9)


@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_siamese_scores_are_the_negated_logits_of_the_head(monkeypatch, block):
    import torch

    from rawnext.losses import LOSSES

    head = LOSSES.build("siamese", {}, 3, 9)
    torch.nn.init.normal_(head.linear.weight)
    rng = np.random.default_rng(0)
    enroll, test = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    rows = rng.integers(5, size=50), rng.integers(9, size=50)
    monkeypatch.setattr(scoring, "BLOCK", block)
    with torch.no_grad():
        expected = [-head.logit(torch.from_numpy(enroll[i]), torch.from_numpy(test[j])).item() for i, j in zip(*rows)]
        weight, bias = head.linear.weight[0].numpy(), head.linear.bias.item()
    np.testing.assert_allclose(siamese_scores(enroll, test, *rows, weight, bias), expected, atol=1e-6)
    with pytest.raises(ValueError, match="dimensions"):
        siamese_scores(enroll, test[:, :2], *rows, weight, bias)
