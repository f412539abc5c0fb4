# SPDX-License-Identifier: Apache-2.0
"""Augmentation by what a voice passes through: microphones, the telephone, codecs.

Each operation keeps the length and the RMS of its input.
"""

import io
import random

import numpy as np
import scipy
import soundfile

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.training.augment import OPERATIONS, Banks

# Format and subtype of libsndfile, sampling rate, and range of its compression level (0: best, 1: smallest file)
CODECS = (("OGG", "OPUS", 16000, (0.93, 0.99)), ("OGG", "OPUS", 8000, (0.93, 0.99)),
          ("OGG", "VORBIS", 16000, (0.5, 1.0)), ("MP3", "MPEG_LAYER_III", 16000, (0.5, 1.0)),
          ("WAV", "GSM610", 8000, None), ("WAV", "IMA_ADPCM", 8000, None), ("WAV", "G721_32", 8000, None))


def like(changed: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """`changed` with the length and the RMS of wave (T,)."""
    out = np.zeros(len(wave), np.float32)
    out[: len(changed)] = changed[: len(wave)]
    power = float(np.einsum("t,t", out, out))
    return out * np.float32((float(np.einsum("t,t", wave, wave)) / power) ** 0.5) if power > 0 else wave


@OPERATIONS.register("microphone")
def microphone(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """A random first-order filter, (1 + a z^-1) / (1 + b z^-1) with a and b in -0.6...0.6: more bass or more treble."""
    zero, pole = rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6)
    return like(scipy.signal.lfilter([1, zero], [1, pole], wave).astype(np.float32), wave)


@OPERATIONS.register("telephone")
def telephone(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Narrow-band telephone: 8 kHz, a band from 50-400 Hz to 2.8-3.9 kHz, and G.711 (mu-law or A-law)."""
    narrow = scipy.signal.resample_poly(wave, 1, 2)
    band = scipy.signal.butter(2, [rng.uniform(50, 400), rng.uniform(2800, 3900)], "bandpass", fs=8000, output="sos")
    narrow = scipy.signal.sosfilt(band, narrow)
    peak = np.abs(narrow).max() / rng.uniform(0.1, 1) or 1.0  # calls use a part of the scale
    coded = coder(narrow / peak, "WAV", rng.choice(["ULAW", "ALAW"]), 8000, None)
    return like(scipy.signal.resample_poly(coded, 2, 1), wave)


@OPERATIONS.register("codec")
def codec(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Encode and decode by one of CODECS, at a random quality."""
    form, subtype, rate, levels = rng.choice(CODECS)
    step = SAMPLE_RATE // rate
    samples = scipy.signal.resample_poly(wave, 1, step) if step > 1 else wave
    peak = np.abs(samples).max() / 0.9 or 1.0
    coded = coder(samples / peak, form, subtype, rate, levels and rng.uniform(*levels))
    return like(scipy.signal.resample_poly(coded, step, 1) if step > 1 else coded, wave)


def coder(wave: np.ndarray, form: str, subtype: str, rate: int, level: float | None) -> np.ndarray:
    """(T,) after encoding and decoding in memory by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, subtype, format=form, compression_level=level)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]
