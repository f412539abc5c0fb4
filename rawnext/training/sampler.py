# SPDX-License-Identifier: Apache-2.0
"""The batches of an epoch: P speakers with K utterances each."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np


def epoch_batches(speaker_of: np.ndarray, num_speakers: int, num_utts: int, max_utts: int, seed: int,
                  epoch: int, min_utts: int = 0) -> np.ndarray:
    """All batches of an epoch, a function of the arguments alone.

    A speaker's utterances are shuffled and cut into groups of K (a smaller rest is left out of this epoch), which are
    spread over the epoch. Groups fill batches in that order; a group whose speaker is already in the batch waits for
    the next one. The released code drops it; here groups are dropped only at the end of an epoch, when too few speakers
    are left to fill a batch.

    Args:
        speaker_of: (N,) speaker index of each utterance.
        num_speakers, num_utts: P and K.   max_utts: largest number of a speaker's draws in an epoch.
        min_utts: smallest number; utterances of speakers with fewer are drawn again.
    Returns: (batches, P, K) draws i + N r: utterance i for the r-th time (from 0) in this epoch; no speaker is twice in
        a batch, and no draw twice in an epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(speaker_of))
    short = speaker_of.astype(np.min_scalar_type(speaker_of.max(initial=0)))  # sorting 16-bit numbers takes linear time
    order = order[np.argsort(short[order], kind="stable")]  # by speaker, shuffled within each
    ends = np.flatnonzero(np.diff(speaker_of[order], append=-1)) + 1
    groups, times = [np.empty((0, num_utts), int)], [np.empty(0)]
    for begin, end in zip([0, *ends[:-1]], ends):
        num = min(max(end - begin, min_utts), max_utts) // num_utts
        again, position = np.divmod(np.arange(num * num_utts), end - begin)
        groups.append((order[begin + position] + len(order) * again).reshape(-1, num_utts))
        times.append((np.arange(num) + rng.random(num)) / max(num, 1))  # random, but spread over the epoch
    grouped = np.concatenate(groups)[np.argsort(np.concatenate(times))]
    batches = list(fill_batches(speaker_of[grouped[:, 0] % len(order)].tolist(), num_speakers))
    return grouped[np.array(batches, dtype=int).reshape(-1, num_speakers)]


def fill_batches(speakers: Sequence[int], size: int) -> Iterator[list[int]]:
    """Positions 0...len - 1 in batches of `size` different speakers, first come, first served."""
    waiting: dict[int, deque[int]] = {}  # by speaker: a batch looks only at the first of each speaker
    stream = iter(range(len(speakers)))
    while True:
        batch = sorted(positions[0] for positions in waiting.values())  # at most `size`: all were in the last batch
        present = {speakers[position] for position in batch}
        for speaker in present:
            waiting[speaker].popleft()
            if not waiting[speaker]:
                del waiting[speaker]
        while len(batch) < size and (position := next(stream, None)) is not None:
            if (speaker := speakers[position]) in present:
                waiting.setdefault(speaker, deque()).append(position)
            else:
                batch.append(position)
                present.add(speaker)
        if len(batch) < size:
            return
        yield batch
