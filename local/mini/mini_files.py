# SPDX-License-Identifier: Apache-2.0
"""The audio files of the mini corpus. Each is a function of the corpus' seed and of its own name: int16 at 16 kHz."""

import numpy as np
from mini_espeak import speak
from mini_sounds import NOISES, SAMPLE_RATE, add_noise, coloured, make_music, make_room, through_channel
from mini_voices import ACCENTS, BABBLE, Speaker, make_rng, make_sentence
from scipy.signal import resample_poly

SHORTEST_S, LONGEST_S = 1.0, 8.0
NOISY = 0.6  # part of the utterances with background noise that is heard


def make_utterance(speaker: Speaker, utt: str, seed: int) -> np.ndarray:
    """One sentence, at a level, through a channel and in a noise that are drawn for the utterance, not the speaker."""
    rng = make_rng(seed, utt)
    wave = through_channel(say_sentence(speaker, rng), rng)
    noise = NOISES[str(rng.choice(list(NOISES)))]
    if rng.random() < NOISY:
        wave = add_noise(wave, noise(len(wave), rng), rng.uniform(10, 25))
    wave = add_noise(wave, coloured(len(wave), rng), rng.uniform(35, 50))  # no recording is ever silent
    return at_level(wave, rng.uniform(-34, -20))


def say_sentence(speaker: Speaker, rng: np.random.Generator) -> np.ndarray:
    """(T,) float64, 1 to 8 s: a random sentence, a little higher or faster than this speaker's average."""
    for _ in range(100):
        pitch = round(np.clip(speaker.pitch + rng.normal(0, 3), 0, 99))
        pitch_range = round(np.clip(speaker.pitch_range + rng.normal(0, 6), 0, 99))
        rate = round(speaker.rate * rng.uniform(0.92, 1.08))
        wave = speak(make_sentence(rng), speaker.voice, pitch, pitch_range, rate, int(rng.integers(1, 1 << 31))) / 32768
        # 22,050 Hz is 441 / 320 of 16 kHz; taking it for another rate moves pitch and formants together
        wave = resample_poly(wave, 320, round(441 * speaker.warp))
        heard = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max())
        before, after = rng.uniform(0.05, 0.25, 2) * SAMPLE_RATE
        wave = np.pad(wave[heard[0]: heard[-1] + 1], (int(before), int(after)))
        if SHORTEST_S <= len(wave) / SAMPLE_RATE <= LONGEST_S:
            return wave
    raise RuntimeError(f"{speaker}: no sentence of {SHORTEST_S} to {LONGEST_S} s")


def make_talk(number: int, seed: int) -> np.ndarray:
    """Speech for the background, by a voice that no speaker has."""
    rng = make_rng(seed, f"talk-{number}")
    speaker = Speaker("background", "", "", BABBLE[number % len(BABBLE)], str(rng.choice(ACCENTS)),
                      rng.uniform(0.92, 1.08), int(rng.integers(30, 70)), 50, int(rng.integers(150, 195)))
    return at_level(np.concatenate([say_sentence(speaker, rng) for _ in range(4)]), -25)


def make_noise(number: int, seed: int) -> np.ndarray:
    noise = list(NOISES.values())[number % len(NOISES)]
    return at_level(noise(10 * SAMPLE_RATE, make_rng(seed, f"noise-{number}")), -25)


def make_song(number: int, seed: int) -> np.ndarray:
    return at_level(make_music(12.0, make_rng(seed, f"music-{number}")), -25)


def make_rir(number: int, t60_from_s: float, t60_to_s: float, seed: int) -> np.ndarray:
    rng = make_rng(seed, f"room-{number}")
    return to_int16(make_room(rng.uniform(t60_from_s, t60_to_s), rng))


def at_level(wave: np.ndarray, level_db: float) -> np.ndarray:
    """int16 at this RMS level (0 dB: full scale), or as near to it as its peak allows."""
    rms, peak = np.sqrt(np.mean(wave ** 2)), np.abs(wave).max()
    return to_int16(wave * min(10 ** (level_db / 20) / rms, 0.99 / peak))


def to_int16(wave: np.ndarray) -> np.ndarray:
    return np.round(wave * 32767).astype(np.int16)
