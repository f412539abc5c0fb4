# SPDX-License-Identifier: Apache-2.0
"""Segments of cuts for training; only the requested samples of a file are read."""

import math

import numpy as np

from rawnext.data.audio import read_16k
from rawnext.data.cuts import SAMPLE_RATE, Cut, tile
from rawnext.data.wav import LARGEST


class AudioFault(Exception):
    """Audio that is in the manifest and cannot be read from disk."""


def read_segment(cut: Cut, start: int, num_samples: int) -> np.ndarray:
    """Samples start...start + num_samples of a cut, float32; a cut that ends earlier is repeated from `start`.

    Raises: AudioFault: the audio cannot be decoded, is not finite or on the scale of integers.
    """
    num_read = min(num_samples, cut.num_samples - start)
    if num_read < 1:
        raise AudioFault(f"{cut.utt}: no samples from sample {start} on")
    try:
        wave = load(cut, start, num_read)
    except Exception as error:  # decoders and lhotse raise many types; the reason is reported
        why = " ".join(str(error).split())[:200]
        raise AudioFault(f"{cut.utt}: {type(error).__name__}: {why}") from error
    if len(wave) < num_read:
        raise AudioFault(f"{cut.utt}: {len(wave)} samples instead of {num_read}")
    peak = float(max(wave.max(), -wave.min()))
    if not math.isfinite(peak):
        raise AudioFault(f"{cut.utt}: contains NaN or infinity")
    if peak > LARGEST:
        raise AudioFault(f"{cut.utt}: has samples up to {peak:.0f}; they must be in [-1, 1]")
    return tile(wave, num_samples)


def load(cut: Cut, start: int, num: int) -> np.ndarray:
    """`num` samples from `start` on; fewer if the file ends earlier."""
    if cut.lhotse is not None:
        part = cut.lhotse.truncate(offset=start / SAMPLE_RATE, duration=num / SAMPLE_RATE, preserve_id=True)
        return part.load_audio()[0][:num]
    return read_16k(cut.path, start, num, cut.channel, cut.rate, cut.begin)
