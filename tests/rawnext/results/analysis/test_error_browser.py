# SPDX-License-Identifier: Apache-2.0
"""Errors to listen to: the worst trials, and the sound and pictures of exactly the system's input."""

import base64
import io

import numpy as np
import pytest
import report_experiment as small
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rawnext.kaldi.tables import Trials
from rawnext.results.analysis import error_browser


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), max_size=30), st.integers(0, 12))
def test_worst_trials(rows, num):
    trials = Trials(["a"] * len(rows), ["b"] * len(rows), np.array([y for _, y in rows], dtype=bool))
    nontargets, targets = error_browser.worst(trials, np.array([s for s, _ in rows], dtype=float), num)
    assert nontargets == sorted((i for i, (_, y) in enumerate(rows) if not y), key=lambda i: -rows[i][0])[:num]
    assert targets == sorted((i for i, (_, y) in enumerate(rows) if y), key=lambda i: rows[i][0])[:num]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "data"
    small.write_data(folder)
    return folder


def content(uri, kind):
    head, text = uri.split(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(text))


def heard(clip):
    wave, rate = soundfile.read(content(clip.sound, "audio/mpeg"))
    assert rate == small.RATE and not clip.fault
    return wave


def test_sound_is_the_middle(data):
    """A tone in the middle of silence is in the middle of the cut, too."""
    wave = np.zeros(3 * small.RATE)
    wave[len(wave) // 2 - 800 : len(wave) // 2 + 800] = 0.5 * np.sin(np.arange(1600) / 3)
    soundfile.write(data / "s0-3.wav", wave, small.RATE)
    error_browser.clip.cache_clear()
    clip = error_browser.clip(str(data), "s0-3", 1.0)
    cut = heard(clip)
    loud = np.flatnonzero(np.abs(cut) > 0.1)
    assert abs(len(cut) - small.RATE) < 600  # MP3 ends with a whole frame
    assert abs((loud[0] + loud[-1]) / 2 - small.RATE / 2) < 100
    assert clip.heard == "the middle 1.00 s of 3.00 s" and clip.spk == "s0"


def test_sound_is_faithful(data):
    wave, _ = soundfile.read(data / "s1-2.wav")
    clip = error_browser.clip(str(data), "s1-2", 0.0)
    assert np.corrcoef(heard(clip)[:len(wave)], wave)[0, 1] > 0.99 and clip.heard == "1.60 s"
    assert len(clip.sound) < 0.4 * 2 * len(wave)


def test_long_speech_is_cut_and_labelled(data):
    clip = error_browser.clip(str(data), "s1-4", 0.0)
    assert 10 <= len(heard(clip)) / small.RATE < 10.1
    assert clip.heard == "12.00 s; only its first 10 s are played"


def test_shorter_than_the_cut_is_whole(data):
    assert error_browser.clip(str(data), "s1-0", 1.0).heard == "0.40 s"


@pytest.mark.parametrize("speaker, khz", [(1, 2), (2, 3)])
@pytest.mark.parametrize("place", [0, 4])
def test_spectrogram_shows_the_tone(data, speaker, khz, place):
    clip = error_browser.clip(str(data), small.utt(speaker, place), 0.0)
    image = np.array(Image.open(content(clip.picture, "image/webp")).convert("L"), dtype=float)
    assert image.shape[0] == error_browser.IMAGE_ROWS and image.shape[1] <= error_browser.IMAGE_COLUMNS
    darkest = int(image.mean(1).argmin())
    assert (1 - (darkest + 0.5) / len(image)) * 8 == pytest.approx(khz, abs=0.15)


def test_outline_follows_the_waveform():
    wave = np.concatenate([np.zeros(9000), np.sin(np.arange(9000) / 5)])
    pairs = np.array([pair.split(",") for pair in error_browser.outline(wave)[1:-1].split("L")], dtype=float)
    assert (pairs.min(0) >= 0).all() and pairs[:, 0].max() < 180 and pairs[:, 1].max() <= 64
    quiet, loud = pairs[pairs[:, 0] < 89], pairs[pairs[:, 0] > 91]
    assert np.ptp(quiet[:, 1]) == 1 and np.ptp(loud[:, 1]) > 60


@pytest.mark.parametrize("wave", [np.zeros(10, dtype=np.float32), np.zeros(1600, dtype=np.float32)])
def test_silence_and_very_short_waves(wave):
    assert error_browser.outline(wave) and error_browser.picture(wave) and error_browser.sound(wave)


def test_missing_audio_is_reported(data, tmp_path):
    assert "has no utt 'nobody'" in error_browser.clip(str(data), "nobody", 0.0).fault
    assert "no such file" in error_browser.clip(str(tmp_path), "a", 0.0).fault
    (data / "s3-0.wav").write_bytes(b"no sound")
    assert "wav.scp:16: s3-0" in error_browser.clip(str(data), "s3-0", 0.0).fault
