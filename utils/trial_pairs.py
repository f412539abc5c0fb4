# SPDX-License-Identifier: Apache-2.0
"""All possible target trials of a speaker, as lazy sequences that are drawn from by index."""

import bisect
import itertools
import random
from array import array
from collections.abc import Iterable, Sequence

Pair = tuple[str, str]


class UttPairs:
    """All pairs of one speaker's utterances from different groups (sessions, or single utterances).

    For groups (a) (b) (c) they are (a, b), (a, c), (b, c): each utterance is paired with those of earlier groups.
    """

    can_swap = True

    def __init__(self, groups: Iterable[list[str]]):
        self.tests: list[str] = []
        self.before = array("Q")  # number of utterances in earlier groups, for each utterance
        for group in groups:
            self.before.extend([len(self.tests)] * len(group))
            self.tests += group
        self.ends = array("Q", itertools.accumulate(self.before))  # number of pairs up to each utterance

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, number: int) -> Pair:
        second = bisect.bisect_right(self.ends, number)
        return self.tests[number - self.ends[second] + self.before[second]], self.tests[second]


class ModelPairs:
    """All pairs of a speaker's models (`size` utterances each) and those of its utterances that are in no model.

    A group (session) is on one side only. A speaker with too few utterances has no models; all are test utterances.
    """

    can_swap = False

    def __init__(self, spk: str, groups: Sequence[list[str]], size: int, rng: random.Random):
        mixed = rng.sample(groups, len(groups))
        mixed.append(mixed.pop(mixed.index(min(mixed, key=len))))  # the last group is for the test: a small one
        enroll: list[str] = []
        half, used = sum(map(len, mixed)) // 2, 0
        while used < len(mixed) - 1 and len(enroll) < max(size, half):
            enroll += mixed[used]
            used += 1
        if len(enroll) < size:
            enroll, used = [], 0
        rng.shuffle(enroll)
        self.models = {f"{spk}-m{number:03}": enroll[start:start + size]
                       for number, start in enumerate(range(0, len(enroll) - size + 1, size), 1)}
        self.names = list(self.models)
        self.tests = [utt for group in mixed[used:] for utt in group]

    def __len__(self) -> int:
        return len(self.names) * len(self.tests)

    def __getitem__(self, number: int) -> Pair:
        return self.names[number // len(self.tests)], self.tests[number % len(self.tests)]


def share(total: int, most: Sequence[int]) -> list[int]:
    """Split `total` as evenly as possible into shares with the maxima `most`."""
    shares = [0] * len(most)
    for rank, place in enumerate(sorted(range(len(most)), key=lambda place: most[place])):
        shares[place] = min(most[place], total // (len(most) - rank))
        total -= shares[place]
    return shares
