# SPDX-License-Identifier: Apache-2.0
"""Sounds of the mini corpus that are not speech: noises, music, rooms, and the channel of a recording.

All are float64 at 16 kHz, and a function of the generator that they are given.
"""

import numpy as np
from scipy.fft import irfft
from scipy.signal import oaconvolve

SAMPLE_RATE = 16000
Rng = np.random.Generator


def shape_spectrum(wave: np.ndarray, freqs: np.ndarray, gains_db: np.ndarray) -> np.ndarray:
    """Filter by gains in dB at freqs in Hz, straight lines over log frequency between them."""
    grid = np.maximum(np.linspace(0, SAMPLE_RATE / 2, 257), 1)
    impulse = irfft(10 ** (np.interp(np.log(grid), np.log(freqs), gains_db) / 20))
    return oaconvolve(wave, np.roll(impulse, 255)[:511] * np.hanning(511), mode="same")  # zero phase


def through_channel(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """As another microphone at another place would take it: a tilt and some bumps of a few dB."""
    freqs = np.geomspace(80, 7500, 8)
    tilt = rng.normal(0, 3) * np.linspace(-1, 1, len(freqs))
    return shape_spectrum(wave, freqs, tilt + rng.normal(0, 2, len(freqs)))


def add_noise(wave: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    return wave + noise * np.sqrt(np.mean(wave ** 2) / (np.mean(noise ** 2) * 10 ** (snr_db / 10)))


# --- noises

def coloured(num_samples: int, rng: Rng) -> np.ndarray:
    """From white noise to brown, with bumps."""
    freqs = np.geomspace(50, 8000, 6)
    return shape_spectrum(rng.standard_normal(num_samples), freqs,
                          -rng.uniform(0, 6) * np.arange(6) + rng.normal(0, 4, 6))


def hum(num_samples: int, rng: Rng) -> np.ndarray:
    """A machine: harmonics of a low tone that drifts, in coloured noise."""
    drift = 1 + 0.01 * np.cumsum(rng.standard_normal(num_samples)) / np.sqrt(num_samples)
    phase = 2 * np.pi * np.cumsum(rng.uniform(45, 180) * drift) / SAMPLE_RATE
    tones = sum(rng.uniform(0, 1) / k * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 9))
    return tones + rng.uniform(0.1, 0.5) * standardize(coloured(num_samples, rng))


def modulated(num_samples: int, rng: Rng) -> np.ndarray:
    """Noise that comes and goes, as cars and waves do."""
    time = np.arange(num_samples) / SAMPLE_RATE
    swell = sum(np.sin(2 * np.pi * rng.uniform(0.2, 4) * time + rng.uniform(0, 6)) for _ in range(3))
    return coloured(num_samples, rng) * np.exp(0.6 * swell)


def clicks(num_samples: int, rng: Rng) -> np.ndarray:
    """Knocks that ring for some milliseconds, over a soft floor."""
    hits = np.zeros(num_samples)
    num = max(3, rng.poisson(4 * num_samples / SAMPLE_RATE))
    hits[rng.integers(0, num_samples, num)] = rng.normal(0, 1, num)
    time = np.arange(800) / SAMPLE_RATE
    ring = np.exp(-time / rng.uniform(0.002, 0.012)) * np.sin(2 * np.pi * rng.uniform(300, 4000) * time)
    return oaconvolve(hits, ring)[:num_samples] + 0.01 * standardize(coloured(num_samples, rng))


NOISES = {"coloured": coloured, "hum": hum, "modulated": modulated, "clicks": clicks}


def standardize(wave: np.ndarray) -> np.ndarray:
    return wave / np.sqrt(np.mean(wave ** 2))


# --- music

def make_music(seconds: float, rng: Rng) -> np.ndarray:
    """Four chords, strummed or broken, of notes with decaying harmonics."""
    wave, root = np.zeros(int(seconds * SAMPLE_RATE)), rng.uniform(110, 220)
    beat, broken = rng.uniform(0.18, 0.4), rng.random() < 0.5
    chords = [[0, 4, 7, 12], [9, 12, 16, 21], [5, 9, 12, 17], [7, 11, 14, 19]]
    brightness, decay = rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.6)
    for number, start in enumerate(np.arange(0, seconds - 0.05, beat)):
        chord = chords[number // 8 % 4]
        for step in [chord[number % 4]] if broken else chord[: 2 + number % 3]:
            _add_note(wave, int(start * SAMPLE_RATE), root * 2 ** (step / 12), brightness, decay)
    return wave


def _add_note(wave: np.ndarray, start: int, freq: float, brightness: float, decay: float) -> None:
    time = np.arange(min(len(wave) - start, int(1.5 * SAMPLE_RATE))) / SAMPLE_RATE
    note = sum(brightness ** k * np.sin(2 * np.pi * freq * (k + 1) * time) for k in range(8))
    wave[start: start + len(time)] += note * np.exp(-time / decay) * np.minimum(1, time / 0.005)


# --- rooms

def make_room(t60_s: float, rng: Rng) -> np.ndarray:
    """A room impulse response: the direct path first, a few early reflections, an exponentially decaying tail.

    Args:
        t60_s: time in which the sound decays by 60 dB.
    Returns: (T,), at most 0.5 s, largest value 0.9 at sample 0.
    """
    time = np.arange(int(min(0.5, t60_s) * SAMPLE_RATE)) / SAMPLE_RATE
    decay = 10 ** (-3 * time / t60_s)
    mixing_time = rng.uniform(0.01, 0.04)  # when single reflections have become a tail
    tail = rng.standard_normal(len(time)) * decay * np.clip(time / mixing_time, 0, 1)
    response = tail * np.sqrt(10 ** (rng.uniform(-12, 0) / 10) / np.sum(tail ** 2))
    early = rng.integers(int(0.001 * SAMPLE_RATE), int(mixing_time * SAMPLE_RATE), 10)
    response[early] += rng.uniform(0.1, 0.5, 10) * rng.choice([-1, 1], 10) * decay[early]
    response = np.clip(response, -0.9, 0.9)
    response[0] = 1.0
    return 0.9 * response
