# SPDX-License-Identifier: Apache-2.0
"""ECAPA-TDNN: an independent implementation, counts, any length, a batch equals its utterances."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import check_batch_equals_single, error, gmacs, num_parameters, randomise

from rawnext.config import load_config, split_name
from rawnext.models import MODELS
from rawnext.models.official import ECAPA_TDNN, our_key

NARROW = {"channels": 16, "fused": 24, "embedding_dim": 6, "scale": 4, "bottleneck": 5, "attention": 7}


def independent_model(mel, w, scale):
    """Channels-first maps (B, 80, L) -> embeddings, implemented independently of the model; w: its state dict."""
    def conv(x, name, **options):
        return F.conv1d(x, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def bn(x, name):
        return F.batch_norm(x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"],
                            w[f"{name}.bias"])

    def block(x, name, dilation):
        groups = list(bn(conv(x, f"{name}.conv1").relu(), f"{name}.bn1").chunk(scale, dim=1))
        for i in range(scale - 1):
            y = groups[i] + (groups[i - 1] if i else 0)
            y = conv(y, f"{name}.convs.{i}", padding=dilation, dilation=dilation)
            groups[i] = bn(y.relu(), f"{name}.bns.{i}")
        y = bn(conv(torch.cat(groups, 1), f"{name}.conv3").relu(), f"{name}.bn3")
        gate = conv(conv(y.mean(2, keepdim=True), f"{name}.se.0").relu(), f"{name}.se.2").sigmoid()
        return gate * y + x

    first = bn(conv(mel, "conv1", padding=2).relu(), "bn1")
    one = block(first, "layer1", 2)
    two = block(first + one, "layer2", 3)
    three = block(first + one + two, "layer3", 4)
    x = conv(torch.cat([one, two, three], 1), "layer4").relu()
    deviation = x.var(2, keepdim=True).clamp(min=1e-4).sqrt()
    h = torch.cat([x, x.mean(2, keepdim=True).expand_as(x), deviation.expand_as(x)], 1)
    h = bn(conv(h, "pooling.attention.0").relu(), "pooling.attention.2").tanh()
    weight = conv(h, "pooling.attention.4").softmax(2)
    mean = (weight * x).sum(2)
    variance = (weight * x**2).sum(2) - mean**2
    x = bn(torch.cat([mean, variance.clamp(min=1e-4).sqrt()], 1), "bn5")
    return bn(F.linear(x, w["fc6.weight"], w["fc6.bias"]), "bn6")


@pytest.mark.parametrize("num_samples", [1600, 4321])
def test_equals_independent_model(num_samples):
    model = randomise(MODELS.build("ecapa_tdnn", NARROW))
    wave = 0.1 * torch.randn(3, num_samples).double()
    with torch.no_grad():
        mel = model.features(wave)[0].transpose(1, 2)
        assert error(model(wave), independent_model(mel, model.state_dict(), 4)) < 1e-12


def test_features():
    """80 bands in 20-7,600 Hz of the pre-emphasised signal: a low tone is at least 20 dB below a high one."""
    features = MODELS.build("ecapa_tdnn", NARROW).features
    assert features.mel.mel_scale.fb.shape == (257, 80)
    used = features.mel.mel_scale.fb.sum(1).nonzero().flatten() * 16000 / 512
    assert (float(used.min()), float(used.max())) == (31.25, 7593.75)
    assert features.norm == "mean"
    features.norm = "none"
    tone = torch.stack([torch.sin(2 * torch.pi * hz * torch.arange(16000) / 16000) for hz in (100, 7000)])
    low, high = features(tone)[0].mean(1).max(1).values
    assert float(high - low) * 10 / torch.log(torch.tensor(10.0)) > 20


def test_public_keys_are_renamed():
    """One of each kind of key in the public checkpoints, `speaker_encoder.*` and `speaker_loss.weight`."""
    ours = {"conv1.weight": "conv1.weight", "layer2.convs.6.bias": "layer2.convs.6.bias",
            "layer3.se.se.1.weight": "layer3.se.0.weight", "layer1.se.se.3.bias": "layer1.se.2.bias",
            "attention.4.weight": "pooling.attention.4.weight", "fc6.bias": "fc6.bias",
            "torchfbank.1.mel_scale.fb": "features.mel.mel_scale.fb"}
    known = MODELS.build("ecapa_tdnn", {}).state_dict()
    for public, name in ours.items():
        assert our_key(public, ECAPA_TDNN) == our_key(f"speaker_encoder.{public}", ECAPA_TDNN) == name
        assert name in known
    assert our_key("speaker_loss.weight", ECAPA_TDNN) is None
    assert our_key("speaker_encoder.torchfbank.0.flipped_filter", ECAPA_TDNN) is None


@pytest.mark.parametrize(("options", "parameters", "expected"), [({"channels": 512}, 6_978_176, 1.2107),
                                                                 ({}, 15_444_544, 2.8386)])
def test_parameters_and_multiplications(options, parameters, expected):
    """The public code repeats mean and deviation on each of the 202 frames, and convolves for its pre-emphasis."""
    model = MODELS.build("ecapa_tdnn", options)
    assert num_parameters(model) == parameters
    context, pre_emphasis = 2 * 1536 * 256 * 201 / 1e9, 2 * 32240 / 1e9
    assert gmacs(model, 32240) + context + pre_emphasis == pytest.approx(expected, abs=6e-5)


def test_configuration_follows_the_public_code(root):
    config = load_config([root / "conf" / "ecapa_tdnn.yaml"])
    assert split_name(config.model) == ("ecapa_tdnn", {})
    assert config.losses == [{"name": "aam", "margin": 0.2, "scale": 30}]
    assert (config.batch.speakers * config.batch.utts, config.crop.samples, config.crop.short_from) == (400, 32240, 0)
    assert len(config.augment) == 6 and not any("weight" in case for case in config.augment)
    optim = config.optim
    assert (optim.name, optim.amsgrad, optim.weight_decay, optim.decay_all) == ("adam", False, 2e-5, True)
    assert (optim.lr, optim.schedule, optim.step_epochs, optim.step_factor, optim.final_lr) == (1e-3, "step", 1, .97, 0)
    assert config.train.epochs == 80


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_any_length_and_batch_equals_single(lengths, seed):
    check_batch_equals_single(randomise(MODELS.build("ecapa_tdnn", NARROW), seed), lengths, more=seed)


def test_gradients():
    """Every parameter gets a gradient, except biases that a following BatchNorm or softmax cancels."""
    model = randomise(MODELS.build("ecapa_tdnn", NARROW)).train()
    (model(torch.randn(4, 4000).double()) * torch.randn(4, 6).double()).sum().backward()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    assert {name for name, norm in norms.items() if norm < 1e-9 * max(norms.values())} == {
        "pooling.attention.4.bias", "bn5.bias", "fc6.bias"}


def test_masks_in_training_only():
    model = MODELS.build("ecapa_tdnn", {**NARROW, "freq_mask": 80, "time_mask": 1})
    seen, wave = [], torch.randn(3, 8000)
    model.spec_augment.register_forward_hook(lambda m, i, out: seen.append((out == 0).all(1)))  # (B, bands)
    torch.manual_seed(0)
    for training in (True, False):
        model.train(training)(wave)
    assert seen[0].any() and not seen[1].any()


@pytest.mark.parametrize("options", [{"channels": 18}, {"scale": 1}])
def test_incompatible_options(options):
    with pytest.raises(ValueError, match="scale"):
        MODELS.build("ecapa_tdnn", {**NARROW, **options})


def test_bfloat16_is_close_to_float32():
    torch.manual_seed(0)
    model = MODELS.build("ecapa_tdnn", {**NARROW, "freq_mask": 0, "time_mask": 0})
    wave = 0.1 * torch.randn(6, 4000)
    full = model(wave)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(wave)
        half.square().sum().backward()
    assert float(F.cosine_similarity(full, half.float()).detach().min()) > 0.95
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
