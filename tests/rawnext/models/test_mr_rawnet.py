# SPDX-License-Identifier: Apache-2.0
"""MR-RawNet: parity with the released code, any length, a batch equals its utterances."""

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
from rawnext.models.official import MR_RAWNET, convert
from rawnext.training.info import gmacs
from rawnext.training.system import load_system

NARROW = {"filters": 8, "channels": 8, "fused": 24, "attention": 7, "embedding_dim": 6, "blocks": (1, 2, 1)}


def rename(official):
    return convert(official, MR_RAWNET)


@pytest.fixture
def released(shared):
    """(fixture, its model in float64)"""
    z = np.load(shared / "parity/mr_rawnet.npz")
    model = MODELS.build("mr_rawnet", {"filters": 32, "channels": 32, "fused": 96, "attention": 32,
                                       "embedding_dim": 24}).double()
    model.load_state_dict(rename(state_dict(z)))
    return z, model


@pytest.mark.parametrize(("wave", "embedding"), [("x", "emb_f64"), ("x2", "emb2_f64"), ("any/x0", "any/emb0_f64"),
                                                 ("any/x1", "any/emb1_f64")])
def test_equals_released_code(released, wave, embedding):
    """any: lengths that the released code rejects; the numbers are those of its classes with pools in ceil mode."""
    z, model = released
    seen = {}
    for ours, official in (("wave_norm", "preprocess"), ("branches.0.tcn.11", "tcn_block0"),
                           ("branches.3.bn", "conv2_relu_bn3"), ("stages.2.2", "stage2")):
        model.get_submodule(ours).register_forward_hook(lambda m, i, out, key=official: seen.update({key: out}))
    x = torch.from_numpy(z[wave])
    with torch.no_grad():
        assert error(model.eval()(x.double()), z[embedding]) < 1e-9
        if wave == "x":
            frames = seen["conv2_relu_bn3"].view(len(x), -1, 16)
            values = {**seen, "conv2_relu_bn3": frames, "preprocess": seen["preprocess"].unsqueeze(-1)}
            for key, value in values.items():
                assert activation_error(value.transpose(1, 2), z, key, 50, 8) < 1e-9, key
        assert error(model.float()(x), z[embedding]) < 5e-2


def test_training_step_equals_released_code(released):
    check_training_step(*released, rename, 1e-7)


@pytest.mark.parametrize("num_samples", [1600, 3333, 4001])
def test_equals_independent_model(num_samples):
    model = randomise(MODELS.build("mr_rawnet", NARROW))
    wave = 0.1 * torch.randn(3, num_samples).double()
    with torch.no_grad():
        assert error(model(wave), raw_heirs.mr_rawnet(wave, model.state_dict(), (1, 2, 1))) < 1e-9


def test_keys_of_a_trainers_checkpoint():
    """One of each kind of key; constants, classifier and resampling kernels are dropped."""
    ours = {"conv12.filterbank.band_hz_": "branches.2.sinc.band_hz", "preprocess.1.bias": "wave_norm.bias",
            "conv_1x13.weight": "branches.3.project.weight", "conv2_relu_bn0.0.bias": "branches.0.conv.bias",
            "conv2_relu_bn1.2.running_var": "branches.1.bn.running_var", "bn3.bias": "bn3.bias",
            "tcn_block1.2.3.net.0.weight": "branches.1.tcn.11.reduce.weight",
            "tcn_block0.1.0.net.1.weight": "branches.0.tcn.4.prelu1.weight",
            "tcn_block0.1.0.net.2.gamma": "branches.0.tcn.4.norm1.gamma",
            "tcn_block3.0.2.net.3.net.0.weight": "branches.3.tcn.2.depthwise.weight",
            "tcn_block3.0.2.net.3.net.1.weight": "branches.3.tcn.2.prelu2.weight",
            "tcn_block3.0.2.net.3.net.2.beta": "branches.3.tcn.2.norm2.beta",
            "tcn_block3.0.2.net.3.net.3.weight": "branches.3.tcn.2.expand.weight",
            "stage0.1.block.convs.2.weight": "stages.0.1.original.convs.2.weight",
            "stage1.2.block_up.0.bias": "stages.1.2.high_transposed.bias",
            "stage1.2.block_up.1.afms.alpha": "stages.1.2.high.afms.alpha",
            "stage2.0.block_down.1.bn3.weight": "stages.2.0.low.bn3.weight",
            "stage2.0.block_down.2.weight": "stages.2.0.low_transposed.weight",
            "stage2.0.gate_moduel.attention.3.bias": "stages.2.0.gate.attention.3.bias",
            "attention.4.bias": "pooling.attention.4.bias", "bn6.weight": "bn6.weight"}
    dropped = ["conv10.filterbank.n_", "conv10.filterbank.window_", "preprocess.0.flipped_filter",
               "speed_perturbation.0.kernel"]
    assert rename({f"__S__.{key}": key for key in [*ours, *dropped]}) == {ours[key]: key for key in ours}
    assert set(ours.values()) <= set(MODELS.build("mr_rawnet", {}).state_dict())
    assert not rename({"__L__.weight": None})


