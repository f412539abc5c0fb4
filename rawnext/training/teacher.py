# SPDX-License-Identifier: Apache-2.0
"""Embeddings of another network, which a small one learns to predict (distillation)."""

import hashlib
from collections.abc import Sequence

import numpy as np

from rawnext.config import Config
from rawnext.data.cuts import CutTable
from rawnext.data.speed import with_copies
from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.kaldi.ark import read_matrix


class Teacher:
    """The teacher's embedding of each utterance, minus the mean of all and of unit length.

    The part that all embeddings share would dominate the cosine: of Resemblyzer's, two speakers have 0.55 on average.
    An utterance without a vector has that of its speaker.

    Args:
        scp: Kaldi table of vectors by utt or speaker. A speaker's mean is the better target if utterances are short.
        utts, speakers: N ids of the utterances and of their speakers.
    Attributes: dim: D.   sha256: of the vectors and of the utterances' rows.
    Raises: InputError: an utterance has neither, or a vector is damaged or zero.
    """

    def __init__(self, scp: PathLike, utts: Sequence[str], speakers: Sequence[str]):
        keys, x = read_matrix(scp)
        x = x - x.mean(0)
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        if not (norms > 0).all():
            raise InputError(scp, None, f"{keys[int(norms.argmin())]} equals the mean of all vectors")
        place = {key: row for row, key in enumerate(keys)}
        rows = [place.get(utt, place.get(spk, -1)) for utt, spk in zip(utts, speakers)]
        if -1 in rows:
            first, num = rows.index(-1), rows.count(-1)
            raise InputError(scp, None, f"{num} of {len(rows)} utterances have no embedding, nor have their speakers; "
                                        f"the first: {utts[first]} of {speakers[first]}")
        self.rows, self.x, self.dim = np.array(rows), (x / norms).astype(np.float32), x.shape[1]
        self.sha256 = hashlib.sha256(self.rows.tobytes() + self.x.tobytes()).hexdigest()

    def __getitem__(self, indices: Sequence[int]) -> np.ndarray:
        """(B, D) unit vectors of B utterances."""
        return self.x[self.rows[indices]]


def read_teacher(scp: str, table: CutTable, config: Config) -> Teacher:
    """The teacher's embeddings of all utterances and their copies.   Raises: InputError: see Teacher."""
    names = [str(table.speakers[spk]) for spk in table.speaker_of]
    speeds = config.batch.speeds
    return Teacher(scp, with_copies(list(table.utts), speeds), with_copies(names, speeds))
