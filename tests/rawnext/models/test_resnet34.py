# SPDX-License-Identifier: Apache-2.0
"""ResNet34 variants: parity with the released code, any length, a batch equals its utterances."""

import json

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
from rawnext.models.official import RESNET34, convert
from rawnext.models.resnet34 import MaskedConv2d

QUARTER = (16, 32, 64, 128)
# model, options, parameters, GMACs for 32,240 samples with the mel matrix
COUNTS = [
    ("resnet34", {"widths": QUARTER, "blocks": (2, 2, 2, 2)}, 1_225_328, 0.3888),
    ("resnet34", {"widths": QUARTER, "blocks": (2, 2, 2, 2), "pooling": "asp"}, 2_013_168, 0.4027),
    ("resnet34", {"widths": QUARTER}, 1_858_480, 0.7188),
    ("resnet34", {"widths": QUARTER, "pooling": "asp"}, 2_646_320, 0.7327),
    ("resnet34", {}, 6_373_728, 2.8542),
    ("resnet34", {"pooling": "sap"}, 6_373_728 + 526_720, 2.8809),
    ("resnet34", {"pooling": "asp"}, 7_949_024, 2.8820),
    ("thin_resnet34_se", {}, 1_437_078, 0.4499),
    ("thin_resnet34_se", {"deviation": True}, 1_502_614, 0.4499),
    ("resnet34_se", {}, 8_028_492, 3.7100),
]
NARROW = {"widths": (8, 8, 16, 16), "blocks": (1, 2, 1, 1), "embedding_dim": 6}
SYSTEMS = [("resnet34", {"pooling": "avg"}), ("resnet34", {"pooling": "sap"}), ("resnet34", {"pooling": "asp"}),
           ("thin_resnet34_se", {}), ("thin_resnet34_se", {"deviation": True}),
           ("resnet34_se", {}), ("resnet34_se", {"deviation": False}), ("resnet34_image", {})]


def rename(official):
    return convert(official, RESNET34)


def released(parity, fixture, name):
    """(fixture, its model in float64)"""
    z = np.load(parity / f"{fixture}.npz")
    meta = json.loads(str(z["meta"]))["configuration"]
    options = {"widths": meta["filters"], "blocks": meta["layers"], "bands": meta["n_mels"],
               "embedding_dim": meta["nOut"]}
    if name != "thin_resnet34_se":
        options["pooling"] = meta["encoder"].lower()
    model = MODELS.build(name, options).double()
    model.load_state_dict(rename(state_dict(z)))
    return z, model


def settle(model, seed=0):
    """`randomise`, then BatchNorm statistics of a batch; otherwise maps grow until float32 is too coarse."""
    for module in randomise(model, seed).modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1
    with torch.no_grad():
        model.train()(torch.randn(4, 3000).double())
    return model.eval()


def check_released(z, model):
    """Embeddings in float64 and float32, and every activation that the fixture holds."""
    seen, keep = {}, {"features": lambda out: out[0].transpose(1, 2), "fc_phi": lambda out: out.permute(0, 2, 3, 1)}
    for key in z.files:
        if key.startswith("act/") and key not in ("act/attention", "act/layer2.0.se"):
            name = {"act/instancenorm": "features"}.get(key, key[4:])
            hook = lambda m, i, out, key=key, name=name: seen.update(  # noqa: E731
                {key: keep.get(name.split(".")[-1], lambda out: out)(out)})
            model.get_submodule(name).register_forward_hook(hook)
    x = torch.from_numpy(z["x"])
    with torch.no_grad():
        assert error(model.eval()(x.double()), z["emb_f64"]) < 1e-9
        assert len(seen) >= 6
        for key, value in seen.items():
            assert activation_error(value, z, key[4:]) < 1e-9, key
        assert error(model.float()(x), z["emb_f64"]) < 2e-3


@pytest.mark.parametrize("fixture", ["resnet34_avg", "resnet34_asp", "thin_resnet34_se"])
def test_equals_released_code(parity, fixture):
    name = fixture if fixture == "thin_resnet34_se" else "resnet34"
    check_released(*released(parity, fixture, name))
    check_training_step(*released(parity, fixture, name), rename, 1e-9)