def test_parameters_and_multiplications():
    """The released code repeats mean and deviation on each of the 300 frames, and convolves for its pre-emphasis."""
    model = MODELS.build("mr_rawnet", {})
    assert num_parameters(model) == 15_442_594
    assert gmacs(model, 48000, batch=1) + 2 * 1536 * 256 * 299 / 1e9 == pytest.approx(4.93, abs=5e-3)


def test_configuration_follows_the_released_one(root):
    config = load_system([root / "conf/mr_rawnet.yaml"])
    assert config.model == {"name": "mr_rawnet"} and config.losses == [{"name": "aam", "margin": 0.3, "scale": 30}]
    assert (config.batch.speakers, config.batch.utts) == (20, 2)
    assert (config.crop.samples, config.crop.short_from) == (48000, 16000)
    optim = config.optim
    assert (optim.name, optim.amsgrad, optim.lr) == ("adam", False, 5e-4)
    assert (optim.weight_decay, optim.decay_all) == (5e-5, True)
    assert (optim.schedule, optim.final_lr, config.train.epochs) == ("cosine", 3e-6, 60)
    assert optim.warmup_steps == (148_642 + 1_092_009) // 40  # VoxCeleb1 and 2, dev
    assert [case["ops"] for case in config.augment] == [[], ["reverb"], ["music"], ["babble"], ["noise"],
                                                        ["babble", "music"]]


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_any_length_and_batch_equals_single(lengths, seed):
    check_batch_equals_single(randomise(MODELS.build("mr_rawnet", NARROW), seed), lengths, more=seed)


@pytest.mark.parametrize("samples", [4801, 4961, 5121])
def test_odd_numbers_of_frames_at_each_resolution(samples):
    check_batch_equals_single(randomise(MODELS.build("mr_rawnet", NARROW)), [samples, 9999], more=3)


def test_gradients():
    """Gain and offset of the input are not trained; of the rest, only biases that a softmax or norm cancels are not."""
    model = randomise(MODELS.build("mr_rawnet", NARROW)).train()
    (model(torch.randn(4, 4800).double()) * torch.randn(4, 6).double()).sum().backward()
    untrained = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert untrained == {"wave_norm.weight", "wave_norm.bias"}
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if name not in untrained}
    zero = {name for name, norm in norms.items() if norm < 1e-9 * max(norms.values())}
    assert zero == {"pooling.attention.4.bias", "bn5.bias", "fc6.bias"} | {
        name for name in norms if name.endswith(("gate.attention.2.bias", "gate.attention.3.bias"))}


@pytest.mark.parametrize(("options", "why"), [({"channels": 18}, "scale must"), ({"filters": 7}, "even number"),
                                              ({"blocks": (1, 1)}, "3 numbers of blocks"),
                                              ({"blocks": (1, 0, 1)}, "3 numbers of blocks")])
def test_incompatible_options(options, why):
    with pytest.raises(ValueError, match=why):
        MODELS.build("mr_rawnet", {**NARROW, **options})


def test_bfloat16_is_close_to_float32():
    torch.manual_seed(0)
    model = MODELS.build("mr_rawnet", {**NARROW, "filters": 32, "channels": 32})
    wave = 0.1 * torch.randn(6, 8000)
    full = model(wave)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(wave)
        half.square().sum().backward()
    assert float(torch.nn.functional.cosine_similarity(full, half.float()).detach().min()) > 0.95
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
