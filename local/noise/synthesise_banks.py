# SPDX-License-Identifier: Apache-2.0
"""Noise, music and room impulse responses instead of MUSAN and RIRS_NOISES, for prepare_banks.py."""

from pathlib import Path

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.manifest import Utterance
from rawnext.errors import InputError
from rawnext.files import atomic_path

Rng = np.random.Generator
SECONDS = 10


def shape_spectrum(wave: np.ndarray, freqs: np.ndarray, gains_db: np.ndarray) -> np.ndarray:
    """Filter by gains in dB at freqs in Hz, straight lines over log frequency between them."""
    grid = np.maximum(np.linspace(0, SAMPLE_RATE / 2, 257), 1)
    from scipy.fft import irfft
    from scipy.signal import oaconvolve

    impulse = irfft(10 ** (np.interp(np.log(grid), np.log(freqs), gains_db) / 20))
    return oaconvolve(wave, np.roll(impulse, 255)[:511] * np.hanning(511), mode="same")  # zero phase


def coloured(num_samples: int, rng: Rng) -> np.ndarray:
    """From white noise to brown, with bumps; RMS 1."""
    gains = -rng.uniform(0, 6) * np.arange(6) + rng.normal(0, 4, 6)
    wave = shape_spectrum(rng.standard_normal(num_samples), np.geomspace(50, 8000, 6), gains)
    return wave / np.sqrt(np.mean(wave ** 2))


def hum(num_samples: int, rng: Rng) -> np.ndarray:
    """A machine: harmonics of a low tone that drifts, in coloured noise."""
    drift = 1 + 0.01 * np.cumsum(rng.standard_normal(num_samples)) / np.sqrt(num_samples)
    phase = 2 * np.pi * np.cumsum(rng.uniform(45, 180) * drift) / SAMPLE_RATE
    tones = sum(rng.uniform(0, 1) / k * np.sin(k * phase + rng.uniform(0, 6)) for k in range(1, 9))
    return tones + rng.uniform(0.1, 0.5) * coloured(num_samples, rng)


def modulated(num_samples: int, rng: Rng) -> np.ndarray:
    """Noise that swells and fades, as of traffic or waves."""
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
    from scipy.signal import oaconvolve

    return oaconvolve(hits, ring)[:num_samples] + 0.01 * coloured(num_samples, rng)


def music(num_samples: int, rng: Rng) -> np.ndarray:
    """Four chords in turn, each note with decaying harmonics."""
    wave, root, beat = np.zeros(num_samples), rng.uniform(110, 220), int(rng.uniform(0.2, 0.4) * SAMPLE_RATE)
    brightness, decay = rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.6)
    for number, start in enumerate(range(0, num_samples, beat)):
        time = np.arange(min(num_samples - start, SAMPLE_RATE)) / SAMPLE_RATE
        for step in np.array([[0, 4, 7], [9, 12, 16], [5, 9, 12], [7, 11, 14]])[number // 8 % 4][: 1 + number % 3]:
            tone = 2 * np.pi * root * 2 ** (step / 12) * time
            note = sum(brightness ** k * np.sin((k + 1) * tone) for k in range(8))
            wave[start: start + len(time)] += note * np.exp(-time / decay) * np.minimum(1, time / 0.005)
    return wave


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


def at_level(wave: np.ndarray, level_db: float = -25) -> np.ndarray:
    """At this RMS level (0 dB: full scale), or the highest below it that does not clip."""
    return wave * min(10 ** (level_db / 20) / np.sqrt(np.mean(wave ** 2)), 0.99 / np.abs(wave).max())


def write_bank(waves: list[np.ndarray], name: str, data: Path) -> list[Utterance]:
    """Write DATA/synthetic/NAME-000.wav, ...; each file is its own speaker."""
    import soundfile

    utterances = []
    for number, wave in enumerate(waves):
        utt = f"{name}-{number:03d}"
        path = data.resolve() / "synthetic" / f"{utt}.wav"
        with atomic_path(path) as temporary:
            soundfile.write(temporary, wave, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        utterances.append(Utterance(utt, utt, str(path), len(wave), SAMPLE_RATE, 1))
    return utterances


def synthesise(data: Path) -> dict[str, list[Utterance]]:
    """Bank -> its files, DATA/synthetic/*.wav (16 kHz, 16 bit), the same in every run."""
    if not (data / "train/cuts.jsonl").is_file():
        raise InputError(data / "train/cuts.jsonl", None, "no such file; prepare DATA/train first")
    rng, size = np.random.default_rng(1), SECONDS * SAMPLE_RATE
    kinds = coloured, hum, modulated, clicks
    waves = {"musan_noise": [at_level(make(size, rng)) for make in kinds for _ in range(4)],
             "musan_music": [at_level(music(size, rng)) for _ in range(6)],
             "rirs": [make_room(t60_s, rng) for t60_s in np.linspace(0.1, 0.6, 42)]}
    return {name: write_bank(made, name, data) for name, made in waves.items()}