@pytest.mark.parametrize(("name", "options", "parameters", "expected"), COUNTS)
def test_parameters_and_multiplications(name, options, parameters, expected):
    model = MODELS.build(name, options)
    assert num_parameters(model) == parameters
    assert gmacs(model, 32240) == pytest.approx(expected, abs=1e-4)


def test_image_variant_has_torchvisions_size():
    """Its 21,797,672 parameters, less two input channels of three and 1,000 classes, and the embedding."""
    model = MODELS.build("resnet34_image", {})
    assert num_parameters(model) == 21_797_672 - 2 * 64 * 49 - 513 * 1000 + 513 * 512


@pytest.mark.parametrize(("name", "shape", "negative"), [
    ("resnet34", (256, 8, 51), True), ("thin_resnet34_se", (128, 5, 51), False), ("resnet34_se", (256, 8, 26), True),
    ("resnet34_image", (512, 2, 7), False)])
def test_maps(name, shape, negative):
    """The last map's size; the stem's output has negative values only if ReLU comes before BatchNorm."""
    model = randomise(MODELS.build(name, {"blocks": (1, 1, 1, 1)})).float()
    seen = []
    model.get_submodule(model.feature_map).register_forward_hook(lambda m, i, out: seen.append(out))
    model.layer1.register_forward_hook(lambda m, i, out: seen.append(i[0]))
    with torch.no_grad():
        model(torch.randn(1, 32240))
    stem, last = seen
    assert last.shape == (1, *shape)
    assert bool((stem < 0).any()) == negative


def test_resnet34_se_by_hand():
    """Pre-emphasis and the order of the attention's layers, which no fixture covers."""
    model = randomise(MODELS.build("resnet34_se", NARROW))
    wave, x = torch.randn(2, 4000).double(), torch.randn(2, 9, 128).double()
    filtered = torch.cat([wave[:, :1] - 0.97 * wave[:, 1:2], wave[:, 1:] - 0.97 * wave[:, :-1]], 1)
    other = MODELS.build("resnet34", NARROW).double().features
    assert error(model.features(wave)[0], other(filtered)[0]) < 1e-9
    reduce, bn, expand = (model.pooling.attention[i] for i in (0, 2, 3))
    score = expand(bn(torch.relu(reduce(x.transpose(1, 2))))).softmax(2)
    mean = (score * x.transpose(1, 2)).sum(2)
    variance = (score * (x.transpose(1, 2) - mean[..., None]) ** 2).sum(2)
    assert error(model.pooling(x), torch.cat([mean, variance.clamp(min=1e-5).sqrt()], 1)) < 1e-9


def check_gradients(model, idle):
    """Every parameter gets a gradient, except the biases `idle`, which a following BatchNorm or softmax cancels."""
    (randomise(model).train()(torch.randn(4, 4000).double()) * torch.randn(4, 6).double()).sum().backward()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    assert {name for name, norm in norms.items() if norm < 1e-9 * max(norms.values())} == idle & set(norms)


@pytest.mark.parametrize(("name", "options"), SYSTEMS)
def test_batch_equals_single(name, options):
    check_batch_equals_single(settle(MODELS.build(name, {**NARROW, **options})), [1600, 3333, 5199, 4700], more=700)


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1, 6000), min_size=1, max_size=3), system=st.sampled_from(SYSTEMS),
       seed=st.integers(0, 999))
def test_any_length_and_batch_equals_single(lengths, system, seed):
    name, options = system
    check_batch_equals_single(settle(MODELS.build(name, {**NARROW, **options}), seed), lengths, more=seed)


@pytest.mark.parametrize(("name", "options"), SYSTEMS)
def test_gradients(name, options):
    idle = {"resnet34": {"pooling.attention.0.bias", "pooling.attention.3.bias"},
            "resnet34_se": {"pooling.attention.2.bias", "pooling.attention.3.bias"}}.get(name, set())
    check_gradients(MODELS.build(name, {**NARROW, "widths": (32, 32, 32, 32), **options}), idle)


