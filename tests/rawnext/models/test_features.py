# SPDX-License-Identifier: Apache-2.0
"""Log mel energies against released code and a numpy reference; SpecAugment; reflection in a padded batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import activation_error

from rawnext.models.features import LogMel, MelSpectrogram, SpecAugment, reflect

NEXT_TDNN = {"low_hz": 20, "high_hz": 7600, "pre_emphasis": 0.97}
VARIANTS = [{}, NEXT_TDNN, {"bands": 40, "norm": "variance"}, {"bands": 23, "low_hz": 100, "norm": "none"}]


def error(a, b) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


def filter_bank(bands, low_hz, high_hz):
    """Triangles (257, bands) in Hz between neighbours' centres, evenly spaced on HTK's mel scale."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([low_hz, high_hz]) / 700)), bands + 2)
    hz = 700 * (10 ** (mel / 2595) - 1)
    return np.stack([np.interp(np.arange(257) * 16000 / 512, hz[i : i + 3], [0, 1, 0]) for i in range(bands)], axis=1)


def plain(wave, bands=80, low_hz=0, high_hz=8000, pre_emphasis=0, norm="mean"):
    """(T,) float64 -> (L, bands), frame by frame."""
    wave = wave - pre_emphasis * np.concatenate([wave[1:2], wave[:-1]])
    padded, window = np.pad(wave, 256, mode="reflect"), np.zeros(512)
    window[56:456] = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = [padded[160 * i : 160 * i + 512] * window for i in range(len(wave) // 160 + 1)]
    x = np.log(np.abs(np.fft.rfft(frames)) ** 2 @ filter_bank(bands, low_hz, high_hz) + 1e-6)
    if norm != "none":
        x = x - x.mean(0)
    return x / np.sqrt(x.var(0) + 1e-5) if norm == "variance" else x


def noise(num, seed=0):
    """(num,) samples whose level changes, so that frames differ."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(num) * np.exp(np.sin(np.arange(num) / 700 + seed)) / 10


@pytest.mark.parametrize(("name", "key", "options"), [
    ("nexttdnn", "feature_extractor", NEXT_TDNN),
    ("dtdy_avg", "instancenorm", {"bands": 64, "norm": "variance"}),
    ("dtdy_asp", "instancenorm", {"bands": 32, "norm": "variance"}),
    ("resnet34_asp", "instancenorm", {"bands": 32, "norm": "variance"}),
    ("thin_resnet34_se", "instancenorm", {"bands": 40, "norm": "variance"})])
def test_equals_released_code(parity, name, key, options):
    z = np.load(parity / f"{name}.npz")
    mel, lengths = LogMel(**options)(torch.from_numpy(z["x"]))
    assert lengths is None
    assert activation_error(mel.transpose(1, 2), z, key) < 1e-4


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("num", [1600, 1759, 1760, 1761, 5000])
def test_equals_numpy_reference(options, num):
    wave = noise(num)
    mel = LogMel(**options).double()(torch.from_numpy(wave[None]))[0]
    assert mel.shape == (1, num // 160 + 1, options.get("bands", 80))
    assert error(mel[0], plain(wave, **options)) < 1e-5  # torchaudio's window and filters have float32's precision


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(257, 4000), min_size=1, max_size=4), more=st.integers(0, 500),
       options=st.sampled_from(VARIANTS))
def test_batch_equals_single(lengths, more, options):
    features = LogMel(**options).double()
    waves = [torch.from_numpy(noise(num, seed)) for seed, num in enumerate(lengths)]
    batch = torch.full((len(waves), max(lengths) + more), 1e3).double()  # the padding's values must not matter
    for row, wave in zip(batch, waves):
        row[: len(wave)] = wave
    mel, frames = features(batch, torch.tensor(lengths))
    assert frames.tolist() == [num // 160 + 1 for num in lengths]
    for row, num, wave in zip(mel, frames, waves):
        single = features(wave[None])[0][0]
        assert float((row[:num] - single).abs().max()) < 1e-9
        assert options.get("norm") == "none" or not row[num:].any(), "zeros after the end"


def test_normalisation():
    wave = torch.from_numpy(np.stack([noise(8000, 1), noise(8000, 2)]))
    centred, unit, raw = (LogMel(norm=norm).double()(wave)[0] for norm in ("mean", "variance", "none"))
    assert float(centred.mean(1).abs().max()) < 1e-12
    assert torch.allclose(centred, raw - raw.mean(1, keepdim=True))
    assert torch.allclose(unit.var(1, correction=0), torch.tensor(1.0).double(), atol=1e-3)
    loud = LogMel().double()(100 * wave)[0]
    assert float((centred - loud).abs().max()) < 0.05, "the level does not matter, except for the floor of 1e-6"


def test_silence_is_finite():
    for norm in ("mean", "variance"):
        assert float(LogMel(norm=norm)(torch.zeros(1, 1600))[0].abs().max()) < 1e-3
    assert torch.allclose(LogMel(norm="none")(torch.zeros(1, 1600))[0], torch.tensor(1e-6).log())


def test_features_have_full_precision_and_no_gradient():
    wave = torch.from_numpy(noise(4000)).float()[None].requires_grad_()
    mel = LogMel()(wave)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(LogMel()(wave)[0], mel)
    assert mel.dtype == torch.float32 and not mel.requires_grad


def test_unknown_norm():
    with pytest.raises(ValueError, match="mean, variance or none"):
        LogMel(norm="men")


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(6, 20), min_size=1, max_size=4), num=st.integers(1, 5), more=st.integers(0, 9))
def test_reflect(lengths, num, more):
    x = torch.randn(len(lengths), max(lengths) + more)
    y = reflect(x, torch.tensor(lengths), num)
    assert y.shape == (len(x), x.shape[1] + 2 * num)
    for row, padded, length in zip(x, y, lengths):
        assert torch.equal(padded[: length + 2 * num], torch.from_numpy(np.pad(row[:length], num, mode="reflect")))
    assert torch.equal(reflect(x, None, num), torch.from_numpy(np.pad(x, ((0, 0), (num, num)), mode="reflect")))


def masks(x):
    """Output of SpecAugment for a batch of ones -> masks of the bands and of the frames that are zero throughout."""
    assert torch.equal(x, x[:1].expand_as(x)), "the whole batch has the same masks"
    bands, frames = ~x[0].any(0), ~x[0].any(1)
    assert torch.equal(x[0] == 0, bands | frames[:, None]) and set(x.unique().tolist()) <= {0.0, 1.0}
    return bands, frames


def test_spec_augment_masks_one_band_and_one_span():
    torch.manual_seed(0)
    layer, ones = SpecAugment(freq=5, time=7), torch.ones(3, 30, 20)
    drawn = [masks(layer(ones)) for _ in range(500)]
    for axis, limit, size in ((0, 5, 20), (1, 7, 30)):
        widths = [int(draw[axis].sum()) for draw in drawn]
        assert set(widths) == set(range(limit)), "every width from 0 to limit - 1"
        assert all(draw[axis].int().diff().abs().sum() <= 2 for draw in drawn), "in one piece"
        anywhere = torch.stack([draw[axis] for draw in drawn]).any(0)
        assert anywhere[: size - 1].all()


def test_spec_augment_in_evaluation_and_without_masks():
    x = torch.randn(2, 30, 20)
    assert torch.equal(SpecAugment(5, 7).eval()(x), x)
    assert torch.equal(SpecAugment(0, 0).train()(x), x)


def test_spec_augment_of_few_frames():
    torch.manual_seed(0)
    for _ in range(50):
        assert SpecAugment(200, 200)(torch.ones(1, 3, 4)).shape == (1, 3, 4)


@pytest.mark.parametrize("bands, low, high", [(80, 0.0, 8000.0), (64, 20.0, 7600.0), (40, 300.0, 4000.0)])
def test_mel_energies_and_buffers_are_those_of_torchaudio(bands, low, high):
    transforms = pytest.importorskip("torchaudio.transforms")
    theirs = transforms.MelSpectrogram(16000, 512, 400, 160, low, high, n_mels=bands, center=False,
                                       window_fn=torch.hamming_window)
    ours = MelSpectrogram(bands, low, high)
    wave = torch.randn(2, 5000)
    torch.testing.assert_close(ours(wave), theirs(wave), rtol=1e-5, atol=1e-3)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-6)
