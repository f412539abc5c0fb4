# SPDX-License-Identifier: Apache-2.0
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rawnext.training.sampler import epoch_batches, fill_batches


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 12), min_size=2, max_size=30), num_speakers=st.integers(2, 8),
       num_utts=st.integers(1, 3), max_utts=st.integers(2, 9), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_properties_of_batches(counts, num_speakers, num_utts, max_utts, seed, epoch):
    speaker_of = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    batches = epoch_batches(speaker_of, num_speakers, num_utts, max_utts, seed, epoch)
    assert batches.shape[1:] == (num_speakers, num_utts)
    used = batches.ravel()
    assert len(set(used.tolist())) == len(used), "an utterance twice in an epoch"
    speakers = speaker_of[batches]  # (batches, P, K)
    assert (speakers == speakers[:, :, :1]).all(), "a group mixes speakers"
    assert all(len(set(row)) == num_speakers for row in speakers[:, :, 0].tolist()), "a speaker twice in a batch"
    assert (np.bincount(speaker_of[used], minlength=len(counts)) <= max_utts).all()
    assert (batches == epoch_batches(speaker_of, num_speakers, num_utts, max_utts, seed, epoch)).all()


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 12), min_size=2, max_size=30), num_utts=st.integers(1, 3),
       min_utts=st.integers(3, 9), max_utts=st.integers(9, 12), seed=st.integers(0, 9))
def test_speakers_with_few_utterances_are_drawn_min_utts_times(counts, num_utts, min_utts, max_utts, seed):
    speaker_of = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    draws = epoch_batches(speaker_of, 1, num_utts, max_utts, seed, 0, min_utts).ravel()
    again, utts = np.divmod(draws, len(speaker_of))
    assert len(set(draws.tolist())) == len(draws), "a draw twice"
    for speaker, count in enumerate(counts):
        own = speaker_of[utts] == speaker
        assert own.sum() == min(max(count, min_utts), max_utts) // num_utts * num_utts
        for utt in np.flatnonzero(speaker_of == speaker):
            times = sorted(again[utts == utt].tolist())
            assert times == list(range(len(times))) and len(times) - own.sum() // count in (0, 1), "unequally often"


def test_small_corpus_loses_few_utterances():
    speaker_of = np.repeat(np.arange(100), 20)
    sizes = [epoch_batches(speaker_of, 24, 2, 500, seed, 0).size for seed in range(20)]
    assert min(sizes) >= 2000 - 2 * 48 and max(sizes) <= 2000 // 48 * 48


def test_epochs_and_seeds_differ():
    speaker_of = np.repeat(np.arange(12), 6)
    one, other, third = (epoch_batches(speaker_of, 4, 2, 500, *x) for x in ((1, 0), (1, 1), (2, 0)))
    assert (one != other).any() and (one != third).any()


def test_too_few_speakers_make_no_batch():
    assert len(epoch_batches(np.array([0, 0, 1, 1]), 3, 2, 500, 1, 0)) == 0


def test_a_million_utterances():
    speaker_of = np.random.default_rng(0).integers(0, 6112, 1_100_000)
    batches = epoch_batches(speaker_of, 160, 2, 500, 1, 0)
    assert batches.size > 0.98 * 1_100_000


@given(num_speakers=st.integers(2, 9), size=st.integers(1, 6), seed=st.integers(0, 999))
def test_groups_fill_batches_in_order(num_speakers, size, seed):
    """The same batches as by a plain search through all waiting groups."""
    rng = np.random.default_rng(seed)
    speakers = rng.binomial(num_speakers - 1, 0.3, rng.integers(200)).tolist()
    left, expected = list(range(len(speakers))), []
    while True:
        batch = list({speakers[p]: p for p in reversed(left)}.values())
        if len(batch) < size:
            break
        expected.append(sorted(batch)[:size])
        left = [p for p in left if p not in expected[-1]]
    assert list(fill_batches(speakers, size)) == expected


def test_few_speakers_with_many_utterances_stay_linear():
    """Most groups of frequent speakers wait; a search through all of them for each batch took minutes."""
    rng = np.random.default_rng(0)
    share = rng.exponential(size=200)
    speaker_of = rng.choice(200, 1_000_000, p=share / share.sum())
    started = time.process_time()
    assert len(epoch_batches(speaker_of, 160, 2, 10**9, 1, 0)) > 1000
    assert time.process_time() - started < 6