@pytest.mark.parametrize("name", ["resnet34", "thin_resnet34_se", "resnet34_se", "resnet34_image", "dtdy_resnet34"])
def test_bfloat16_is_close_to_float32(name):
    torch.manual_seed(0)
    model = MODELS.build(name, NARROW)
    wave = 0.1 * torch.randn(8, 6562)
    full = model(wave)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(wave)
        half.square().sum().backward()
    assert float(torch.nn.functional.cosine_similarity(full, half.float()).detach().min()) > 0.95
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(("options", "why"), [
    ({"pooling": "max"}, "avg, sap or asp"), ({"widths": (8, 8)}, "four"), ({"blocks": (1, 1, 0, 1)}, "four")])
def test_incompatible_options(options, why):
    with pytest.raises(ValueError, match=why):
        MODELS.build("resnet34", {**NARROW, **options})


def test_too_narrow_for_squeeze_and_excitation():
    with pytest.raises(ValueError, match="from 8"):
        MODELS.build("thin_resnet34_se", {**NARROW, "widths": (8, 4, 8, 8)})


def training(config):
    """Assert what the released trainers of these networks have in common; return the rest."""
    optim = config.optim
    assert (optim.name, optim.amsgrad, optim.lr, optim.schedule) == ("adam", False, 1e-3, "step")
    assert (config.batch.utts, config.batch.max_utts_per_speaker, config.augment) == (2, 500, [])
    assert (config.crop.samples, config.crop.short_from, config.extract.samples) == (32240, 0, 64240)
    return ([loss["name"] for loss in config.losses], config.batch.speakers, optim.step_epochs, optim.step_factor,
            optim.weight_decay, config.train.epochs)


@pytest.mark.parametrize(("folder", "counts"), [
    ("dtdy", {"x025": 3_332_344, "x050": 11_991_232, "x050_asp": 13_566_528}),
    ("resnet34", {"x025": 1_858_480, "x050": 6_373_728, "x050_asp": 7_949_024})])
def test_configurations(root, folder, counts):
    assert {path.stem for path in (root / "conf" / folder).glob("*.yaml")} == set(counts)
    for name, num in counts.items():
        config = load_config([root / "conf" / folder / f"{name}.yaml"])
        assert num_parameters(MODELS.build(*split_name(config.model))) == num
        assert training(config) == (["softmax", "angular_prototypical"], 256, 15, 0.75, 5e-5, 200)
        assert config.optim.decay_all
        row = f"DTDY-ResNet34 x0.{name[2:].upper().replace('_', ' ')}"
        assert config.paper == (row if folder == "dtdy" else "")


def test_thin_resnet34_se_configuration(root):
    config = load_config([root / "conf" / "thin_resnet34_se.yaml"])
    assert split_name(config.model) == ("thin_resnet34_se", {})
    assert training(config) == (["angular_prototypical"], 200, 10, 0.95, 0, 500)


def test_keys_of_a_training_checkpoint():
    """The network's prefix is removed; the loss and the pre-emphasis filter are dropped."""
    keys = {"module.__S__.torchfb.1.mel_scale.fb": "features.mel.mel_scale.fb",
            "module.__S__.attention": "pooling.attention", "__S__.layer1.0.se.fc.0.bias": "layer1.0.se.0.bias"}
    assert rename({**keys, "module.__L__.w": "", "__S__.torchfb.0.flipped_filter": ""}) == {v: v for v in keys.values()}


@pytest.mark.parametrize("channels", [4, 8, 16])
@pytest.mark.parametrize("size", [(32, 110), (5, 7)])
def test_strides_of_1x1_convolutions(channels, size):
    """As torch in float64. In float32, torch's gradient overwrote memory, which ended small systems' training."""
    layer = MaskedConv2d(channels, 6, 1, 2)
    x = torch.randn(4, channels, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    exact, weight = x.detach().double().requires_grad_(), layer.weight.detach().double().requires_grad_()
    y, wanted = layer(x), torch.nn.functional.conv2d(exact, weight, stride=2)
    g = torch.randn_like(y)
    y.backward(g)
    wanted.backward(g.double())
    for one, other in ((y, wanted), (x.grad, exact.grad), (layer.weight.grad, weight.grad)):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)
