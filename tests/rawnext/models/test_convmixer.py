# SPDX-License-Identifier: Apache-2.0
"""ConvMixer: its layers by hand, any length, a batch equals its utterances."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import check_batch_equals_single, error, gmacs, num_parameters, randomise
from test_resnet34 import check_gradients, settle

from rawnext.models import MODELS

NARROW = {"channels": 8, "depth": 2, "kernel": 5, "patch": (4, 3), "bands": 20, "embedding_dim": 6}


def test_parameters_and_multiplications():
    """As defined: patches, depthwise and 1x1 convolutions at every position, one linear layer."""
    model, (h, d, k, positions) = MODELS.build("convmixer", {}), (256, 8, 9, 10 * 50)
    assert num_parameters(model) == (32 + 3) * h + d * (k * k * h + h * h + 6 * h) + 512 * h + 512
    mel = 202 * 257 * 80
    assert 1e9 * gmacs(model, 32240) == positions * (32 * h + d * (k * k * h + h * h)) + 512 * h + mel


def test_layers_by_hand():
    model = randomise(MODELS.build("convmixer", {**NARROW, "depth": 1}))
    wave = torch.randn(2, 4000).double()
    x = model.features(wave)[0].transpose(1, 2).unsqueeze(1)  # (2, 1, 20, 26)
    mixer, = model.mixers
    # 26 frames are 8 patches of 3; 2 are left over
    patches = F.unfold(x, (4, 3), stride=(4, 3)).transpose(1, 2) @ model.conv1.weight.flatten(1).T + model.conv1.bias
    y = model.bn1(F.gelu(patches).transpose(1, 2).unflatten(2, (5, 8)))
    y = y + mixer.bn1(F.gelu(F.conv2d(y, mixer.depthwise.weight, mixer.depthwise.bias, padding=2, groups=8)))
    y = mixer.bn2(F.gelu(torch.einsum("oi,bift->boft", mixer.pointwise.weight[..., 0, 0], y)
                         + mixer.pointwise.bias[:, None, None]))
    assert error(model(wave), model.fc(y.mean((2, 3)))) < 1e-9


def test_map():
    model, seen = MODELS.build("convmixer", {}).eval(), []
    model.get_submodule(model.feature_map).register_forward_hook(lambda m, i, out: seen.append(out.shape))
    with torch.no_grad():
        model(torch.randn(1, 32240))
    assert seen == [(1, 256, 10, 50)]


@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(1, 6000), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_any_length_and_batch_equals_single(lengths, seed):
    check_batch_equals_single(settle(MODELS.build("convmixer", NARROW), seed), lengths, more=seed)


def test_gradients():
    check_gradients(MODELS.build("convmixer", NARROW), set())


@pytest.mark.parametrize(("options", "why"), [
    ({"kernel": 4}, "odd"), ({"patch": (4, 12)}, "11 frames"), ({"patch": (21, 3)}, "20 bands"),
    ({"patch": (4,)}, "patch")])
def test_incompatible_options(options, why):
    with pytest.raises(ValueError, match=why):
        MODELS.build("convmixer", {**NARROW, **options})
