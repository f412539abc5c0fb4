# SPDX-License-Identifier: Apache-2.0
"""DTDY-ResNet34: a ResNet34 whose convolutions change with time.

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
from rawnext.models.layers import conv3, pointwise
from rawnext.models.masking import zero_frames, zero_tail
from rawnext.models.resnet34 import BasicBlock, Conv, ResNet, attentive_pooling, band_mean, shrink


class Phi(nn.Module):
    """A matrix for every frame, from the map's means over bands and over channels.

    Args:
        inputs, height: C and F of the map.   size: L of the matrices.   kernel, stride: of the convolution they serve.
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
        """Maps (B, C, F, T), zero behind each end, and the lengths behind the stride -> (B, T', L, L)."""
        h = conv3(self.fc1, torch.cat([band_mean(x), x.mean(1).transpose(1, 2)], dim=-1))
        h = zero_tail(h * hard_gate(pointwise(self.gate, h)), lengths)
        return hard_gate(conv3(self.fc2, h)).unflatten(-1, (self.size, self.size))


def hard_gate(x: Tensor) -> Tensor:
    """A sigmoid of straight lines from 0 (x = -3) to 2 (x = 3)."""
    return F.relu6(x + 3) / 3


class DTDYConv(nn.Module):
    """y = W x + P (BN(Phi(t) BN(Q x)) + BN(Q x)): a fixed convolution, and one through L channels mixed frame by frame.

    Args:
        height: F of the input map.   The others are those of a convolution.
    Source: as above, with the two BatchNorms and the identity that the released code has and the formula has not.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, height: int):
        super().__init__()
        size = math.isqrt(2 * inputs + 2 * outputs)
        self.stride = stride
        self.conv = Conv(inputs, outputs, kernel, stride)
        self.q = Conv(inputs, size, kernel, stride)
        self.p = Conv(size, outputs, 1, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(size), nn.BatchNorm2d(size)
        self.fc_phi = Phi(inputs, height, size, kernel, stride)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, C, F, T) -> (B, C', F', T')."""
        x = zero_frames(x, lengths)
        q = self.bn1(self.q(x))
        phi = self.fc_phi(x, shrink(lengths, self.stride))
        mixed = (q.permute(0, 3, 2, 1) @ phi.transpose(2, 3)).permute(0, 3, 2, 1)  # mixed[., f, t] = Phi[t] q[., f, t]
        return self.conv(x) + self.p(self.bn2(mixed.contiguous(memory_format=torch.channels_last)) + q)


@MODELS.register("dtdy_resnet34")
def dtdy_resnet34(widths: Sequence[int] = (32, 64, 128, 256), blocks: Sequence[int] = (3, 4, 6, 3),
                  pooling: str = "avg", bands: int = 64, embedding_dim: int = 512) -> ResNet:
    """`resnet34` with DTDYConv in every block, skips included, and a stem of BatchNorm, then ReLU.

    Args:
        widths: channels of the stages; (16, 32, 64, 128) is x0.25.   blocks: 2-2-2-2 in the released x0.25 files.
        pooling: avg, sap or asp.
    """
    return ResNet(LogMel(bands, norm="variance"), Conv(1, widths[0], 7, (2, 1)), partial(BasicBlock, conv=DTDYConv),
                  widths, blocks, (1, 2, 2, 1), partial(attentive_pooling, pooling), embedding_dim)
