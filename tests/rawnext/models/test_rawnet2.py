# SPDX-License-Identifier: Apache-2.0
"""RawNet2: parity with the released code, any length, a batch equals its utterances."""

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
from rawnext.models.official import RAWNET2, convert

NARROW = {"channels": (4, 4, 8, 8, 8, 8), "embedding_dim": 6}


def rename(official):
    return convert(official, RAWNET2)


@pytest.fixture
def released(parity):
    """(fixture, its model in float64)"""
    z = np.load(parity / "rawnet2.npz")
    model = MODELS.build("rawnet2", {"channels": (16, 16, 32, 32, 48, 48), "embedding_dim": 40}).double()
    model.load_state_dict(rename(state_dict(z)))
    return z, model


def test_equals_released_code(released):
    z, model = released
    seen, x = {}, torch.from_numpy(z["x"]).squeeze(1)
    for i in range(1, 7):
        model.get_submodule(f"layer{i}")[-1].register_forward_hook(lambda m, i, out, n=i: seen.update({n: out[0]}))
    with torch.no_grad():
        assert error(model.eval().embed(x.double()), z["emb_f64"]) < 1e-9
        for i in range(1, 7):
            assert activation_error(seen[i].transpose(1, 2), z, f"layer{i}") < 1e-9, i
        assert error(model.float().embed(x), z["emb_f64"]) < 2e-3


def test_training_step_equals_released_code(released):
    check_training_step(*released, rename, 1e-9)


def test_parameters_and_multiplications():
    model = MODELS.build("rawnet2", {})
    assert num_parameters(model) == 7_455_872
    assert gmacs(model, 59050) == pytest.approx(4.4558, abs=6e-5)


def test_configuration_differs_from_rawnext_in_the_model_only(root):
    system, flagship = (load_config([root / "conf" / f"{name}.yaml"]) for name in ("rawnet2", "rawnext"))
    assert split_name(system.model) == ("rawnet2", {}) and system.paper == "RawNet2 softmax"
    system.model, system.paper = flagship.model, flagship.paper
    assert system == flagship


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1600, 9000), min_size=1, max_size=4), seed=st.integers(0, 999))
def test_any_length_and_batch_equals_single(lengths, seed):
    check_batch_equals_single(randomise(MODELS.build("rawnet2", NARROW), seed), lengths, more=seed)


def test_gradients():
    """Every parameter gets a gradient, except biases that a following BatchNorm or softmax cancels."""
    model = randomise(MODELS.build("rawnet2", NARROW)).train()
    (model(torch.randn(4, 6562).double()) * torch.randn(4, 6).double()).sum().backward()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters()}
    assert {name for name, norm in norms.items() if norm < 1e-9 * max(norms.values())} == {
        "pooling.attention.2.bias", "pooling.attention.3.bias"}


def test_initialisation():
    """Each channel's alpha is 1; filters have the released code's deviation, sqrt(2 / (kernel * outputs))."""
    torch.manual_seed(0)
    model = MODELS.build("rawnet2", {})
    block = model.layer5[0]
    assert bool((block.afms.alpha == 1).all())
    for layer, fan_out in ((block.conv1, 3 * 512), (block.shortcut, 512), (model.pooling.attention[0], 128)):
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize("options", [{"channels": (8, 8)}, {"blocks": (1, 1, 1, 1, 1)}, {"blocks": (1, 1, 1, 0, 1, 1)}])
def test_incompatible_options(options):
    with pytest.raises(ValueError, match="6 channels"):
        MODELS.build("rawnet2", {**NARROW, **options})


def test_bfloat16_is_close_to_float32():
    torch.manual_seed(0)
    model = MODELS.build("rawnet2", NARROW)
    wave = 0.1 * torch.randn(8, 6562)
    full = model(wave)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(wave)
        half.square().sum().backward()
    assert float(torch.nn.functional.cosine_similarity(full, half.float()).detach().min()) > 0.95
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
