# SPDX-License-Identifier: Apache-2.0
"""torch's one-dimensional layers over channels-last maps (B, L, C).

The modules are torch's own, so that state dicts, initialisation and SyncBatchNorm are as everyone knows them.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """1x1 convolution: (B, L, I) -> (B, L, O)."""
    assert isinstance(layer, nn.Conv1d)
    return F.linear(x, layer.weight.squeeze(-1), layer.bias)


def conv3(layer: nn.Module, x: Tensor) -> Tensor:
    """Convolution over frames, with the layer's stride, padding, dilation and groups: (B, L, I) -> (B, L', O)."""
    assert isinstance(layer, nn.Conv1d) and isinstance(layer.padding, tuple)
    # (B, I, 1, L) with the strides of (B, L, I) is what convolutions know as channels_last: nothing is copied
    x = x.transpose(1, 2).unsqueeze(2)
    y = F.conv2d(x, layer.weight.unsqueeze(2), layer.bias, (1, layer.stride[0]), (0, layer.padding[0]),
                 (1, layer.dilation[0]), layer.groups)
    return y.squeeze(2).transpose(1, 2)


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    """BatchNorm over all frames of a batch: (B, L, C) -> (B, L, C)."""
    return layer(x.flatten(0, 1)).view_as(x)


def norm_relu(layer: nn.Module, x: Tensor) -> Tensor:
    """ReLU behind `norm`; without a second map where nothing will ask for the gradient: (B, L, C) -> (B, L, C).

    x must be a map of nobody else's, as what a layer has just made.
    """
    x = norm(layer, x)
    return F.relu(x, inplace=x.is_inference())


def triple(layer: nn.ConvTranspose1d, x: Tensor) -> Tensor:
    """Transposed convolution of kernel and stride 3, by which each frame becomes three: (B, L, I) -> (B, 3 L, O)."""
    weight = layer.weight.permute(2, 1, 0).flatten(0, 1)  # (3 O, I): tap by tap
    assert layer.bias is not None
    return F.linear(x, weight, layer.bias.repeat(3)).reshape(x.shape[0], -1, layer.out_channels)
