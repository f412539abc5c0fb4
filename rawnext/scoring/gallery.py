# SPDX-License-Identifier: Apache-2.0
"""A gallery of enrolled speakers: an ark and scp with their models, and a JSON file with their origin.

A model is the mean of its utterances' unit vectors. The number and seconds of the utterances are kept, so that more can
be added, and the mean norm of their embeddings, for calibrations.
"""

import json
import math
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from rawnext.errors import InputError
from rawnext.files import PathLike, read_json, write_lines
from rawnext.identity import described, network_of
from rawnext.kaldi.ark import Vectors, open_regular, read_matrix, write_vectors
from rawnext.kaldi.words import check_id
from rawnext.scoring.cosine import unit_vectors
from rawnext.scoring.decision import Judge
from rawnext.scoring.embeddings import check_nonzero
from rawnext.stamp import sha256

FORM = "gallery 1"
MOST = 1e9  # utterances and seconds of a speaker


class Speaker(NamedTuple):
    """mean: (D,) of the utterances' unit vectors.   utts: number of utterances.   seconds: their total duration.

    norm: mean norm of their embeddings; NaN: not known, in galleries of earlier versions.
    """

    mean: np.ndarray
    utts: int
    seconds: float
    norm: float


class Gallery:
    """Speakers by name.

    Args:
        paths: the ark and the scp; the JSON file has the scp's name with .json.
        fingerprint: of the embedding model; embeddings of different models are not comparable. None: any, to list or
            remove speakers.
        any_vad: take a gallery with any voice activity detection, or without.
    unfinished: a program was killed while it wrote these files; `save` completes them.
    Raises: InputError: an existing gallery is damaged, or belongs to another model.
    """

    def __init__(self, paths: tuple[PathLike, PathLike], fingerprint: str | None, any_vad: bool = False):
        self.ark, self.scp, self.fingerprint = Path(paths[0]), Path(paths[1]), fingerprint
        self.unfinished, self.any_vad = False, any_vad
        self.json = self.scp.with_suffix(".json")
        self.about: dict[str, Any] | None = None  # the JSON file's content, without `previous`
        self.speakers: dict[str, Speaker] = self._read() if self.scp.exists() or self.json.exists() else {}

    def _read(self) -> dict[str, Speaker]:
        what = "a gallery made by rawnext enroll"
        if not self.json.exists():
            raise InputError(self.json, None, "no such file; a gallery needs it")
        about = read_json(self.json, what)
        if isinstance(about, dict) and "previous" in about:  # saving was interrupted
            previous, self.unfinished = about.pop("previous"), True
            if not self.scp.exists() and (previous is None or not about.get("speakers")):
                return {}
            if isinstance(previous, dict) and self._ark_sha256() == previous.get("ark_sha256"):
                about = previous
        try:
            known = {name: (int(spk["utts"]), float(spk["seconds"]), float(spk.get("norm", math.nan)))
                     for name, spk in about["speakers"].items()}
            form, ark_sha256, fingerprint = about["form"], about["ark_sha256"], about["model"]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            form, known = None, {}
        if form != FORM or not all(1 <= utts <= MOST and 0 < seconds <= MOST
                                   and (math.isnan(norm) or 0 < norm < math.inf)
                                   for utts, seconds, norm in known.values()):
            raise InputError(self.json, None, f"is not {what}")
        if self.fingerprint is None:
            self.fingerprint = str(fingerprint)
        if fingerprint != self.fingerprint and not (self.any_vad and network_of(fingerprint) == self.fingerprint):
            what = "model" if network_of(fingerprint) == network_of(self.fingerprint) else "another model,"
            theirs, ours = described(fingerprint, self.fingerprint), described(self.fingerprint, fingerprint)
            raise InputError(self.json, None, f"was made with {what} {theirs}; enroll again with this one, {ours}")
        keys, means = read_matrix(self.scp)
        if keys != list(known) or self._ark_sha256() != ark_sha256:
            raise InputError(self.json, None, f"does not match {self.ark}; enroll again in a new gallery")
        check_nonzero(keys, means, self.scp)
        self.about = about
        return {name: Speaker(mean, *known[name]) for name, mean in zip(keys, means)}

    def enroll(self, name: str, embeddings: np.ndarray, seconds: float, add: bool = False) -> Speaker:
        """Make or replace a speaker from (N, D) embeddings of N utterances, or add them to an existing speaker.

        Raises: InputError: the name cannot be an id; with add, there is no such speaker.
        """
        utts, total = len(embeddings), unit_vectors(embeddings.astype(np.float64)).sum(axis=0)
        norm = float(np.linalg.norm(embeddings, axis=1).mean())
        if add:
            if name not in self.speakers:
                raise InputError(self.scp, None, f"{name} is not enrolled; nothing can be added")
            old = self.speakers[name]
            self._check_dim(embeddings)
            norm = (utts * norm + old.utts * old.norm) / (utts + old.utts)
            total, utts, seconds = total + old.utts * old.mean, utts + old.utts, seconds + old.seconds
        self.speakers[check_id(name, self.scp)] = Speaker(total / utts, utts, seconds, norm)
        return self.speakers[name]

    def remove(self, names: Iterable[str]) -> None:
        """Remove speakers, and save: afterwards none of the files has anything of them, nor has a temporary file that a
        killed program left.

        Raises: InputError: a name is not enrolled; nobody is removed then.
        """
        if self.unfinished:  # the JSON file, and perhaps the ark, may still have speakers that are no longer listed
            self.save()
        for name in dict.fromkeys(names):
            if name not in self.speakers:
                raise InputError(self.scp, None, f"{name} is not enrolled; nobody was removed")
        self.speakers = {name: speaker for name, speaker in self.speakers.items() if name not in set(names)}
        self.save()

    def save(self) -> None:
        """Replace the three files. While the ark and scp are replaced, the JSON file describes the old ones too.

        Without speakers, the files are deleted.
        """
        speakers = dict(sorted(self.speakers.items(), key=lambda item: item[0].encode()))
        models = [(name, speaker.mean) for name, speaker in speakers.items()]
        self.ark.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{self.ark.name}.0", suffix=".tmp", dir=self.ark.parent) as folder:
            ark = Path(folder) / "ark"
            write_vectors(ark, Path(folder) / "scp", models)
            ark_sha256 = sha256(ark)
        about = {"form": FORM, "model": self.fingerprint, "ark_sha256": ark_sha256,
                 "speakers": {name: {"utts": speaker.utts, "seconds": round(speaker.seconds, 3)}
                              | ({} if math.isnan(speaker.norm) else {"norm": float(f"{speaker.norm:.6g}")})
                              for name, speaker in speakers.items()}}
        self._write_json({**about, "previous": self.about})
        if speakers:
            write_vectors(self.ark, self.scp, models)
            self._write_json(about)
        else:
            for path in (self.scp, self.ark, self.json):
                path.unlink(missing_ok=True)
        self.about, self.unfinished = about if speakers else None, False
        for path in map(Path.resolve, (self.ark, self.scp, self.json)):
            for old in path.parent.iterdir():
                if re.fullmatch(rf"\.{re.escape(path.name)}\.\w+(\.\d+)?\.(tmp|new)", old.name):  # of killed programs
                    shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)

    def _write_json(self, about: dict[str, Any]) -> None:
        write_lines(self.json, [json.dumps(about, indent=1, ensure_ascii=False)])

    def _ark_sha256(self) -> str:
        """Of the ark that the scp names; while it is replaced, this is not self.ark."""
        paths = Vectors(self.scp).paths
        if len(paths) != 1:
            raise InputError(self.scp, None, "does not name one ark")
        with open_regular(paths[0]):
            return sha256(paths[0])

    def _check_dim(self, embeddings: np.ndarray) -> None:
        """Raise InputError unless (N, D) embeddings have the dimension of the speakers."""
        dim = len(next(iter(self.speakers.values())).mean)
        if embeddings.shape[1] != dim:
            raise InputError(self.ark, None, f"{dim} dimensions, but the model has {embeddings.shape[1]}")

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, S) cosines of (N, D) embeddings with the S speakers, in the order of `speakers`.

        Raises: InputError: other dimensions.
        """
        self._check_dim(embeddings)
        return unit_vectors(embeddings) @ unit_vectors(self.means).T

    @property
    def means(self) -> np.ndarray:
        """(S, D) means of the speakers' unit vectors."""
        return np.stack([speaker.mean for speaker in self.speakers.values()])

    @property
    def norms(self) -> np.ndarray:
        """(S,) mean norms of the speakers' embeddings.   Raises: InputError: one is not known."""
        if unknown := [name for name, speaker in self.speakers.items() if math.isnan(speaker.norm)]:
            raise InputError(self.json, None, f"has no norm of the embeddings of {unknown[0]}; enroll again")
        return np.array([speaker.norm for speaker in self.speakers.values()])

    def llrs(self, embeddings: np.ndarray, seconds: np.ndarray, judge: Judge) -> tuple[np.ndarray, np.ndarray]:
        """(N, S) LLRs of (N, D) embeddings of (N,) seconds with the speakers; and bool, see Judge.llr.

        Raises: InputError: other dimensions, or a measure needs a norm that is not known.
        """
        cosines, num = self.scores(embeddings), len(self.speakers)
        rows, columns = np.divmod(np.arange(cosines.size), num)
        enrolled = np.array([speaker.seconds for speaker in self.speakers.values()])
        models = unit_vectors(self.means) * self.norms[:, None] if judge.needs("norm") else self.means
        llrs, outside = judge.llr(cosines.ravel(), models, embeddings, columns, rows, enrolled[columns],
                                  np.asarray(seconds)[rows])
        return llrs.reshape(cosines.shape), outside.reshape(cosines.shape)

    def name(self, embeddings: np.ndarray, seconds: np.ndarray, judge: Judge, threshold: float) -> dict[int, str]:
        """Names of those of N embeddings that are speakers of the gallery, each at most once.

        Args: embeddings: (N, D) of different speakers.   seconds: (N,) of their speech.   judge: with a calibration.
            threshold: the lowest LLR that is accepted.
        """
        speakers, (llrs, _) = list(self.speakers), self.llrs(embeddings, seconds, judge)
        pairs = linear_sum_assignment(np.maximum(llrs, threshold), maximize=True)
        return {int(row): speakers[column] for row, column in zip(*pairs) if llrs[row, column] >= threshold}
