# SPDX-License-Identifier: Apache-2.0
"""The Python interface, compared with the model itself."""

import doctest
import math
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from corpus import voice
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import write_experiment

import rawnext
from rawnext import Extractor
from rawnext.data.wav import resample
from rawnext.errors import InputError
from rawnext.inference import extractor as module
from rawnext.inference.extractor import window_starts
from rawnext.training import checkpoint


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("work") / "exp/rawnext")


@pytest.fixture(scope="module")
def extractor(exp):
    return Extractor.from_pretrained(exp, device="cpu")


def alone(extractor, wave):
    """The model's embedding of a single waveform."""
    with torch.inference_mode():
        return extractor.model(torch.from_numpy(wave)[None])[0].numpy()


def same(a, b):
    return np.abs(a - b).max() < 1e-4 * np.abs(b).max()


def test_embed_equals_the_model(extractor):
    for seconds in (0.1, 1.234, 5.0):
        wave = voice(1, 0, seconds)
        found = extractor.embed(wave, 16000)
        assert found.shape == (extractor.embedding_dim,) and found.dtype == np.float32
        assert same(found, alone(extractor, wave))
        for kind in (wave.astype(np.float64), torch.from_numpy(wave), wave[::-1][::-1]):
            assert same(extractor.embed(kind), found)


def test_batch_members_equal_single_waveforms(extractor):
    waves = [voice(s, 0, seconds) for s, seconds in enumerate((0.5, 3.0, 0.1, 1.7))]
    waves[1] = np.repeat(waves[1], 3)
    rates = [16000, 48000, 16000, 8000]
    found = extractor.embed_batch(waves, rates)
    assert found.shape == (4, extractor.embedding_dim)
    for row, wave, rate in zip(found, waves, rates):
        assert same(row, alone(extractor, wave if rate == 16000 else resample(wave, rate)))
    assert extractor.embed_batch([]).shape == (0, extractor.embedding_dim)


def test_long_waveforms_are_the_mean_of_equal_pieces(exp, extractor):
    wave = voice(2, 0, 2.5)
    pieces = [alone(extractor, piece) for piece in (wave[:13334], wave[13334:26667], wave[26667:])]
    short = Extractor.from_pretrained(exp, device="cpu", longest_s=1.0)
    assert same(short.embed(wave), np.mean(pieces, axis=0)) and not same(short.embed(wave), extractor.embed(wave))
    assert same(short.embed(wave[:16000]), extractor.embed(wave[:16000]))
    with pytest.raises(ValueError, match="longest_s: at least 0.2 s"):
        Extractor.from_pretrained(exp, device="cpu", longest_s=0.19)


def test_stream_keeps_order_and_is_read_in_parts(extractor, monkeypatch):
    monkeypatch.setattr(module, "BUFFER_SAMPLES", 20000)
    waves = [(f"u{i}", voice(i, 0, 0.3 + 0.2 * (i % 3)), 16000) for i in range(7)]
    read = []
    found, num_read = {}, []
    for name, embedding in extractor.embed_each((read.append(item[0]), item)[1] for item in waves):
        found[name] = embedding
        num_read.append(len(read))
    assert list(found) == [name for name, _, _ in waves]
    assert num_read == [3, 3, 3, 6, 6, 6, 7]  # 0.3, 0.5 and 0.7 s together are above 20,000 samples
    assert same(found["u5"], alone(extractor, waves[5][1]))


def test_windows_equal_embeddings_of_their_samples(extractor):
    wave = voice(3, 0, 2.0)
    times, found = extractor.windows(wave, 16000, window=0.7, shift=0.4)
    assert times.tolist() == [[0, 0.7], [0.4, 1.1], [0.8, 1.5], [1.2, 1.9], [1.3, 2.0]]
    for (start, end), embedding in zip(times, found):
        assert same(embedding, alone(extractor, wave[round(16000 * start) : round(16000 * end)]))
    times, found = extractor.windows(wave[:9000], 16000, window=0.7, shift=0.4)
    assert times.tolist() == [[0, 9000 / 16000]] and same(found[0], alone(extractor, wave[:9000]))
    odd = np.repeat(wave, 3)[:44101]  # the samples at 16 kHz end later
    assert extractor.windows(odd, 44100)[0].max() == 44101 / 44100


@pytest.mark.parametrize(("wave", "rate", "why"), [
    (np.zeros((2, 9000), np.float32), 16000, "one channel"), (np.zeros(9000, np.int16), 16000, "floating-point"),
    (np.zeros(1599, np.float32), 16000, "at least 0.1 s"), (np.zeros(4409, np.float32), 44100, "at least 0.1 s"),
    (np.zeros(0, np.float32), 16000, "at least 0.1 s"), (np.full(9000, np.nan), 16000, "NaN or infinity"),
    (np.full(9000, 1e300), 16000, "NaN or infinity"), (np.zeros(9000, np.float32), 16001, "cannot be resampled"),
    (np.zeros(9000, np.float32), 100, "cannot be resampled")])
def test_bad_waveforms_are_refused(extractor, wave, rate, why):
    with pytest.raises(ValueError, match=why):
        extractor.embed(wave, rate)


def test_other_errors(extractor, tmp_path):
    for window, shift in ((0.09, 1), (1, 0.009), (1, -1)):
        with pytest.raises(ValueError, match="want a window from"):
            extractor.windows(voice(0, 0, 1), window=window, shift=shift)
    with pytest.raises(ValueError, match="2 waveforms, but 1 sample rates"):
        extractor.embed_batch([voice(0, 0, 1)] * 2, [16000])
    with pytest.raises(InputError, match="config.yaml: no such file"):
        Extractor.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="^nonsense: no such device"):
        Extractor.from_pretrained(extractor.folder, device="nonsense")


def test_fingerprint_depends_on_weights_and_options(exp, extractor, tmp_path):
    other = write_experiment(tmp_path / "again")
    assert Extractor.from_pretrained(other, "cpu").fingerprint == extractor.fingerprint
    state = checkpoint.load(other / "model.pt")["model"]
    last = next(reversed(state.values()))
    last += 1
    assert module.fingerprint(extractor.config, state) != extractor.fingerprint
    extractor.config.model["new"] = 1
    assert module.fingerprint(extractor.config, checkpoint.load_state(exp)["model"]) != extractor.fingerprint
    del extractor.config.model["new"]


def test_examples_of_the_documentation(exp, monkeypatch):
    folder = exp.parents[1]
    monkeypatch.chdir(folder)
    soundfile.write("a.wav", voice(0, 0, 1.5), 16000)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted >= 8 and not result.failed


def test_the_package_is_light_and_typed(root):
    code = "import sys, rawnext; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
    assert (root / "rawnext/py.typed").exists() and set(rawnext.__all__) == {"Extractor", "read_audio"}
    with pytest.raises(AttributeError, match="no attribute 'Extractr'"):
        rawnext.Extractr  # noqa: B018


@given(num=st.integers(1600, 10**6), window=st.floats(0.1, 20), shift=st.floats(0.01, 20))
@settings(max_examples=100)
def test_windows_cover_the_recording(num, window, shift):
    starts, length = window_starts(num, window, shift)
    assert starts[0] == 0 and num - 160 <= starts[-1] + length <= num
    steps = np.diff(starts)
    assert (steps[:-1] == round(shift * 16000)).all() and (steps > 0).all() and (not len(steps) or steps[-1] >= 160)
    assert length == min(num, round(window * 16000))
    assert len(starts) <= 2 + math.ceil(num / round(shift * 16000))
