# SPDX-License-Identifier: Apache-2.0
"""A gallery of enrolled speakers: Kaldi's ark and scp of their models, and what they were made from beside it, as JSON.

A model is the mean of its utterances' unit vectors; it keeps their number and seconds, so that more can be added.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike, write_lines
from rawnext.kaldi.ark import read_matrix, write_vectors
from rawnext.kaldi.tables import check_id
from rawnext.scoring.cosine import unit_vectors
from rawnext.stamp import sha256

FORM = "gallery 1"


class Speaker(NamedTuple):
    """mean: (D,) of its utterances' unit vectors.   utts: how many.   seconds: of all of them."""

    mean: np.ndarray
    utts: int
    seconds: float


class Gallery:
    """Speakers by name.

    Args:
        place: ark and scp where it is kept; beside them SCP's name with .json.
        fingerprint: of the model that makes its embeddings; those of another are not comparable.
    Raises: InputError: what is there is damaged, or of another model.
    """

    def __init__(self, place: tuple[PathLike, PathLike], fingerprint: str):
        self.ark, self.scp, self.fingerprint = Path(place[0]), Path(place[1]), fingerprint
        self.about = self.scp.with_suffix(".json")
        self.speakers: dict[str, Speaker] = self._read() if self.scp.exists() or self.about.exists() else {}

    def _read(self) -> dict[str, Speaker]:
        try:
            about = json.loads(self.about.read_text(encoding="utf-8"))
            known = {name: (int(of["utts"]), float(of["seconds"])) for name, of in about["speakers"].items()}
            form, ark_sha256, fingerprint = about["form"], about["ark_sha256"], about["model"]
        except FileNotFoundError:
            raise InputError(self.about, None, "no such file; without it the vectors are no gallery") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            form = None
        if form != FORM:
            raise InputError(self.about, None, "is not a gallery of rawnext enroll")
        if fingerprint != self.fingerprint:
            raise InputError(self.about, None, "was made with another model; enroll again with this one")
        keys, means = read_matrix(self.scp)
        if keys != list(known) or sha256(self.ark) != ark_sha256:
            raise InputError(self.about, None, f"does not belong to {self.ark}: enroll again in a new gallery")
        return {name: Speaker(mean, *known[name]) for name, mean in zip(keys, means)}

    def enroll(self, name: str, embeddings: np.ndarray, seconds: float, add: bool = False) -> Speaker:
        """Make (or replace) a speaker of (N, D) embeddings of N utterances, or add them to the one that is there.

        Raises: InputError: the name cannot be an id, or add, and there is no such speaker.
        """
        utts, total = len(embeddings), unit_vectors(embeddings.astype(np.float64)).sum(axis=0)
        if add:
            if name not in self.speakers:
                raise InputError(self.scp, None, f"{name} is not enrolled, so nothing can be added")
            mean, num, had_seconds = self.speakers[name]
            total, utts, seconds = total + num * mean, utts + num, seconds + had_seconds
        self.speakers[check_id(name, self.scp)] = Speaker(total / utts, utts, seconds)
        return self.speakers[name]

    def save(self) -> None:
        """Write it: models, then what belongs to them."""
        speakers = dict(sorted(self.speakers.items(), key=lambda item: item[0].encode()))
        write_vectors(self.ark, self.scp, ((name, speaker.mean) for name, speaker in speakers.items()))
        about = {"form": FORM, "model": self.fingerprint, "ark_sha256": sha256(self.ark),
                 "speakers": {name: {"utts": speaker.utts, "seconds": round(speaker.seconds, 3)}
                              for name, speaker in speakers.items()}}
        write_lines(self.about, [json.dumps(about, indent=1, ensure_ascii=False)])

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, S) cosines of (N, D) embeddings with all S speakers, in the order of `speakers`."""
        means = np.stack([speaker.mean for speaker in self.speakers.values()])
        return unit_vectors(embeddings) @ unit_vectors(means).T
