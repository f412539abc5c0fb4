# SPDX-License-Identifier: Apache-2.0
"""Agreement of embeddings with labels: by its definition, and on swapped labels."""

import numpy as np

from rawnext.scoring import labels
from rawnext.scoring.labels import label_agreement


def synthetic(num_speakers=40, num_sessions=4, num_utts=5, dim=64, seed=0):
    """x (N, D) with a part for the speaker and one for the session; (N,) speakers and sessions."""
    rng = np.random.default_rng(seed)
    speaker = np.repeat(np.arange(num_speakers), num_sessions * num_utts)
    session = np.repeat(np.arange(num_speakers * num_sessions), num_utts)
    x = (rng.normal(size=(num_speakers, dim))[speaker] + 0.8 * rng.normal(size=(session.max() + 1, dim))[session]
         + 0.6 * rng.normal(size=(len(speaker), dim)))
    return x.astype(np.float32), speaker, session


def test_by_the_definition(monkeypatch):
    monkeypatch.setattr(labels, "BLOCK", 50)
    x, speaker, session = synthetic(5, 3, 2, 8)
    session %= 3  # the same numbers for all speakers
    order = np.random.default_rng(1).permutation(len(x))
    x, speaker, session = x[order], speaker[order], session[order]
    found, unit = label_agreement(x, speaker, session), x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([unit[speaker == spk].mean(0) for spk in range(5)])
    for i in range(len(x)):
        own = unit[(speaker == speaker[i]) & (session != session[i])].mean(0)
        np.testing.assert_allclose(found.own[i], unit[i] @ own / np.linalg.norm(own), atol=1e-5)
        cosines = means @ unit[i] / np.linalg.norm(means, axis=1)
        cosines[speaker[i]] = -2
        assert found.nearest[i] == cosines.argmax()
        np.testing.assert_allclose(found.other[i], cosines.max(), atol=1e-5)


def test_swapped_labels_are_first():
    x, true, session = synthetic()
    rng, label = np.random.default_rng(2), true.copy()
    whole = rng.choice(session.max() + 1, 6, replace=False)  # whole sessions and single utterances
    swapped = np.isin(session, whole) | (rng.random(len(x)) < 0.03)
    label[swapped] = (true[swapped] + 7) % 40
    found = label_agreement(x, label, session)
    first = np.argsort(found.own)[: swapped.sum()]
    assert swapped[first].mean() > 0.97, "precision at the number of swapped labels"
    assert (found.nearest[swapped] == true[swapped]).mean() > 0.97


def test_the_own_session_is_not_used():
    x, speaker, session = synthetic(6, 3, 4)
    before = label_agreement(x, speaker, session).own
    changed = x.copy()
    own = session == session[0]
    changed[own] = np.random.default_rng(3).normal(size=changed[own].shape)
    changed[0] = x[0]
    np.testing.assert_allclose(label_agreement(changed, speaker, session).own[0], before[0], atol=1e-6)
    alone = label_agreement(x, speaker, speaker).own
    assert np.isnan(alone).all(), "one session for each speaker: nothing to compare with"
