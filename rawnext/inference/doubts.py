# SPDX-License-Identifier: Apache-2.0
"""Reasons to doubt an embedding, from the recording alone: too short, quiet, clipped, noisy, or no speech at all.

The limits come from 150 utterances of speechocean762. In 99 of 100 the quietest tenth of the frames is at least 28 dB
below the loud frames, and no sample is at full scale. With white noise at 10 dB SNR the difference is 15 to 18 dB;
clipped at 8 times their level, 95 of 100 have at least one sample in 1,400 at full scale. Those of `sound_of` are such
that none of 808 utterances of speechocean762, LibriSpeech and others, at 8 to 48 kHz, is taken for another sound.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rawnext.data.cuts import SAMPLE_RATE

SHORT_S = 2.0  # calibrations cover 1 s and more; error rates grow fast below 2 s
FRAME_S = 0.025
SHIFT_S = 0.01
PAUSE_DB = 30  # frames this far below the loud frames are pauses
RANGE_DB = 20  # minimum difference of loud frames and the quietest tenth
QUIET_DBFS = -45
FULL_SCALE = 0.999
CLIPPED_SHARE = 5e-4

# Sounds other than speech, see sound_of
EXAMINED_S = 30  # of a recording; of a longer one, PIECES of it
PIECES = 20
MOST_NUMBERS = 1 << 23  # of its spectra
BANDS = 20
LOW_HZ, HIGH_HZ = 100, 7000
FLOOR_DB = 60  # below the loudest band
LEAST_VARIETY_DB = 4.5  # speech: from 4.6; white noise: 2.9
LEAST_CHANGE_DB = 1.2  # speech: from 1.4; notes and chords: up to 0.9
MOST_TONAL = 0.97  # speech: up to 0.96
RUN = 5  # frames
LEAST_IN_RUNS = 0.5  # speech: from 0.7


def of_recording(wave: np.ndarray, rate: int) -> list[str]:
    """Warnings about (T,) samples in [-1, 1] at `rate` Hz, about 0.1 s or more and not all zero."""
    level = frame_levels(wave, rate)
    loud, quiet = np.percentile(level, [95, 10])
    seconds, loud_s = len(wave) / rate, FRAME_S * float(np.sum(level > loud - PAUSE_DB))
    clipped = (np.count_nonzero(wave >= FULL_SCALE) + np.count_nonzero(wave <= -FULL_SCALE)) / len(wave)
    found = []
    if seconds < SHORT_S:
        found.append(f"Short: {seconds:.2f} s; errors are more frequent below {SHORT_S:g} s.")
    elif loud_s < SHORT_S:
        found.append(f"Little speech: only {loud_s:.2f} s are louder than pauses.")
    if clipped > CLIPPED_SHARE:
        found.append(f"Clipped: {100 * clipped:.2g} % of the samples are at full scale.")
    if loud < QUIET_DBFS:
        found.append(f"Quiet: the loud parts are at {loud:.0f} dB of full scale.")
    if loud - quiet < RANGE_DB:
        found.append(f"Noise, music or speech without pauses: the quietest tenth is only {loud - quiet:.0f} dB below "
                     "the loud parts.")
    elif sound := sound_of(wave, rate):
        found.append(f"No speech? It sounds like {sound}.")
    if rate < SAMPLE_RATE:
        found.append(f"Narrow band: sampled at {rate / 1000:g} kHz, so nothing above {rate / 2000:g} kHz.")
    return found


def frame_levels(wave: np.ndarray, rate: int) -> np.ndarray:
    """(F,) levels of full frames in dB of full scale."""
    length = int(FRAME_S * rate)
    frames = wave[: len(wave) // length * length].reshape(-1, length)
    power = np.einsum("fs,fs->f", frames, frames, dtype=np.float64) / length
    return 10 * np.log10(power + 1e-12)


def sound_of(wave: np.ndarray, rate: int) -> str:
    """What (T,) samples sound like if not like speech, empty otherwise: by the spectra of the loud frames.

    Loud frames of speech come in runs, unlike those of clicks. Their spectra vary over a recording, unlike those of
    noise and hum, and from frame to frame, unlike those of notes. They have more than one or two spectral lines.
    """
    length = int(FRAME_S * rate)
    size = 1 << (length - 1).bit_length()
    frames = sliding_window_view(pieces(wave, rate, MOST_NUMBERS // size), length)[:: int(SHIFT_S * rate)]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(length).astype(np.float32), size)))
    total = power.sum(axis=1)
    level = 10 * np.log10(total + 1e-12)
    loudest = np.sort(level)[-max(1, len(level) // 100):].mean()
    loud = level > loudest - PAUSE_DB
    edges = np.geomspace(LOW_HZ, min(HIGH_HZ, 0.475 * rate), BANDS + 1)
    first = np.unique((edges * size / rate).astype(int))  # bins of a low rate are wider than the lowest bands
    bands = 10 * np.log10(np.add.reduceat(power, first, axis=1)[:, :-1] + 1e-12)
    bands = np.maximum(bands, bands.max() - FLOOR_DB)
    bands -= bands.mean(axis=1, keepdims=True)  # the shape of the spectrum, whatever its level
    ends = np.flatnonzero(np.diff(loud.astype(int), prepend=0, append=0))
    runs = ends[1::2] - ends[::2]
    if runs[runs >= RUN].sum() < LEAST_IN_RUNS * loud.sum():
        return "clicks"
    lines = np.sort(power[loud], axis=1)[:, -4:].sum(axis=1) / total[loud]
    change = np.sqrt(np.square(np.diff(bands, axis=0)).mean(axis=1))[loud[1:] & loud[:-1]]
    if np.median(lines) > MOST_TONAL or np.median(change) < LEAST_CHANGE_DB:
        return "tones or music"
    return "noise or hum" if bands[loud].std(axis=0).mean() < LEAST_VARIETY_DB else ""


def pieces(wave: np.ndarray, rate: int, most_frames: int) -> np.ndarray:
    """(T,) samples, or evenly spaced parts of them that together have at most EXAMINED_S seconds and these frames."""
    num = int(min(EXAMINED_S, most_frames * SHIFT_S) * rate)
    if len(wave) <= num:
        return wave
    length = num // PIECES
    starts = np.linspace(0, len(wave) - length, PIECES).astype(int)
    return np.concatenate([wave[start : start + length] for start in starts])
