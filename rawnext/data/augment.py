# SPDX-License-Identifier: Apache-2.0
"""Noise, music, babble and rooms, drawn for each utterance from (seed, epoch, utt).

An operation is a function `op(wave (T,), rng, banks) -> wave (T,)`; only the segment of a noise that is needed is
read. SNR ranges, the floor in the powers and the treatment of room responses are those of the released RawNeXt code
and of the code bases around it (docs/systems.md).
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rawnext.data.cuts import CutTable, read_segment
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


BANKS = {"noise": "musan_noise", "music": "musan_music", "babble": "musan_speech", "reverb": "rirs"}


def needed_banks(cases: Sequence[Mapping[str, Any]]) -> set[str]:
    """Data directories that a configuration's augmentation reads."""
    return {BANKS[op] for case in cases for op in case.get("ops", [])}


def augment(wave: np.ndarray, cases: Sequence[Mapping[str, Any]], rng: random.Random, banks: Banks) -> np.ndarray:
    """Draw one case by its weight and run its operations in order."""
    if not cases:
        return wave
    case = rng.choices(cases, [case.get("weight", 1) for case in cases])[0]
    for op in case.get("ops", []):
        wave = OPERATIONS[op](wave, rng, banks)
    return wave
