# SPDX-License-Identifier: Apache-2.0
"""RawNet3: parity with the released code, any length, a batch equals its utterances."""

import numpy as np
import pytest
import raw_heirs
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import (
    activation_error,
    check_batch_equals_single,
    check_training_step,
    error,
    num_parameters,
    randomise,
    state_dict,
)

from rawnext.models import MODELS
from rawnext.models.official import RAWNET3, convert
from rawnext.models.rawnet3 import SincBank
from rawnext.training.info import gmacs
from rawnext.training.system import load_system

NARROW = {"channels": 16, "filters": 8, "fused": 24, "attention": 7, "embedding_dim": 6, "scale": 4}


def rename(official):
    return convert(official, RAWNET3)


@pytest.fixture
def released(shared):
    """(fixture, its model in float64)"""
    z = np.load(shared / "parity/rawnet3.npz")
    model = MODELS.build("rawnet3", {"channels": 64, "filters": 16, "embedding_dim": 32}).double()
    state = state_dict(z)
    model.load_state_dict(rename(state))
    for ours, official in ((model.sinc.n, "n_"), (model.sinc.window, "window_")):
        assert torch.equal(ours.flatten(), state[f"conv1.filterbank.{official}"].flatten().double())
    return z, model


def test_equals_released_code(released):
    z, model = released
    seen = {}
    for ours, official in (("layer1", "layer1"), ("layer2", "layer2"), ("layer3", "layer3.afms"),
                           ("wave_norm", "preprocess")):
        hook = lambda m, i, out, key=official: seen.update({key: out[0] if isinstance(out, tuple) else out})  # noqa: E731
        model.get_submodule(ours).register_forward_hook(hook)
    x = torch.from_numpy(z["x"])
    with torch.no_grad():
        assert error(model.eval()(x.double()), z["emb_f64"]) < 1e-9
        assert error(model(torch.from_numpy(z["x2"]).double()), z["emb2_f64"]) < 1e-9
        model(x.double())
        for key, value in seen.items():
            value = value.unsqueeze(1) if value.ndim == 2 else value.transpose(1, 2)
            assert activation_error(value, z, key, 50, 8) < 1e-9, key
        assert error(model.float()(x), z["emb_f64"]) < 5e-2


def test_training_step_equals_released_code(released):
    check_training_step(*released, rename, 1e-9)


@pytest.mark.parametrize("num_samples", [1600, 5437])
def test_equals_independent_model(num_samples):
    model = randomise(MODELS.build("rawnet3", NARROW))
    wave = 0.1 * torch.randn(3, num_samples).double()
    with torch.no_grad():
        assert error(model(wave), raw_heirs.rawnet3(wave, model.state_dict(), 4)) < 1e-9


def test_keys_of_a_trainers_checkpoint():
    """One of each kind of key; constants and the two BatchNorms that the released code never calls are dropped."""
    ours = {"conv1.filterbank.low_hz_": "sinc.low_hz", "preprocess.1.weight": "wave_norm.weight",
            "layer1.residual.0.weight": "layer1.shortcut.weight", "layer2.convs.6.bias": "layer2.convs.6.bias",
            "layer3.afms.alpha": "layer3.afms.alpha", "attention.3.bias": "pooling.attention.3.bias",
            "fc6.bias": "fc6.bias"}
    dropped = ["bn1.weight", "bn6.running_var", "conv1.filterbank.n_", "conv1.filterbank.window_",
               "preprocess.0.flipped_filter"]
    assert rename({f"__S__.{key}": key for key in [*ours, *dropped]}) == {ours[key]: key for key in ours}
    assert set(ours.values()) <= set(MODELS.build("rawnet3", {}).state_dict())
    assert not rename({"__L__.weight": None})


def test_parameters_and_multiplications():
    """The released code has two unused BatchNorms, and repeats mean and deviation on each of the 318 frames."""
    model = MODELS.build("rawnet3", {})
    assert num_parameters(model) == 16_280_322 - 2 * 2 * 256
    assert gmacs(model, 48000, batch=1) + 2 * 1536 * 128 * 317 / 1e9 == pytest.approx(14.32, abs=5e-3)


def test_filters_are_band_passes():
    """Cosine and sine of one band have the same magnitude at each frequency, 1 within the band, little far from it."""
    bank = SincBank(64, 251, 10)
    response = torch.fft.rfft(bank.filters().detach(), 16000).abs() * 2 / 16000  # one bin per Hz
    low = 50 + bank.low_hz.detach().flatten()
    high = (low + 50 + bank.band_hz.detach().flatten()).clamp(max=8000)
    gain = response * (high - low).repeat(2)[:, None]
    for i in range(32):
        middle = int((low[i] + high[i]) / 2)
        assert gain[i, middle] == pytest.approx(float(gain[i + 32, middle]), rel=0.1)
        outside = torch.cat([gain[i, : max(int(low[i]) - 300, 1)], gain[i, int(high[i]) + 300 :]])
        assert outside.max() < 0.1 * gain[i, middle]


def test_configuration_follows_the_released_one(root):
    config = load_system([root / "conf/rawnet3.yaml"])
    assert config.model == {"name": "rawnet3"} and config.losses == [{"name": "aam", "margin": 0.1, "scale": 30}]
    assert (config.batch.speakers * config.batch.utts, config.crop.samples, config.crop.short_from) == (32, 48240, 0)
    optim = config.optim
    assert (optim.name, optim.amsgrad, optim.lr) == ("adam", False, 1e-3)
    assert (optim.weight_decay, optim.decay_all) == (5e-5, True)
    assert (optim.schedule, optim.step_epochs, optim.step_factor, optim.final_lr) == ("step", 10, 0.75, 0)
    assert (config.train.epochs, config.extract.samples, config.extract.segments) == (500, 64240, 10)
    assert [case["ops"] for case in config.augment] == [[], ["reverb"], ["music"], ["babble"], ["noise"]]


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_any_length_and_batch_equals_single(lengths, seed):
    check_batch_equals_single(randomise(MODELS.build("rawnet3", NARROW), seed), lengths, more=seed)


def test_gradients():
    """Every parameter gets a gradient, except biases that the softmax cancels."""
    model = randomise(MODELS.build("rawnet3", NARROW)).train()
    (model(torch.randn(4, 6000).double()) * torch.randn(4, 6).double()).sum().backward()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    assert {name for name, norm in norms.items() if norm < 1e-9 * max(norms.values())} == {
        "pooling.attention.2.bias", "pooling.attention.3.bias"}


@pytest.mark.parametrize(("options", "why"), [({"channels": 18}, "scale must"), ({"scale": 1}, "scale must"),
                                              ({"filters": 7}, "even number")])
def test_incompatible_options(options, why):
    with pytest.raises(ValueError, match=why):
        MODELS.build("rawnet3", {**NARROW, **options})


def test_bfloat16_is_close_to_float32():
    torch.manual_seed(0)
    model = MODELS.build("rawnet3", {**NARROW, "channels": 32})
    wave = 0.1 * torch.randn(6, 8000)
    full = model(wave)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(wave)
        half.square().sum().backward()
    assert float(torch.nn.functional.cosine_similarity(full, half.float()).detach().min()) > 0.95
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
