# SPDX-License-Identifier: Apache-2.0
"""Each warning is raised by its own cause only."""

import numpy as np
import pytest
import soundfile
from corpus import voice

from rawnext.scoring.decision import Operating, Verdict
from rawnext.serve import warnings

RNG = np.random.default_rng(0)


def speech(seconds=6.0, rate=16000):
    """Half a second of voice and half a second of pause, in turn."""
    wave = voice(0, 0, seconds * rate / 16000)
    return wave * np.where(np.arange(len(wave)) * 2 // rate % 2, 0.001, 1)


def names(wave, rate=16000):
    return [text.split(":")[0].split(",")[0] for text in warnings.of_recording(wave.astype(np.float32), rate)]


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
    np.testing.assert_allclose(warnings.frame_levels(sine, 16000), [-3.01, -3.01], atol=0.3)
    np.testing.assert_allclose(warnings.frame_levels(0.1 * sine, 16000), [-23.01, -23.01], atol=0.3)


@pytest.mark.parametrize(("verdict", "found"), [
    (Verdict(0.5, 4.0, 0.0, True, False), []), (Verdict(0.5, -4.0, 0.0, False, False), []),
    (Verdict(0.5, 6.5, 4.6, True, False), ["The LLR is only 1.90"]),
    (Verdict(0.5, 2.5, 4.6, False, False), ["The LLR is only 2.10"]),
    (Verdict(0.5, 4.0, 0.0, True, True), ["The calibration has not seen"]),
    (Verdict(0.99995, 9.0, 0.0, True, False), ["Both sides are the same"]),
    (Verdict(0.5, np.nan, np.nan, None, False), ["This model has no calibration"])])
def test_pairs_get_the_right_warnings(verdict, found):
    texts = warnings.of_pair(verdict, Operating())
    assert len(texts) == len(found) and all(text.startswith(begin) for text, begin in zip(texts, found))


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
