# SPDX-License-Identifier: Apache-2.0
"""torch's one-dimensional layers applied to channels-last maps (B, L, C).

The modules are torch's own, so that state dicts, initialisation and SyncBatchNorm work as usual.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """1x1 convolution: (B, L, I) -> (B, L, O)."""
    assert isinstance(layer, nn.Conv1d)
    return F.linear(x, layer.weight.squeeze(-1), layer.bias)


def conv1d(layer: nn.Module, x: Tensor) -> Tensor:
    """Convolution over frames with the layer's kernel, stride, padding, dilation, groups: (B, L, I) -> (B, L', O)."""
    assert isinstance(layer, nn.Conv1d) and isinstance(layer.padding, tuple)
    options = (layer.stride[0], layer.padding[0], layer.dilation[0], layer.groups)
    if layer.kernel_size == (1,) and layer.padding == (0,) and layer.stride != (1,):
        x, options = x[:, :: layer.stride[0]], (1, *options[1:])  # see MaskedConv2d in resnet34.py
    dense3 = options == (1, 1, 1, 1) and layer.kernel_size == (3,) and layer.bias is None
    if dense3 and x.device.type == "cpu" and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
        return _DenseConv3.apply(x, layer.weight)
    return channels_last_conv1d(x, layer.weight, layer.bias, *options)


def channels_last_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 1,
                         dilation: int = 1, groups: int = 1) -> Tensor:
    """F.conv1d over channels-last maps: (B, L, I) and (O, I / groups, K) -> (B, L', O)."""
    # (B, I, 1, L) with the strides of (B, L, I) is torch's channels_last memory format: nothing is copied
    x = x.transpose(1, 2).unsqueeze(2)
    y = F.conv2d(x, weight.unsqueeze(2), bias, (1, stride), (0, padding), (1, dilation), groups)
    return y.squeeze(2).transpose(1, 2)


class _DenseConv3(torch.autograd.Function):
    """Ungrouped kernel-3 convolution, gradient by matrix products: torch's takes three times as long on a CPU."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return channels_last_conv1d(x, weight)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        grad_x = channels_last_conv1d(grad, weight.transpose(0, 1).flip(2)) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return grad_x, None
        g, frames = grad.flatten(0, 1), x.flatten(0, 1)  # all utterances as one sequence
        # the subtracted terms pair the last frame of one utterance with the first of the next
        previous = g[1:].t() @ frames[:-1] - grad[1:, 0].t() @ x[:-1, -1]  # (O, I)
        following = g[:-1].t() @ frames[1:] - grad[:-1, -1].t() @ x[1:, 0]
        return grad_x, torch.stack([previous, g.t() @ frames, following], dim=-1)


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    """BatchNorm over all frames of a batch: (B, L, C) -> (B, L, C)."""
    return layer(x.flatten(0, 1)).view_as(x)


def norm_relu(layer: nn.Module, x: Tensor) -> Tensor:
    """ReLU after `norm`, in place under no_grad: (B, L, C) -> (B, L, C). x must not be used afterwards."""
    return F.relu(norm(layer, x), inplace=not torch.is_grad_enabled())


def upsample(layer: nn.ConvTranspose1d, x: Tensor) -> Tensor:
    """Transposed convolution with kernel and stride K: (B, L, I) -> (B, K L, O)."""
    weight = layer.weight.permute(2, 1, 0).flatten(0, 1)  # (K O, I), by tap
    assert layer.bias is not None
    return F.linear(x, weight, layer.bias.repeat(layer.weight.shape[2])).reshape(x.shape[0], -1, layer.out_channels)
