# SPDX-License-Identifier: Apache-2.0
"""Noise, music, babble and rooms, and changes of the waveform itself, drawn for each utterance from (seed, epoch, utt).

An operation is a function `op(wave (T,), rng, banks) -> wave (T,)`; only the segment of a noise that is needed is
read. SNR ranges, the floor in the powers and the treatment of room responses are those of the released RawNeXt code
and of the code bases around it (docs/reference/augmentation.md); the ranges of the others are the defaults of
audiomentations.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE, CutTable, tile
from rawnext.data.segment import AudioFault, read_segment
from rawnext.registry import Registry

Banks = Mapping[str, CutTable]
Draw = Callable[[int, random.Random, Banks], np.ndarray]
OPERATIONS = Registry("operation")
POWER_FLOOR = 1e-4  # of the mean square
BLOCK = 8192  # samples; two of them and their spectrum stay in a core's own cache


def level(wave: np.ndarray) -> float:
    """Root of the mean square, with a floor that keeps near-silence from asking for endless gain."""
    return math.sqrt(float(np.einsum("t,t", wave, wave)) / len(wave) + POWER_FLOOR)


def together(noises: Sequence[np.ndarray], snrs_db: Sequence[float]) -> np.ndarray:
    """The sum of noises (T,), each at its own SNR in dB to a wave of level 1."""
    gains = [np.float32(10 ** (-snr / 20) / level(noise)) for noise, snr in zip(noises, snrs_db)]
    total = gains[0] * noises[0]
    for gain, noise in zip(gains[1:], noises[1:]):
        total += gain * noise
    return total


def add(wave: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """wave (T,) plus what `together` made; neither clipped nor rescaled."""
    return wave + np.float32(level(wave)) * noise


def unit_energy(response: np.ndarray) -> np.ndarray:
    return (response / np.sqrt(np.sum(np.square(response, dtype=np.float64)))).astype(np.float32)


def reverberate(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The first T samples of wave (T,) heard through a room response (R,).

    Overlap-save with the response, too, in blocks: half of the time of one transform of all, a third for long rooms.
    """
    from scipy.fft import irfft, rfft

    num_blocks = -(-len(wave) // BLOCK)
    padded = np.zeros((num_blocks + 1) * BLOCK, np.float32)
    padded[BLOCK : BLOCK + len(wave)] = wave
    parts = np.zeros((-(-len(response) // BLOCK), BLOCK), np.float32)
    parts.reshape(-1)[: len(response)] = response
    spectra = rfft(np.lib.stride_tricks.sliding_window_view(padded, 2 * BLOCK)[::BLOCK])
    rooms = rfft(parts, 2 * BLOCK)
    heard = spectra * rooms[0]
    for delay in range(1, len(rooms)):
        heard[delay:] += spectra[:-delay] * rooms[delay]
    return irfft(heard, overwrite_x=True)[:, BLOCK:].reshape(-1)[: len(wave)]


def noise_segment(bank: CutTable, num_samples: int, rng: random.Random) -> np.ndarray:
    """A random stretch of a random recording, repeated where the recording is shorter."""
    cut = bank[rng.randrange(len(bank))]
    return read_segment(cut, rng.randint(0, max(0, cut.num_samples - num_samples)), num_samples)


def noises(kind: str, low_db: float, high_db: float, least: int = 1, most: int = 1) -> Draw:
    """What draws `least` to `most` noises of a bank, as `together` sums them."""
    def draw(num_samples: int, rng: random.Random, banks: Banks) -> np.ndarray:
        num = rng.randint(least, most)
        snrs = [rng.uniform(low_db, high_db) for _ in range(num)]
        return together([noise_segment(banks[kind], num_samples, rng) for _ in range(num)], snrs)

    return draw


def room(num_samples: int, rng: random.Random, banks: Banks) -> np.ndarray:
    """A random room response of unit energy."""
    cut = banks["rirs"][rng.randrange(len(banks["rirs"]))]
    response = read_segment(cut, 0, cut.num_samples)
    if not response.any():
        raise AudioFault(f"{cut.utt}: a silent room response")
    return unit_energy(response)


@dataclass(frozen=True)
class Effect:
    """An operation in two parts: what is drawn and read, and how it is put on the wave.

    draw: (T, rng, banks) -> array, without a look at the wave.   put: (wave (T,), array) -> wave (T,).
    """

    draw: Draw
    put: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def __call__(self, wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
        return self.put(wave, self.draw(len(wave), rng, banks))


EFFECTS = {
    "noise": Effect(noises("musan_noise", 0, 15), add),
    "music": Effect(noises("musan_music", 5, 15), add),
    "babble": Effect(noises("musan_speech", 13, 20, 3, 7), add),
    "reverb": Effect(room, reverberate),
}
for name, effect in EFFECTS.items():
    OPERATIONS[name] = effect


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


def chosen(cases: Sequence[Mapping[str, Any]], rng: random.Random) -> Iterator[str]:
    """Names of the operations of a case drawn by its weight, each with its own chance; what an operation draws itself
    stands between the chances, so take a name after the one before is done."""
    if not cases:
        return
    case = rng.choices(cases, [case.get("weight", 1) for case in cases])[0]
    for op in case.get("ops", []):
        name, p = chance(op)
        if p == 1 or rng.random() < p:
            yield name


def augment(wave: np.ndarray, cases: Sequence[Mapping[str, Any]], rng: random.Random, banks: Banks) -> np.ndarray:
    """Draw a case and run its operations in order."""
    for name in chosen(cases, rng):
        wave = OPERATIONS[name](wave, rng, banks)
    return wave
