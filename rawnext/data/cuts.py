# SPDX-License-Identifier: Apache-2.0
"""Random access to a manifest of a million cuts, and to segments of their audio."""

import json
import os
from typing import Any

import numpy as np

from rawnext.tables import InputError, PathLike

SAMPLE_RATE = 16000


class CutTable:
    """Lhotse cuts of a `cuts.jsonl`, read one by one when asked for.

    A cut in memory costs 3.4 kB, its place in the file 8 bytes: so VoxCeleb2's million fit in every process.

    Args:
        path: the data directory.
    Attributes:
        utts: N ids.   speakers: sorted speaker ids.   speaker_of: (N,) index of each cut's speaker.
    Raises: InputError: no manifest, or one that is empty or damaged.
    """

    def __init__(self, path: PathLike):
        self.path = os.path.join(path, "cuts.jsonl")
        self.utts: list[str] = []
        offsets, names = [], []
        try:
            with open(self.path, "rb") as file:
                offset = 0
                for number, line in enumerate(file, 1):
                    try:
                        cut = json.loads(line)
                        names.append(cut["supervisions"][0]["speaker"])
                        self.utts.append(cut["id"])
                    except (ValueError, KeyError, IndexError):
                        raise InputError(self.path, number, "not a lhotse cut with a speaker") from None
                    offsets.append(offset)
                    offset += len(line)
        except FileNotFoundError:
            raise InputError(self.path, None, "no such manifest; make it by stage 1 (or 2 for noises)") from None
        if not offsets:
            raise InputError(self.path, None, "is empty")
        self.offsets = np.array(offsets)
        self.speakers, self.speaker_of = np.unique(names, return_inverse=True)
        self._file: Any = None

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int):
        """The lhotse MonoCut at a line (0-based)."""
        from lhotse.serialization import deserialize_item

        if self._file is None or self._file[0] != os.getpid():  # a file position must not be shared with a fork
            self._file = (os.getpid(), open(self.path, "rb"))  # noqa: SIM115 (stays open)
        self._file[1].seek(self.offsets[index])
        return deserialize_item(json.loads(self._file[1].readline()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def read_segment(cut, start: int, num_samples: int) -> np.ndarray:
    """Samples start...start + num_samples of a cut, float32; a cut that ends before is repeated from `start`.

    Raises: AudioFault: the audio cannot be decoded or is not finite.
    """
    num_read = min(num_samples, cut.num_samples - start)
    try:
        part = cut.truncate(offset=start / SAMPLE_RATE, duration=num_read / SAMPLE_RATE, preserve_id=True)
        wave = part.load_audio()[0]
    except Exception as error:  # lhotse and its decoders raise what they like; the reason is kept and reported
        raise AudioFault(f"{cut.id}: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}") from error
    if len(wave) < num_read:
        raise AudioFault(f"{cut.id}: {len(wave)} samples where {num_read} were expected")
    wave = tile(wave[:num_read], num_samples)
    if not np.isfinite(wave).all():
        raise AudioFault(f"{cut.id}: holds NaN or infinity")
    return wave


class AudioFault(Exception):
    """Audio that a manifest promises and the disk does not give."""


def tile(wave: np.ndarray, num_samples: int) -> np.ndarray:
    """Repeat (T,) until it has num_samples; cut there."""
    return wave[:num_samples] if len(wave) >= num_samples else np.resize(wave, num_samples)
