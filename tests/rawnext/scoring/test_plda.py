# SPDX-License-Identifier: Apache-2.0
"""PLDA compared with Kaldi's numbers and with its definition, computed directly."""

import numpy as np
import pytest
from kaldi_numbers import read_ark, read_scores, read_table
from scipy.stats import multivariate_normal

from rawnext.scoring.kaldi_models import read_plda
from rawnext.scoring.plda import Plda, em_step, fit_plda, plda_scores, project, smooth


@pytest.fixture(scope="module")
def kaldi(shared):
    return shared / "parity" / "kaldi"


def drawn(num_speakers=30, dim=4, seed=0, most=7):
    """(N, D) vectors of a two-covariance model and (N,) their speakers, who have 1...most vectors each."""
    rng = np.random.default_rng(seed)
    speaker = np.repeat(np.arange(num_speakers), rng.integers(1, most + 1, num_speakers))
    spread, mix = rng.normal(size=(2, dim, dim))
    x = 2 + (rng.normal(size=(num_speakers, dim)) @ spread)[speaker] + rng.normal(size=(len(speaker), dim)) @ mix
    return x, speaker


def covariances(plda):
    """(D, D) within-speaker and between-speaker covariance of a model."""
    back = np.linalg.inv(plda.transform)
    return back @ back.T, back * plda.psi @ back.T


def log_density(x, within, between, mean):
    """log p of the n vectors (n, D) of one speaker: one normal in n * D dimensions."""
    n = len(x)
    covariance = np.kron(np.eye(n), within) + np.kron(np.ones((n, n)), between)
    return multivariate_normal(np.tile(mean, n), covariance).logpdf(x.ravel())


def test_training_equals_kaldis(kaldi):
    keys, x = read_ark(kaldi / "train_ln.ark")
    spk = read_table(kaldi / "train.utt2spk")
    ours, theirs = fit_plda(x, np.array([spk[key] for key in keys])), read_plda(kaldi / "plda")
    np.testing.assert_allclose(ours.mean, theirs.mean, atol=1e-12)
    np.testing.assert_allclose(ours.psi, theirs.psi, rtol=1e-10)
    sign = np.sign((ours.transform * theirs.transform).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(ours.transform * sign, theirs.transform, rtol=0, atol=1e-9)


def test_smoothing_equals_kaldis(kaldi):
    ours, theirs = smooth(read_plda(kaldi / "plda"), 0.1), read_plda(kaldi / "plda_smooth01.txt")
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    (within, between), (smoothed, same) = covariances(read_plda(kaldi / "plda")), covariances(ours)
    np.testing.assert_allclose(smoothed, within + 0.1 * between, atol=1e-9)
    np.testing.assert_allclose(same, between, atol=1e-9)


@pytest.mark.parametrize(("name", "normalize"), [("plda_scores", True), ("plda_scores_nonorm", False)])
def test_scores_equal_kaldis(kaldi, name, normalize):
    keys, x = read_ark(kaldi / "eval_ln.ark")
    enroll, test, scores = read_scores(kaldi / name, keys, keys)
    ours = plda_scores(read_plda(kaldi / "plda"), x, x, enroll, test, normalize_length=normalize)
    np.testing.assert_allclose(ours, scores, rtol=1e-6, atol=1e-4)


def test_scores_with_several_enrolment_utterances_equal_kaldis(kaldi):
    keys, x = read_ark(kaldi / "eval_ln.ark")
    models, means = read_ark(kaldi / "enroll_mean.ark")
    counts = read_table(kaldi / "enroll_num_utts.txt")
    enroll, test, scores = read_scores(kaldi / "enroll_plda_scores", models, keys)
    ours = plda_scores(read_plda(kaldi / "plda"), means, x, enroll, test, np.array([int(counts[m]) for m in models]))
    assert len(set(counts.values())) > 1
    np.testing.assert_allclose(ours, scores, rtol=1e-6, atol=1e-4)


def test_score_is_the_ratio_of_two_densities():
    """log p(enroll, test | one speaker) - log p(enroll) - log p(test), each a joint normal density."""
    x, speaker = drawn()
    plda = fit_plda(x, speaker)
    within, between = covariances(plda)
    rng = np.random.default_rng(1)
    sets = [rng.normal(size=(n, 4)) * 3 for n in (1, 2, 5, 2)]
    tests = rng.normal(size=(3, 4)) * 3
    means, counts = np.stack([s.mean(axis=0) for s in sets]), np.array([len(s) for s in sets])
    pairs = np.divmod(np.arange(12), 3)
    ours = plda_scores(plda, means, tests, *pairs, counts, normalize_length=False)
    expected = [log_density(np.vstack([sets[e], tests[t]]), within, between, plda.mean)
                - log_density(sets[e], within, between, plda.mean)
                - log_density(tests[t:t + 1], within, between, plda.mean) for e, t in zip(*pairs)]
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


def test_em_iterations_never_lower_the_likelihood():
    x, speaker = drawn(num_speakers=12)
    means = np.stack([x[speaker == s].mean(axis=0) for s in range(12)])
    residual, centred = x - means[speaker], means - means.mean(axis=0)
    within = between = np.eye(4)
    found = []
    for _ in range(6):
        found.append(sum(log_density(x[speaker == s], within, between, means.mean(axis=0)) for s in range(12)))
        within, between = em_step(within, between, residual.T @ residual, centred, np.bincount(speaker))
    assert (np.diff(found) > -1e-9).all() and found[-1] > found[0] + 5


def test_training_recovers_the_true_covariances():
    x, speaker = drawn(num_speakers=2000, dim=3, seed=5, most=12)
    rng = np.random.default_rng(5)
    rng.integers(1, 13, 2000)
    spread, mix = rng.normal(size=(2, 3, 3))
    within, between = covariances(fit_plda(x, speaker, iterations=50))
    np.testing.assert_allclose(within, mix.T @ mix, atol=0.05 * np.abs(mix.T @ mix).max())
    np.testing.assert_allclose(between, spread.T @ spread, atol=0.1 * np.abs(spread.T @ spread).max())


def test_projected_vectors_have_their_expected_length():
    plda = fit_plda(*drawn())
    x, counts = np.random.default_rng(0).normal(size=(5, 4)), np.array([1, 2, 3, 1, 9])
    y = project(plda, x, counts)
    np.testing.assert_allclose((y * y / (plda.psi + 1 / counts[:, None])).sum(axis=1), 4)
    straight = (x - plda.mean) @ plda.transform.T
    np.testing.assert_allclose((y * straight).sum(axis=1), np.linalg.norm(y, axis=1) * np.linalg.norm(straight, axis=1))


@pytest.mark.parametrize("speaker", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1]])
def test_too_little_training_data_is_refused(speaker):
    with pytest.raises(ValueError, match="PLDA of 4 dimensions needs more"):
        fit_plda(np.random.default_rng(0).normal(size=(len(speaker), 4)), np.array(speaker))


def test_scores_are_zero_without_between_speaker_variance():
    plda = Plda(np.zeros(2), np.eye(2), np.zeros(2))
    x = np.random.default_rng(0).normal(size=(3, 2))
    assert np.allclose(plda_scores(plda, x, x, [0, 1], [2, 2], normalize_length=False), 0)
