# SPDX-License-Identifier: Apache-2.0
"""DTDY-ResNet34: parity with the released code, any length, a batch equals its utterances."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import check_batch_equals_single, check_training_step, gmacs, num_parameters, randomise
from test_resnet34 import NARROW, QUARTER, check_gradients, check_released, released, rename, settle

from rawnext.models import MODELS
from rawnext.models.dtdy import DTDYConv

# options, parameters, GMACs for 32,240 samples with the mel matrix
COUNTS = [
    ({"widths": QUARTER, "blocks": (2, 2, 2, 2)}, 2_011_984, 0.5375),
    ({"widths": QUARTER, "blocks": (2, 2, 2, 2), "pooling": "asp"}, 2_799_824, 0.5514),
    ({"widths": QUARTER}, 3_332_344, 0.9953),
    ({"widths": QUARTER, "pooling": "asp"}, 4_120_184, 1.0092),
    ({}, 11_991_232, 3.7106),
    ({"pooling": "asp"}, 13_566_528, 3.7384),
]


@pytest.mark.parametrize("fixture", ["dtdy_asp", "dtdy_avg"])
def test_equals_released_code(parity, fixture):
    check_released(*released(parity, fixture, "dtdy_resnet34"))
    check_training_step(*released(parity, fixture, "dtdy_resnet34"), rename, 1e-9)


@pytest.mark.parametrize(("options", "parameters", "expected"), COUNTS)
def test_parameters_and_multiplications(options, parameters, expected):
    model = MODELS.build("dtdy_resnet34", options)
    assert num_parameters(model) == parameters
    assert gmacs(model, 32240) == pytest.approx(expected, abs=1e-4)


def test_parameters_of_one_convolution():
    conv = DTDYConv(32, 64, 3, 2, 32)
    assert [num_parameters(getattr(conv, part)) for part in ("conv", "q", "p", "bn1", "bn2", "fc_phi")] == [
        18432, 3744, 832, 26, 26, 15310]


@torch.no_grad()
def test_one_convolution_frame_by_frame():
    """Away from the ends a frame's output is the fixed convolution and P (BN(Phi q) + q), q = BN(Q x)."""
    torch.manual_seed(0)
    conv = randomise(DTDYConv(4, 6, 3, 1, 8))
    x = torch.randn(2, 4, 8, 9).double()
    phi = conv.fc_phi(x, None)
    q, frame = conv.bn1(conv.q(x)), 5
    mixed = torch.stack([phi[b, frame] @ q[b, :, :, frame] for b in range(2)])  # (B, L, F)
    y = conv.conv(x)[..., frame] + conv.p(conv.bn2(mixed[..., None]) + q[..., frame, None])[..., 0]
    assert torch.allclose(conv(x, None)[..., frame], y)
    assert float(phi.min()) >= 0 and float(phi.max()) <= 2


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=3), pooling=st.sampled_from(["avg", "sap", "asp"]),
       seed=st.integers(0, 999))
def test_any_length_and_batch_equals_single(lengths, pooling, seed):
    model = settle(MODELS.build("dtdy_resnet34", {**NARROW, "pooling": pooling, "bands": 20}), seed)
    check_batch_equals_single(model, lengths, more=seed)


def test_gradients():
    options = {**NARROW, "pooling": "asp"}
    model = MODELS.build("dtdy_resnet34", options)
    shifts = {f"{name}.bn2.bias" for name, module in model.named_modules() if isinstance(module, DTDYConv)}
    check_gradients(model, {"pooling.attention.0.bias", "pooling.attention.3.bias"} | shifts)
