# SPDX-License-Identifier: Apache-2.0
"""FPIR and FNIR equal those of a search written as in their definitions."""

import numpy as np
import pytest

from rawnext.scoring.det import det_points
from rawnext.scoring.open_set import fnir_of, identification_errors, search

RNG = np.random.default_rng(0)
SPEAKER = np.repeat(np.arange(12), 5)
SCORES = RNG.normal(size=(60, 12)) + 1.5 * (SPEAKER[:, None] == np.arange(12))


def by_definition(size, fpir, repeats, seed):
    """The lowest FNIR of all thresholds with at most this FPIR."""
    random, mated, others = np.random.RandomState(seed), [], []
    for _ in range(repeats):
        gallery = set(random.permutation(12)[:size].tolist())
        for row, own in zip(SCORES, SPEAKER):
            answer = max(gallery, key=lambda speaker: row[speaker])
            (mated if own in gallery else others).append((answer == own, row[answer]))
    found = 1.0
    for limit in [score for _, score in mated + others]:
        if np.mean([score >= limit for _, score in others]) <= fpir:
            found = min(found, 1 - np.mean([right and score >= limit for right, score in mated]))
    return found, 1 - np.mean([right for right, _ in mated])


@pytest.mark.parametrize("size", [1, 4, 11])
def test_errors_are_those_of_the_definition(size):
    rows = identification_errors(SCORES, SPEAKER, [size], [0.02, 0.2, 0.5], 3, seed=4)
    for row in rows:
        assert (row.fnir, row.closed) == pytest.approx(by_definition(size, row.fpir, 3, 4)), row
        assert np.isnan(row.low) if size == 1 else row.low <= row.fnir <= row.high  # 3 speakers are too few
    assert rows[0].fnir >= rows[1].fnir >= rows[2].fnir >= rows[0].closed


def test_larger_galleries_are_harder_and_perfect_scores_have_no_error():
    rows = identification_errors(SCORES, SPEAKER, [1, 3, 6, 11], [0.1], 20)
    assert [row.closed for row in rows] == sorted(row.closed for row in rows) and rows[0].closed == 0
    assert rows[-1].fnir > rows[0].fnir
    perfect = identification_errors(10.0 * (SPEAKER[:, None] == np.arange(12)), SPEAKER, [6], [0.01], 2)
    assert (perfect[0].fnir, perfect[0].closed) == (0, 0)


def test_a_mated_probe_with_another_speaker_first_is_missed_at_every_threshold(monkeypatch):
    found = search(SCORES, SPEAKER, 5, 2)
    monkeypatch.setattr("rawnext.scoring.open_set.SEARCHES", 7)  # in blocks of one row
    assert all(np.array_equal(one, other) for one, other in zip(found, search(SCORES, SPEAKER, 5, 2)))
    det = det_points(found.score[found.is_mated], found.score[~found.is_mated])
    assert fnir_of(det, 0.999) > 0 and np.isinf(found.score).sum() > 0


def test_galleries_without_other_speakers_are_refused():
    with pytest.raises(ValueError, match="a gallery of 12 speakers; want 1 to 11"):
        identification_errors(SCORES, SPEAKER, [3, 12], [0.1], 1)
