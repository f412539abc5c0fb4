# SPDX-License-Identifier: Apache-2.0
"""NeXt-TDNN: parity with the released code, any length, a batch equals its utterances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import (
    activation_error,
    check_batch_equals_single,
    check_training_step,
    error,
    gmacs,
    num_parameters,
    randomise,
    state_dict,
)

from rawnext.config import load_config, split_name
from rawnext.models import MODELS
from rawnext.models.next_tdnn import NeXtTDNN
from rawnext.models.official import NEXT_TDNN, convert

NARROW = {"channels": 8, "blocks": (1, 2), "kernels": (3, 5), "embedding_dim": 6}
# channels, blocks of a stage, parameters, GMACs for 48,000 and for 48,240 samples
LIGHT = {"c192_b1": (192, 1, 1_634_712, 0.4169, 0.4183), "c128_b3": (128, 3, 1_649_872, 0.4411, 0.4426),
         "c384_b1": (384, 1, 5_867_760, 1.6083, 1.6137), "c256_b3": (256, 3, 6_027_104, 1.6952, 1.7009)}
FULL = {"c192_b1": (192, 1, 1_840_344, 0.4779, 0.4795), "c128_b3": (128, 3, 1_913_680, 0.5191, 0.5208),
        "c384_b1": (384, 1, 6_721_392, 1.8620, 1.8683), "c256_b3": (256, 3, 7_144_544, 2.0268, 2.0336)}
SYSTEMS = {**FULL, **{f"light_{name}": row for name, row in LIGHT.items()}}
FILES = {**{name: name for name in SYSTEMS}, "c256_b3_cyclical": "c256_b3"}


def rename(official):
    return convert(official, NEXT_TDNN)


def released(parity, name):
    """(fixture, its model in float64)"""
    z = np.load(parity / f"{name}.npz")
    model = MODELS.build("next_tdnn", {"channels": 32, "blocks": [2, 1, 2], "embedding_dim": 24,
                                       "light": name.endswith("light"), "freq_mask": 0, "time_mask": 0}).double()
    state = rename(state_dict(z))
    for key in ("features.mel.spectrogram.window", "features.mel.mel_scale.fb"):  # before loading replaces them
        assert error(model.state_dict()[key], state[key]) < 1e-5, key
    model.load_state_dict(state)
    assert model.features.pre_emphasis == 0.97
    model.features.pre_emphasis = float(np.float32(0.97))   # as the released code has it
    return z, model


@pytest.mark.parametrize("name", ["nexttdnn", "nexttdnn_light"])
def test_equals_released_code(parity, name):
    z, model = released(parity, name)
    seen = {}
    for ours, official in (("features", "feature_extractor"), ("stem.1", "model.stem.0"), ("MFA.1", "model.MFA"),
                           ("stages.0.1", "model.stages.0"), ("stages.1.0", "model.stages.1"),
                           ("stages.2.1", "model.stages.2"), ("bn_agg", "aggregate.bn2")):
        hook = lambda m, i, out, key=official: seen.update({key: out[0] if isinstance(out, tuple) else out})  # noqa: E731
        model.get_submodule(ours).register_forward_hook(hook)
    x = torch.from_numpy(z["x"])
    with torch.no_grad():
        assert error(model.eval()(x.double()), z["emb_f64"]) < 1e-9
        for key, value in seen.items():
            value = value if value.ndim == 2 else value.transpose(1, 2)
            assert activation_error(value, z, key) < 1e-9, key
        assert error(model.float()(x), z["emb_f64"]) < 2e-3


@pytest.mark.parametrize("name", ["nexttdnn", "nexttdnn_light"])
def test_training_step_equals_released_code(parity, name):
    check_training_step(*released(parity, name), rename, 1e-9)


def test_keys_of_a_training_checkpoint():
    keys = ["speaker_net.model.MFA.0.bias", "speaker_net.loss_function.weight", "loss_function.weight",
            "speaker_net.feature_extractor.pre_emphasis.flipped_filter", "speaker_net.aggregate.bn3.running_mean"]
    assert list(rename(dict.fromkeys(keys))) == ["MFA.0.bias", "bn_code.running_mean"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_parameters_and_multiplications(system):
    channels, blocks, parameters, *expected = SYSTEMS[system]
    model = NeXtTDNN(channels, [blocks] * 3, light=system.startswith("light"))
    assert num_parameters(model) == parameters
    counted = [gmacs(model, samples, without="features") for samples in (48000, 48240)]
    assert counted == pytest.approx(expected, abs=6e-5)


def test_a_file_for_each_released_configuration(root):
    assert {path.stem for path in (root / "conf" / "next_tdnn").glob("*.yaml")} == set(FILES)
    papers = {line.split("\t")[0] for line in (root / "conf" / "paper.tsv").read_text().splitlines()}
    for name, system in FILES.items():
        config = load_config([root / "conf" / "next_tdnn" / f"{name}.yaml"])
        assert num_parameters(MODELS.build(*split_name(config.model))) == SYSTEMS[system][2], name
        assert config.paper in papers, name
        assert config.losses == [{"name": "aam", "margin": 0.3, "scale": 40}], name
        assert len(config.augment) == 6 and not any("weight" in case for case in config.augment), name
        assert (config.batch.utts, config.crop.samples, config.crop.short_from) == (1, 48240, 0), name
        optim, wide = config.optim, system.endswith(("c256_b3", "c384_b1"))
        assert (optim.name, optim.amsgrad, optim.weight_decay, optim.decay_all) == ("adamw", False, 0.01, True), name
        assert (config.batch.speakers, optim.lr, optim.schedule, optim.clip_norm, config.train.epochs) == (
            (128, 1e-3, "cyclical", 5, 200) if name.endswith("cyclical") else
            (300 if wide else 500, 3e-4 if wide else 5e-4, "step", 1 if name == "light_c128_b3" else 0, 500)), name
        if optim.schedule == "step":
            assert (optim.step_epochs, optim.step_factor, optim.final_lr) == (10, 0.8, 0), name
        else:
            assert (optim.cycle_steps, optim.final_lr) == (65000, 1e-8), name


@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=4), light=st.booleans(), seed=st.integers(0, 999))
def test_any_length_and_batch_equals_single(lengths, light, seed):
    model = randomise(MODELS.build("next_tdnn", {**NARROW, "light": light}), seed)
    check_batch_equals_single(model, lengths, more=seed)


@pytest.mark.parametrize("light", [False, True])
def test_gradients(light):
    """Every parameter gets a gradient, except biases that a following BatchNorm or softmax cancels."""
    model = randomise(MODELS.build("next_tdnn", {**NARROW, "light": light})).train()
    (model(torch.randn(4, 4000).double()) * torch.randn(4, 6).double()).sum().backward()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    assert {name for name, norm in norms.items() if norm < 1e-9 * max(norms.values())} == {
        "MFA.1.bias", "pooling.attention.0.bias", "pooling.attention.3.bias", "bn_agg.bias", "fc.bias"}


def test_initialisation():
    """GRN starts as the identity; stem and stages have normal weights with deviation 0.02 and zero biases."""
    torch.manual_seed(0)
    model = MODELS.build("next_tdnn", {"channels": 64})
    block, x = model.stages[2][2], torch.randn(2, 9, 256)
    assert torch.equal(block.grn(x), x)
    assert [conv.kernel_size for conv in block.mscconv] == [(7,), (65,)]
    for layer in (model.stem[0], block.projection_linear, block.mscconv[1], block.pwconv_1stage, block.pwconv1):
        assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
        assert not layer.bias.any()
    assert float(model.MFA[0].weight.detach().std()) > 0.03


def test_masks_in_training_only():
    model = MODELS.build("next_tdnn", {**NARROW, "freq_mask": 80, "time_mask": 1})
    seen = []
    wave = torch.randn(3, 8000)
    model.spec_augment.register_forward_hook(lambda m, i, out: seen.append((out == 0).all(1)))  # (B, bands)
    torch.manual_seed(0)
    for training in (True, False):
        model.train(training)(wave)
    assert seen[0].any() and torch.equal(seen[0], seen[0][:1].expand_as(seen[0])), "the same for the whole batch"
    assert not seen[1].any()


@pytest.mark.parametrize(("options", "why"), [
    ({"kernels": (3, 4)}, "odd"), ({"kernels": ()}, "odd"), ({"channels": 9}, "equally"), ({"blocks": ()}, "stages"),
    ({"blocks": (1, 0)}, "stages")])
def test_incompatible_options(options, why):
    with pytest.raises(ValueError, match=why):
        MODELS.build("next_tdnn", {**NARROW, **options})


def test_light_channels_need_not_divide_equally():
    assert MODELS.build("next_tdnn", {**NARROW, "channels": 9, "light": True}).stages[0][0].dwconv.kernel_size == (5,)


def test_bfloat16_is_close_to_float32():
    torch.manual_seed(0)
    model = MODELS.build("next_tdnn", {**NARROW, "freq_mask": 0, "time_mask": 0})
    wave = 0.1 * torch.randn(8, 6562)
    full = model(wave)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(wave)
        half.square().sum().backward()
    assert float(torch.nn.functional.cosine_similarity(full, half.float()).detach().min()) > 0.95
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
