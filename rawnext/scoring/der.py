# SPDX-License-Identifier: Apache-2.0
"""Diarization error rate: the share of speech time that is missed, invented or given to the wrong speaker.

As NIST's md-eval: time is weighted by the number of speakers who talk, and speakers of the hypothesis are mapped one to
one to those of the reference so that they talk together as long as possible.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from rawnext.kaldi.rttm import Turn


class Errors(NamedTuple):
    """Seconds of speech in the reference (`total`), of missed speech, of false alarms, and of wrong speakers."""

    total: float = 0.0
    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0


def activity(turns: Sequence[Turn], times: np.ndarray) -> np.ndarray:
    """(S, N) bool: who of S speakers talks in the intervals between N + 1 times, which include all starts and ends."""
    speakers = {speaker: row for row, speaker in enumerate(sorted({turn.speaker for turn in turns}))}
    change = np.zeros(len(speakers) * len(times), int)
    row = np.array([speakers[turn.speaker] for turn in turns], int)
    for ends, step in ((1, 1), (2, -1)):
        np.add.at(change, len(times) * row + np.searchsorted(times, [turn[ends] for turn in turns]), step)
    return np.cumsum(change.reshape(len(speakers), len(times)), axis=1)[:, :-1] > 0


def diarization_errors(reference: Sequence[Turn], hypothesis: Sequence[Turn], collar: float = 0.0,
                       ignore_overlap: bool = False) -> Errors:
    """The errors of one recording.

    Args: collar: seconds before and after each start and end of the reference that are not scored.
        ignore_overlap: nor is the time in which several speakers of the reference talk.
    """
    edges = np.array([time for turn in reference for time in turn[1:3]])
    times = np.unique(np.concatenate([[time for turn in hypothesis for time in turn[1:3]], edges,
                                      edges - collar, edges + collar]))
    if len(times) < 2:
        return Errors()
    spoken, found = activity(reference, times), activity(hypothesis, times)
    seconds, middle = np.diff(times), (times[1:] + times[:-1]) / 2
    if collar and len(edges):
        edges = np.sort(edges)
        near = np.clip(np.searchsorted(edges, middle), 1, len(edges) - 1)
        seconds = seconds * (np.minimum(abs(middle - edges[near - 1]), abs(middle - edges[near])) > collar)
    if ignore_overlap:
        seconds = seconds * (spoken.sum(axis=0) < 2)
    num_spoken, num_found = spoken.sum(axis=0), found.sum(axis=0)
    together = (spoken * seconds) @ found.T.astype(float)
    right = together[linear_sum_assignment(together, maximize=True)].sum()
    both = np.minimum(num_spoken, num_found) @ seconds
    return Errors(float(num_spoken @ seconds), float(np.maximum(num_spoken - num_found, 0) @ seconds),
                  float(np.maximum(num_found - num_spoken, 0) @ seconds), float(both - right))
