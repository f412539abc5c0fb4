# SPDX-License-Identifier: Apache-2.0
"""CORAL and Kaldi's unsupervised adaptation of PLDA: by their definitions, and on a domain of other channels."""

import numpy as np
import pytest

from rawnext.scoring.adaptation import adapt_plda, coral
from rawnext.scoring.metrics import eer
from rawnext.scoring.plda import Plda, fit_plda, plda_scores

DIM = 6


def vectors(num, seed, dim=DIM):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, dim)) @ rng.normal(size=(dim, dim)) + rng.normal(size=dim) * 3


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_coral_gives_the_source_the_mean_and_covariance_of_the_target(dtype):
    source, target = vectors(50, 0).astype(dtype), vectors(40, 1).astype(dtype)
    found = coral(source, target)
    np.testing.assert_allclose(found.mean(axis=0), target.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.cov(target.T, bias=True), atol=1e-5)
    np.testing.assert_allclose(coral(source, source), source, atol=1e-5)  # the symmetric roots turn nothing


def test_coral_of_a_source_with_fewer_vectors_than_dimensions_is_finite():
    found = coral(vectors(4, 0), vectors(40, 1))
    assert np.abs(found).max() < 100 and np.linalg.matrix_rank(found - found.mean(axis=0), tol=1e-6) == 3


def test_coral_to_too_few_vectors_is_refused():
    few = np.repeat(vectors(DIM, 1), 5, axis=0)
    with pytest.raises(ValueError, match="CORAL of 6 dimensions needs more different vectors than that, got 6"):
        coral(vectors(50, 0), few)


def kaldis_update(mean_, transform_, psi_, x, within_covar_scale, between_covar_scale, mean_diff_scale):
    """Mean, within-speaker and between-speaker covariance: the steps and names of plda.cc, one by one."""
    tot_weight, mean_stats, variance_stats = 0.0, np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
    for ivector in x:
        tot_weight += 1
        mean_stats += ivector
        variance_stats += np.outer(ivector, ivector)
    mean, variance = mean_stats / tot_weight, variance_stats / tot_weight
    variance -= np.outer(mean, mean)
    mean_diff = mean - mean_
    variance += mean_diff_scale * np.outer(mean_diff, mean_diff)
    transform_mod = transform_.copy()
    for i in range(len(psi_)):
        transform_mod[i] *= 1 / np.sqrt(1 + psi_[i])
    s, p = np.linalg.eigh(transform_mod @ variance @ transform_mod.T)
    w, b = np.diag(1 / (1 + psi_)), np.diag(psi_ / (1 + psi_))
    w_proj2, b_proj2 = p.T @ w @ p, p.T @ b @ p
    for i in range(len(psi_)):
        if s[i] > 1:
            excess_eig = s[i] - 1
            w_proj2[i, i] += excess_eig * within_covar_scale
            b_proj2[i, i] += excess_eig * between_covar_scale
    back = np.linalg.inv(p.T @ transform_mod)
    return mean, back @ w_proj2 @ back.T, back @ b_proj2 @ back.T


@pytest.mark.parametrize(("options", "scales"), [({}, (0.3, 0.7, 1)), (dict(
    within_scale=0.75, between_scale=0.25, mean_diff_scale=0.5), (0.75, 0.25, 0.5))])
def test_plda_is_adapted_as_by_kaldi(options, scales):
    x = vectors(200, 0)
    plda = fit_plda(x, np.arange(200) // 5)
    target = vectors(60, 3) * 0.7
    mean, within, between = kaldis_update(*plda, target, *scales)
    found = adapt_plda(plda, target, **options)
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.transform @ within @ found.transform.T, np.eye(DIM), atol=1e-8)
    np.testing.assert_allclose(found.transform @ between @ found.transform.T, np.diag(found.psi), atol=1e-8)
    assert (np.diff(found.psi) <= 0).all()


def test_data_that_varies_less_than_the_model_expects_changes_only_the_mean():
    plda = Plda(np.zeros(3), np.eye(3), np.array([3.0, 2.0, 1.0]))
    found = adapt_plda(plda, np.random.default_rng(0).normal(size=(50, 3)) * 0.5 + [0.1, 0, 0])
    np.testing.assert_allclose(found.psi, plda.psi)
    np.testing.assert_allclose(np.abs(found.transform), plda.transform, atol=1e-9)
    assert found.mean[0] == pytest.approx(0.1, abs=0.3)


class Domains:
    """Training speakers, and two sets of a domain whose channels vary in other directions, around another mean."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        dim, channel = 20, np.ones(20)
        turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
        channel[:6] = 6  # these six directions say little about speakers
        self.train, self.speaker = self.drawn(rng, 150, 8, np.ones(dim), turn)
        self.adapt, _ = self.drawn(rng, 200, 4, channel, turn, shift=2)
        self.test, self.test_speaker = self.drawn(rng, 60, 4, channel, turn, shift=2)

    @staticmethod
    def drawn(rng, num_speakers, num, within, turn, shift=0.0):
        speaker = np.repeat(np.arange(num_speakers), num)
        spk = rng.normal(size=(num_speakers, len(within)))
        return (spk[speaker] + rng.normal(size=(len(speaker), len(within))) * within + shift) @ turn, speaker

    def eer(self, plda):
        first, second = np.triu_indices(len(self.test), 1)
        scores = plda_scores(plda, self.test, self.test, first, second, normalize_length=False)
        same = self.test_speaker[first] == self.test_speaker[second]
        return eer(scores[same], scores[~same])


@pytest.mark.parametrize("seed", [0, 1])
def test_adaptation_lowers_the_eer_on_another_domain(seed):
    domains = Domains(seed)
    plda = fit_plda(domains.train, domains.speaker)
    before = domains.eer(plda._replace(mean=domains.adapt.mean(axis=0)))  # the gain is not that of the mean alone
    by_coral = fit_plda(coral(domains.train, domains.adapt), domains.speaker)
    assert domains.eer(by_coral) < 0.6 * before
    assert domains.eer(adapt_plda(plda, domains.adapt)) < 0.75 * before
    assert domains.eer(adapt_plda(plda, domains.adapt, 0.75, 0.25)) < 0.5 * before  # only channels differ
