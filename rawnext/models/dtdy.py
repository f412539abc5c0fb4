# SPDX-License-Identifier: Apache-2.0
"""DTDY-ResNet34: a ResNet34 with time-adaptive convolutions.

Source: Kim, Nam, Park, "Decomposed temporal dynamic CNN: efficient time-adaptive network for text-independent speaker
verification explained with speaker activation map", 2022, and the code released with it.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.features import LogMel
from rawnext.models.layers import conv1d, pointwise
from rawnext.models.masking import ceil_lengths, zero_tail, zero_tail_2d
from rawnext.models.resnet34 import BasicBlock, MaskedConv2d, ResNet, attentive_pooling, band_mean


class Phi(nn.Module):
    """The paper's Phi(t): a matrix for every frame, from the map's means over bands and over channels.

    Args:
        inputs, height: C and F of the map.   size: L of the matrices.   kernel, stride: of the convolution they adapt.
    """

    def __init__(self, inputs: int, height: int, size: int, kernel: int, stride: int):
        super().__init__()
        hidden = size**2 // 8
        self.size = size
        self.fc1 = nn.Conv1d(inputs + height, hidden, kernel, stride, kernel // 2)
        self.gate = nn.Conv1d(hidden, hidden, 1, bias=False)
        self.fc2 = nn.Conv1d(hidden, size**2, 3, padding=1)
        for layer in (self.fc1, self.gate, self.fc2):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Maps (B, C, F, T), zero after each end, and the lengths after the stride -> (B, T', L, L)."""
        h = conv1d(self.fc1, torch.cat([band_mean(x), x.mean(1).transpose(1, 2)], dim=-1))
        h = zero_tail(h * hard_gate(pointwise(self.gate, h)), lengths)
        return hard_gate(conv1d(self.fc2, h)).unflatten(-1, (self.size, self.size))


def hard_gate(x: Tensor) -> Tensor:
    """Piecewise linear: 0 up to x = -3, 2 from x = 3."""
    return F.relu6(x + 3) / 3


class DTDYConv(nn.Module):
    """y = W x + P (BN(Phi(t) BN(Q x)) + BN(Q x)): a static convolution W, and a path of L channels mixed by Phi(t).

    Args:
        height: F of the input map.   The others are those of a convolution.
    Source: as above; the released code has two BatchNorms and the identity in addition to the paper's formula.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, height: int):
        super().__init__()
        size = math.isqrt(2 * inputs + 2 * outputs)
        self.stride = stride
        self.conv = MaskedConv2d(inputs, outputs, kernel, stride)
        self.q = MaskedConv2d(inputs, size, kernel, stride)
        self.p = MaskedConv2d(size, outputs, 1, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(size), nn.BatchNorm2d(size)
        self.fc_phi = Phi(inputs, height, size, kernel, stride)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, C, F, T) -> (B, C', F', T')."""
        x = zero_tail_2d(x, lengths)
        q = self.bn1(self.q(x))
        phi = self.fc_phi(x, ceil_lengths(lengths, self.stride))
        mixed = (q.permute(0, 3, 2, 1) @ phi.transpose(2, 3)).permute(0, 3, 2, 1)  # mixed[., f, t] = Phi[t] q[., f, t]
        return self.conv(x) + self.p(self.bn2(mixed.contiguous(memory_format=torch.channels_last)) + q)


@MODELS.register("dtdy_resnet34")
def dtdy_resnet34(widths: Sequence[int] = (32, 64, 128, 256), blocks: Sequence[int] = (3, 4, 6, 3),
                  pooling: str = "avg", bands: int = 64, embedding_dim: int = 512) -> ResNet:
    """`resnet34` with DTDYConv in every block, skips included; the stem applies BatchNorm, then ReLU.

    Args:
        widths: channels of the stages; (16, 32, 64, 128) is x0.25.   blocks: 2-2-2-2 in the released x0.25 files.
        pooling: avg, sap or asp.
    """
    return ResNet(LogMel(bands, norm="variance"), MaskedConv2d(1, widths[0], 7, (2, 1)),
                  partial(BasicBlock, conv=DTDYConv), widths, blocks, (1, 2, 2, 1), partial(attentive_pooling, pooling),
                  embedding_dim)
