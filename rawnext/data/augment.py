# SPDX-License-Identifier: Apache-2.0
"""Noise, music, babble and rooms, and changes of the waveform itself, drawn for each utterance from (seed, epoch, utt).

An operation is a function `op(wave (T,), rng, banks) -> wave (T,)`; only the segment of a noise that is needed is
read. SNR ranges, the floor in the powers and the treatment of room responses are those of the released RawNeXt code
and of the code bases around it (docs/systems.md); the ranges of the others are the defaults of audiomentations.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE, CutTable, read_segment, tile
from rawnext.registry import Registry

Banks = Mapping[str, CutTable]
OPERATIONS = Registry("operation")


def power_db(wave: np.ndarray) -> float:
    """Mean square in dB, with a floor that keeps near-silence from asking for endless gain."""
    return 10 * float(np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-4))


def mix(wave: np.ndarray, noises: Sequence[np.ndarray], snrs_db: Sequence[float]) -> np.ndarray:
    """wave (T,) plus each noise (T,) at its own SNR in dB; neither clipped nor rescaled."""
    level = power_db(wave)
    gains = [10 ** ((level - power_db(noise) - snr) / 20) for noise, snr in zip(noises, snrs_db)]
    return wave + sum(np.float32(gain) * noise for gain, noise in zip(gains, noises))


def reverberate(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The first T samples of wave (T,) heard through a room response (R,) of unit energy."""
    from scipy.signal import oaconvolve

    response = response / np.sqrt(np.sum(np.square(response, dtype=np.float64)))
    return oaconvolve(wave, response.astype(np.float32))[: len(wave)].astype(np.float32)


def noise_segment(bank: CutTable, num_samples: int, rng: random.Random) -> np.ndarray:
    """A random stretch of a random recording, repeated where the recording is shorter."""
    cut = bank[rng.randrange(len(bank))]
    return read_segment(cut, rng.randint(0, max(0, cut.num_samples - num_samples)), num_samples)


def additive(kind: str, low_db: float, high_db: float, least: int = 1, most: int = 1):
    def operation(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
        num = rng.randint(least, most)
        snrs = [rng.uniform(low_db, high_db) for _ in range(num)]
        return mix(wave, [noise_segment(banks[kind], len(wave), rng) for _ in range(num)], snrs)

    return operation


OPERATIONS["noise"] = additive("musan_noise", 0, 15)
OPERATIONS["music"] = additive("musan_music", 5, 15)
OPERATIONS["babble"] = additive("musan_speech", 13, 20, 3, 7)


@OPERATIONS.register("reverb")
def reverb(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    cut = banks["rirs"][rng.randrange(len(banks["rirs"]))]
    return reverberate(wave, read_segment(cut, 0, cut.num_samples))


@OPERATIONS.register("gaussian_noise")
def gaussian_noise(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """White noise of a standard deviation of 0.001 to 0.015, where 1 is full scale."""
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(len(wave), dtype=np.float32)
    return wave + np.float32(rng.uniform(0.001, 0.015)) * noise


@OPERATIONS.register("time_stretch")
def time_stretch(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """0.8 to 1.25 times as fast at the same pitch; what is slower loses its end, what is faster is repeated."""
    return tile(stretched(wave, speed=rng.uniform(0.8, 1.25)), len(wave))


@OPERATIONS.register("pitch_shift")
def pitch_shift(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Up to 4 semitones lower or higher, formants too, at the same speed."""
    return tile(stretched(wave, semitones=rng.uniform(-4, 4)), len(wave))


@OPERATIONS.register("shift")
def shift(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Up to half of the length earlier or later; what leaves at one end comes in at the other."""
    return np.roll(wave, rng.randint(-(len(wave) // 2), len(wave) // 2))


@OPERATIONS.register("reverse")
def reverse(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Played backwards."""
    return wave[::-1].copy()


def stretched(wave: np.ndarray, speed: float = 1.0, semitones: float = 0.0) -> np.ndarray:
    """wave (T,) float32 -> about (T / speed,), played `speed` times as fast and `semitones` higher."""
    from python_stretch.Signalsmith import Stretch

    stretch = Stretch(0)  # a seed, as it may draw phases
    stretch.preset(1, SAMPLE_RATE)
    stretch.setTimeFactor(speed)
    stretch.setTransposeSemitones(semitones)
    channels: np.ndarray = stretch.process(wave.astype(np.float32)[None])  # type: ignore[assignment]
    return channels[0]


BANKS = {"noise": "musan_noise", "music": "musan_music", "babble": "musan_speech", "reverb": "rirs"}


def chance(op: str | Mapping[str, Any]) -> tuple[str, float]:
    """`name` or `{name: ..., p: 0.5}` -> name, and the probability that it is done when its case is drawn.

    Raises: ValueError: something else, or p is no probability.
    """
    if isinstance(op, str):
        return op, 1.0
    if not isinstance(op, Mapping) or not isinstance(op.get("name"), str) or op.keys() - {"name", "p"}:
        raise ValueError(f"augment: want an operation's name, or {{name: ..., p: 0.5}}, got {op!r}")
    p = op.get("p", 1.0)
    if not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ValueError(f"augment: {op['name']}: p: 0...1, got {p!r}")
    return op["name"], float(p)


def needed_banks(cases: Sequence[Mapping[str, Any]]) -> set[str]:
    """Data directories that a configuration's augmentation reads."""
    names = {chance(op)[0] for case in cases for op in case.get("ops", [])}
    return {BANKS[name] for name in names & BANKS.keys()}


def augment(wave: np.ndarray, cases: Sequence[Mapping[str, Any]], rng: random.Random, banks: Banks) -> np.ndarray:
    """Draw one case by its weight and run its operations in order, each with its own chance."""
    if not cases:
        return wave
    case = rng.choices(cases, [case.get("weight", 1) for case in cases])[0]
    for op in case.get("ops", []):
        name, p = chance(op)
        if p == 1 or rng.random() < p:
            wave = OPERATIONS[name](wave, rng, banks)
    return wave
