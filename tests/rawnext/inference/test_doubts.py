# SPDX-License-Identifier: Apache-2.0
"""Each warning is raised by its own cause only."""

import tracemalloc

import numpy as np
import pytest
import soundfile
from corpus import voice

from rawnext.inference import doubts

RNG = np.random.default_rng(0)


def syllables(seconds, rate):
    """Vowels of 0.1 s with other resonances and pitches in turn, and a hiss of 0.05 s after each."""
    long, short = rate // 10, rate // 20
    hiss = np.diff(np.random.default_rng(1).standard_normal(short + 2), 2) * 0.01
    parts = [np.concatenate([voice(3 * number % 10, number, 0.1 * rate / 16000)[:long], hiss])
             for number in range(round(seconds / 0.15) + 1)]
    return np.concatenate(parts)[: round(seconds * rate)]


def speech(seconds=6.0, rate=16000):
    """Half a second of syllables and half a second of pause, in turn."""
    wave = syllables(seconds, rate)
    return wave * np.where(np.arange(len(wave)) * 2 // rate % 2, 0.001, 1)


def names(wave, rate=16000):
    return [text.split(":")[0].split(",")[0] for text in doubts.of_recording(wave.astype(np.float32), rate)]


@pytest.mark.parametrize(("wave", "rate", "found"), [
    (speech(), 16000, []), (0.01 * speech(), 16000, ["Quiet"]), (speech(1.99), 16000, ["Short"]),
    (speech() * np.where(np.arange(96000) < 32000, 1, 0.001), 16000, ["Little speech"]),
    (np.clip(30 * speech(), -1, 1), 16000, ["Clipped"]), (speech(6, 8000), 8000, ["Narrow band"]),
    (speech(6, 44100), 44100, []), (voice(0, 0, 6), 16000, ["Noise"]),
    (speech() + 0.02 * RNG.standard_normal(96000), 16000, ["Noise"])],
    ids=["clean", "quiet", "short", "little", "clipped", "8 kHz", "44.1 kHz", "no pause", "noise"])
def test_recordings_get_the_right_warnings(wave, rate, found):
    assert names(wave, rate) == found


def test_levels_are_rms_in_dB():
    """A sine of amplitude 1 has -3 dB; a frame that is not full is left out."""
    sine = np.sin(2 * np.pi * 100 * np.arange(1000) / 16000)
    np.testing.assert_allclose(doubts.frame_levels(sine, 16000), [-3.01, -3.01], atol=0.3)
    np.testing.assert_allclose(doubts.frame_levels(0.1 * sine, 16000), [-23.01, -23.01], atol=0.3)


def notes(harmonics, pause, decay):
    """(96000,) notes of 0.25 s, with pauses of these seconds between them, that fade by `decay` a second."""
    time, parts = np.arange(4000) / 16000, []
    for note in RNG.integers(0, 12, 60):
        tone = sum(np.sin(2 * np.pi * 262 * 2 ** (note / 12) * k * time) / k for k in range(1, harmonics + 1))
        parts += [0.2 * tone * np.exp(-decay * time) * np.minimum(1, np.minimum(time, time[::-1]) / 0.005),
                  np.zeros(round(16000 * pause))]
    return np.concatenate(parts)[:96000]


def clicks(a_second, length, noise):
    """(480000,) clicks of `length` samples at random times."""
    wave = noise * RNG.standard_normal(480000)
    for start in RNG.integers(0, 470000, 30 * a_second):
        wave[start : start + length] += 0.5 * RNG.standard_normal(length) * np.exp(-4 * np.arange(length) / length)
    return wave


TIME = np.arange(96000) / 16000
PINK = np.fft.irfft(np.fft.rfft(RNG.standard_normal(96000)) / np.sqrt(1 + np.arange(48001)))
SOUNDS = {
    "white": 0.1 * RNG.standard_normal(96000), "pink": PINK / np.abs(PINK).max(),
    "bursts": 0.1 * RNG.standard_normal(96000) * (TIME * 3 % 1 < 0.5),
    "swell": 0.1 * RNG.standard_normal(96000) * np.sin(2 * np.pi * TIME) ** 4,
    "hum": 0.2 * sum(np.sin(2 * np.pi * 50 * k * TIME) / k for k in (1, 2, 3, 5)),
    "hum in turn": 0.2 * sum(np.sin(2 * np.pi * 50 * k * TIME) / k for k in (1, 2, 3, 5)) * (TIME % 1 < 0.5),
    "tone": 0.2 * np.sin(2 * np.pi * 440 * TIME),
    "beeps": 0.2 * np.sin(2 * np.pi * 800 * TIME) * (TIME * 2 % 1 < 0.5),
    "chirp": 0.2 * np.sin(2 * np.pi * (200 + 150 * TIME) * TIME) * (TIME % 2 < 1.9),
    "siren": 0.2 * np.sin(2 * np.pi * 700 * TIME + 300 * np.sin(2 * np.pi * TIME)) * (TIME % 2 < 1.9),
    **{f"notes {args}": notes(*args) for args in ((1, 0, 0), (1, 0.1, 6), (8, 0, 0), (8, 0.1, 0), (8, 0.25, 6))},
    **{f"clicks {args}": clicks(*args)
       for args in ((3, 1, 0), (3, 160, 0), (3, 160, 1e-3), (10, 1, 1e-4), (10, 80, 0))}}


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_other_sounds_than_speech_are_doubted(name, rate):
    others = ("Narrow band", "Short", "Little speech", "Clipped")
    assert [text for text in names(SOUNDS[name], rate) if text not in others]


@pytest.mark.parametrize("rate", [2000, 8000, 44100, 192000, 768000])
@pytest.mark.parametrize("seconds", [0.1, 0.5, 3, 40])
def test_any_rate_and_length_is_examined_in_little_memory(rate, seconds):
    wave = RNG.standard_normal(min(int(seconds * rate), 4_000_000)).astype(np.float32) * 0.1
    tracemalloc.start()
    doubts.sound_of(wave, rate)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * doubts.MOST_NUMBERS


def test_speech_of_several_corpora_is_taken_for_speech(shared):
    paths = [path for folder in ("speechocean762/WAVE", *(f"open/{name}/audio" for name in (
        "alphanumeric", "librispeech_251", "wuw_train", "dsp20"))) for path in
        sorted((shared / "data" / folder).glob("*/*"))[::300]]
    wrong = [path.name for path in paths if doubts.sound_of(*soundfile.read(path, dtype="float32"))]
    assert len(paths) > 20 and not wrong


def test_noise_is_reported_for_noisy_speech_only(shared):
    """On a sample of the recordings by which the limits were chosen."""
    paths = sorted((shared / "data/speechocean762/WAVE").glob("*/*.ogg"))[::400]
    clean = noisy = 0
    for path in paths:
        wave, rate = soundfile.read(path, dtype="float32")
        noise = wave.std() * 10 ** -0.5 * RNG.standard_normal(len(wave))
        clean += "Noise" in names(wave, rate)
        noisy += "Noise" in names(wave + noise, rate)
    assert len(paths) >= 5 and clean == 0 and noisy == len(paths)
