# SPDX-License-Identifier: Apache-2.0
"""Trial lists of any size and embeddings with a realistic EER, in the recipe's files."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import Trials, write_trials

DIM, SPEAKERS_UTTS, NOISE, SEED = 512, 116, 2.5, 0  # NOISE: std within speakers; between them it is 1


class Size(NamedTuple):
    """A list's name, number of trials and number of utterances."""

    name: str
    trials: int
    utts: int


def vectors(names: list[str], speaker_utts: int) -> Iterator[tuple[str, np.ndarray]]:
    """Embeddings of utterances sorted by speaker: the speaker's mean plus noise."""
    rng = np.random.default_rng(SEED)
    for start in range(0, len(names), speaker_utts):
        mean, utts = rng.standard_normal(DIM, np.float32), names[start : start + speaker_utts]
        yield from zip(utts, mean + np.float32(NOISE) * rng.standard_normal((len(utts), DIM), np.float32))


def trial_list(size: Size, names: list[str]) -> Trials:
    """Every utterance is enrolled in turn and tested against a random one; every second trial is a target."""
    rng, enroll = np.random.default_rng(SEED), np.arange(size.trials) * size.utts // size.trials
    is_target, begin = np.arange(size.trials) % 2 == 0, enroll // SPEAKERS_UTTS * SPEAKERS_UTTS
    own = np.minimum(begin + SPEAKERS_UTTS, size.utts) - begin
    test = np.where(is_target, begin + rng.integers(own), begin + own + rng.integers(size.utts - own)) % size.utts
    return Trials([names[row] for row in enroll], [names[row] for row in test], is_target)


class Lists:
    """A folder of trial lists, their embeddings (`scp[NAME]`), a cohort's embeddings, and an experiment."""

    def __init__(self, cohort: int):
        self.temporary = tempfile.TemporaryDirectory(prefix="scoring.")
        self.folder, self.scp = Path(self.temporary.name), dict[str, str]()
        write_lines(self.folder / "config.yaml", ["model: {name: rawnext}"])
        self.cohort = self.embed([f"c{row:06d}" for row in range(cohort)], 1)

    def add(self, size: Size, utts: int = 0) -> None:
        """Add a list over `utts` utterances, of which it uses the first size.utts (default: all of them)."""
        names = [f"id{10001 + row // SPEAKERS_UTTS}-{row * 7919:011d}-00001" for row in range(utts or size.utts)]
        write_trials(self.folder / size.name, trial_list(size, names))
        self.scp[size.name] = self.embed(names, SPEAKERS_UTTS)

    def embed(self, names: list[str], speaker_utts: int) -> str:
        scp = self.folder / f"{names[0][:1]}{len(names)}.scp"
        if not scp.exists():
            write_vectors(scp.with_suffix(".ark"), scp, vectors(names, speaker_utts))
        return str(scp)
