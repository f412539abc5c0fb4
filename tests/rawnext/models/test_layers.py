# SPDX-License-Identifier: Apache-2.0
"""Channels-last layers equal torch's own in value and gradient."""

import pytest
import torch
from torch import nn

from rawnext.models.layers import conv1d, upsample


@pytest.mark.parametrize("options", [dict(padding=1), dict(padding=1, groups=2), dict(stride=3),
                                     dict(padding=2, dilation=2), dict(padding=1, bias=True),
                                     dict(kernel_size=1, stride=2)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_convolution(options, dtype):
    torch.manual_seed(0)
    layer = nn.Conv1d(4, 6, **{"kernel_size": 3, "bias": False, **options}, dtype=dtype)
    gradients = []
    x, g = torch.randn(2, 11, 4, dtype=dtype), None
    for run in (lambda x: conv1d(layer, x), lambda x: layer(x.transpose(1, 2)).transpose(1, 2)):
        layer.zero_grad()
        own = x.clone().requires_grad_()
        y = run(own)
        g = torch.randn_like(y) if g is None else g
        y.backward(g)
        gradients.append([y, own.grad, *(p.grad.clone() for p in layer.parameters())])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-10 if dtype == torch.float64 else 1e-5, atol=1e-5)


def test_only_required_gradients_are_computed():
    layer, x = nn.Conv1d(4, 4, 3, padding=1, bias=False), torch.randn(1, 5, 4)
    layer.requires_grad_(False)
    assert not conv1d(layer, x).requires_grad
    x.requires_grad_()
    conv1d(layer, x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None


def test_autocast():
    """Under autocast the gradient has another type than the input."""
    layer, x = nn.Conv1d(4, 4, 3, padding=1, bias=False), torch.randn(1, 5, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv1d(layer, x)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert x.grad is not None and layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("stride", [2, 3])
def test_transposed_convolution(stride):
    layer, x = nn.ConvTranspose1d(4, 6, stride, stride=stride), torch.randn(2, 5, 4)
    torch.testing.assert_close(upsample(layer, x), layer(x.transpose(1, 2)).transpose(1, 2))
