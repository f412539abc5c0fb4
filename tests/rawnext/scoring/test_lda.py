# SPDX-License-Identifier: Apache-2.0
"""LDA compared with scikit-learn and Kaldi, and its definition."""

import numpy as np
import pytest
from kaldi_numbers import read_ark, read_table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from rawnext.scoring.kaldi_models import read_arrays
from rawnext.scoring.lda import degrees_of_freedom, fit_lda
from rawnext.scoring.plda import fit_plda


def draw(num_speakers=12, dim=6):
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(num_speakers), rng.integers(2, 9, num_speakers))
    mix = rng.normal(size=(dim, dim))
    return rng.normal(size=(num_speakers, dim))[speaker] + rng.normal(size=(len(speaker), dim)) @ mix + 3, speaker


def test_projection_equals_scikit_learns():
    x, speaker = draw()
    mean, projection = fit_lda(x, speaker, 3)
    ours = (x - mean) @ projection
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(x, speaker).transform(x)[:, :3]
    scale = ours.std(0) / theirs.std(0)
    assert np.allclose(np.abs(np.corrcoef(ours.T, theirs.T)[:3, 3:]).diagonal(), 1)
    assert np.allclose(scale, scale[0]), "all directions have the same relative scale"


def test_within_speaker_covariance_becomes_the_identity():
    x, speaker = draw()
    mean, projection = fit_lda(x, speaker, 5)
    y = (x - mean) @ projection
    residual = y - np.stack([y[speaker == s].mean(0) for s in speaker])
    assert np.allclose(residual.T @ residual / len(y), np.eye(5))
    assert np.allclose(y.mean(0), 0)


@pytest.mark.parametrize(("speaker", "dim"), [([0, 0, 1, 1], 2), ([0, 1, 2, 3], 1), ([0, 0, 1, 1], 0)])
def test_impossible_dimensions_are_refused(speaker, dim):
    with pytest.raises(ValueError, match="LDA"):
        fit_lda(np.random.default_rng(0).normal(size=(4, 3)), np.array(speaker), dim)


@pytest.mark.parametrize(("name", "factor"), [("lda_total0.mat", 0.0), ("lda_total01.mat", 0.1)])
def test_transform_equals_kaldis(shared, name, factor):
    kaldi = shared / "parity" / "kaldi"
    keys, x = read_ark(kaldi / "train.ark")
    spk = read_table(kaldi / "train.utt2spk")
    mean, projection = fit_lda(x, np.array([spk[key] for key in keys]), 12, factor)
    ours, theirs = np.column_stack([projection.T, -projection.T @ mean]), read_arrays(kaldi / name, [2])[0]
    sign = np.sign((ours * theirs).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ours * sign, theirs, rtol=1e-5, atol=1e-5)


def test_constant_dimension_does_not_matter():
    x, speaker = draw()
    flat = np.column_stack([x, np.zeros(len(x))])
    np.testing.assert_allclose(np.abs(fit_lda(flat, speaker, 3)[1][:6]), np.abs(fit_lda(x, speaker, 3)[1]), atol=1e-9)


@pytest.mark.parametrize("copies", [1, 9])
def test_directions_without_within_speaker_variance_are_refused(copies):
    """N - S = 9 different vectors beyond one for each of 3 speakers."""
    speaker = np.tile(np.arange(12) % 3, copies)
    for dim, fits in ((9, True), (10, False)):
        x = np.tile(np.random.default_rng(0).normal(size=(12, dim)), (copies, 1))
        assert degrees_of_freedom(x, speaker) == 9
        if fits:
            assert fit_lda(x, speaker, 2)[1].shape == (9, 2)
            continue
        with pytest.raises(ValueError, match="LDA of 10 dimensions needs as many .* got 12 of 3 speakers"):
            fit_lda(x, speaker, 2)
        with pytest.raises(ValueError, match="PLDA of 10 dimensions needs more"):
            fit_plda(x, speaker)
        assert fit_lda(x, speaker, 2, shrinkage=0.01)[1].shape == (10, 2)
