# SPDX-License-Identifier: Apache-2.0
"""ResNet34 over log mel maps: four variants that differ in stem, block and pooling.

Sources: He et al., "Deep residual learning for image recognition", CVPR 2016. The variants are those of the code
released with DTDY-ResNet34, of voxceleb_trainer (Chung et al., "In defence of metric learning for speaker recognition",
Interspeech 2020; Heo et al., "Clova baseline system for the VoxCeleb Speaker Recognition Challenge 2020"), and of
torchvision.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.features import LogMel
from rawnext.models.masking import ceil_lengths, time_mean, zero_tail_2d
from rawnext.models.pooling import AttentiveStatsPooling, MeanPooling, SelfAttentivePooling

Pooling = AttentiveStatsPooling | SelfAttentivePooling | MeanPooling


class MaskedConv2d(nn.Conv2d):
    """Convolution over maps (B, C, F, L) that zeroes the values after each utterance's end first.

    The padding keeps the size; a stride s divides it by s, rounded up.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int | tuple[int, int], bias: bool = False,
                 groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=bias, groups=groups)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = zero_tail_2d(x, lengths)
        if self.kernel_size == (1, 1):
            # The stride of a 1x1 convolution selects values. Left to torch 2.13, its gradient overwrites memory on a
            # CPU with AVX-512 if there are fewer than 16 channels.
            return F.conv2d(x[..., :: self.stride[0], :: self.stride[1]], self.weight, self.bias, groups=self.groups)
        return super().forward(x)


def plain_conv(inputs: int, outputs: int, kernel: int, stride: int, height: int) -> MaskedConv2d:
    """The convolution of a plain block, which does not depend on the map's height."""
    return MaskedConv2d(inputs, outputs, kernel, stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a skip.

    Args:
        stride: of the first convolution and the skip, along bands and frames.   height: bands of the input map.
        project: a 1x1 convolution and BatchNorm on the skip, needed if the shape changes.
        conv: (inputs, outputs, kernel, stride, height) -> a convolution called with (map, lengths).
    """

    then_norm: ClassVar = {"conv1": "bn1", "conv2": "bn2", "downsample.0": "downsample.1"}

    def __init__(self, inputs: int, outputs: int, stride: int, height: int, project: bool,
                 conv: Callable[[int, int, int, int, int], nn.Module] = plain_conv):
        super().__init__()
        self.stride = stride
        self.conv1 = conv(inputs, outputs, 3, stride, height)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv(outputs, outputs, 3, 1, -(-height // stride))
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.ModuleList()
        if project:
            self.downsample.extend([conv(inputs, outputs, 1, stride, height), nn.BatchNorm2d(outputs)])

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return F.relu(self.body(x, lengths) + self.skip(x, lengths))

    def body(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x, lengths)))
        return self.bn2(self.conv2(x, ceil_lengths(lengths, self.stride)))

    def skip(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if not len(self.downsample):
            return x
        conv, bn = self.downsample
        return bn(conv(x, lengths))


class SEBlock(BasicBlock):
    """voxceleb_trainer's block: ReLU before the first BatchNorm, and squeeze-and-excitation of the residual.

    Raises: ValueError: outputs below 8, the reduction.
    Source: Hu et al., "Squeeze-and-excitation networks", CVPR 2018.
    """

    then_norm: ClassVar = {"conv2": "bn2", "downsample.0": "downsample.1"}

    def __init__(self, inputs: int, outputs: int, stride: int, height: int, project: bool):
        super().__init__(inputs, outputs, stride, height, project)
        if outputs < 8:
            raise ValueError(f"squeeze-and-excitation needs widths from 8, got {outputs}")
        self.se = nn.Sequential(nn.Linear(outputs, outputs // 8), nn.ReLU(), nn.Linear(outputs // 8, outputs),
                                nn.Sigmoid())

    def body(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x, lengths = self.bn1(F.relu(self.conv1(x, lengths))), ceil_lengths(lengths, self.stride)
        x = self.bn2(self.conv2(x, lengths))
        return x * self.se(time_mean(band_mean(x), lengths))[..., None, None]


class Stage(nn.ModuleList):
    """Blocks in sequence: maps and their lengths -> maps."""

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        for block in self:
            assert isinstance(block.stride, int)
            x, lengths = block(x, lengths), ceil_lengths(lengths, block.stride)
        return x


def band_mean(x: Tensor) -> Tensor:
    """Mean over bands: (B, C, F, L) -> (B, L, C)."""
    return x.mean(2).transpose(1, 2)


class ResNet(SpeakerModel):
    """Log mel map, stem, four stages of blocks, pooling over time, one linear layer.

    Args:
        features: the front end.   conv1: the stem's convolution.   widths, blocks, strides: of the four stages.
        block: (inputs, outputs, stride, height, project) -> a block.   pooling: width of a frame -> a pooling.
        flat: pool over all bands of all channels; else over the channels' means over bands.
        relu_first: the stem applies ReLU, then BatchNorm; else BatchNorm, then ReLU.
        max_pool: the stem ends with a 3x3 max-pool with stride 2.
    Raises: ValueError: not four stages.
    """

    feature_map = "layer4"

    def __init__(self, features: LogMel, conv1: MaskedConv2d, block: Callable[[int, int, int, int, bool], nn.Module],
                 widths: Sequence[int], blocks: Sequence[int], strides: Sequence[int],
                 pooling: Callable[[int], Pooling], embedding_dim: int, flat: bool = True, relu_first: bool = False,
                 max_pool: bool = False):
        super().__init__()
        if len(widths) != 4 or len(blocks) != 4 or min(*widths, *blocks) < 1:
            raise ValueError(f"a ResNet needs four widths and four numbers of blocks, got {widths} and {blocks}")
        self.embedding_dim, self.strides = embedding_dim, tuple(strides)
        self.flat, self.relu_first, self.max_pool = flat, relu_first, max_pool
        self.features, self.conv1, self.bn1 = features, conv1, nn.BatchNorm2d(conv1.out_channels)
        width, height = conv1.out_channels, -(-features.bands // (conv1.stride[0] * (2 if max_pool else 1)))
        for i in range(4):
            stage = Stage()
            for b in range(blocks[i]):
                stride = 1 if b else strides[i]
                stage.append(block(width, widths[i], stride, height, i > 0 and b == 0))
                width, height = widths[i], -(-height // stride)
            setattr(self, f"layer{i + 1}", stage)
        width = width * height if flat else width
        self.pooling = pooling(width)
        self.fc = nn.Linear(2 * width if self.pooling.deviation else width, embedding_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x, lengths = self.features(x, lengths)
        x, lengths = self.stem(x.transpose(1, 2).unsqueeze(1), lengths)
        for i, stride in enumerate(self.strides):
            x, lengths = self.get_submodule(f"layer{i + 1}")(x, lengths), ceil_lengths(lengths, stride)
        return self.fc(self.pooling(x.flatten(1, 2).transpose(1, 2) if self.flat else band_mean(x), lengths))

    def stem(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        # channels last from here on: training steps took a tenth less time on a CPU (ConvMixer's half as much)
        x = self.conv1(x, lengths).contiguous(memory_format=torch.channels_last)
        lengths = ceil_lengths(lengths, self.conv1.stride[1])
        x = self.bn1(F.relu(x)) if self.relu_first else F.relu(self.bn1(x))
        if self.max_pool:  # x is 0 or more: zeros after the end have the effect of torch's padding with -inf
            x, lengths = F.max_pool2d(zero_tail_2d(x, lengths), 3, 2, 1), ceil_lengths(lengths, 2)
        return x, lengths


def attentive_pooling(kind: str, width: int) -> Pooling:
    """Pooling of the plain and the DTDY ResNet34: avg, sap (weighted mean) or asp (weighted mean and deviation).

    Raises: ValueError: another kind.
    """
    if kind == "avg":
        return MeanPooling()
    if kind not in ("sap", "asp"):
        raise ValueError(f"pooling: avg, sap or asp, got {kind!r}")
    return AttentiveStatsPooling(width, 128, nn.BatchNorm1d(128), nn.ReLU(), deviation=kind == "asp")


@MODELS.register("resnet34")
def resnet34(widths: Sequence[int] = (32, 64, 128, 256), blocks: Sequence[int] = (3, 4, 6, 3), pooling: str = "avg",
             bands: int = 64, embedding_dim: int = 512) -> ResNet:
    """The plain network that DTDY-ResNet34 was published with as its baseline.

    Args:
        widths: channels of the stages; (16, 32, 64, 128) is x0.25.   blocks: 2-2-2-2 in the released x0.25 files.
        pooling: avg, sap or asp.
    """
    return ResNet(LogMel(bands, norm="variance"), MaskedConv2d(1, widths[0], 7, (2, 1)), BasicBlock, widths, blocks,
                  (1, 2, 2, 1), partial(attentive_pooling, pooling), embedding_dim, relu_first=True)


@MODELS.register("thin_resnet34_se")
def thin_resnet34_se(widths: Sequence[int] = (16, 32, 64, 128), blocks: Sequence[int] = (3, 4, 6, 3),
                     deviation: bool = False, bands: int = 40, embedding_dim: int = 512) -> ResNet:
    """voxceleb_trainer's Fast ResNet-34.

    Args:
        deviation: pooling appends deviations to the means (the code's ASP; without them, its SAP).
    """
    return ResNet(LogMel(bands, norm="variance"), MaskedConv2d(1, widths[0], 7, (2, 1)), SEBlock, widths, blocks,
                  (1, 2, 2, 1), partial(SelfAttentivePooling, deviation=deviation), embedding_dim, flat=False)


@MODELS.register("resnet34_se")
def resnet34_se(widths: Sequence[int] = (32, 64, 128, 256), blocks: Sequence[int] = (3, 4, 6, 3),
                deviation: bool = True, bands: int = 64, embedding_dim: int = 512) -> ResNet:
    """voxceleb_trainer's larger network, "H" in Heo et al.: full resolution in the stem, attention over all bands.

    Args:
        deviation: pooling appends deviations to the means (the code's ASP; without them, its SAP).
    """
    return ResNet(LogMel(bands, pre_emphasis=0.97, norm="variance"), MaskedConv2d(1, widths[0], 3, 1, bias=True),
                  SEBlock, widths, blocks, (1, 2, 2, 2),
                  partial(AttentiveStatsPooling, hidden=128, deviation=deviation), embedding_dim, relu_first=True)


@MODELS.register("resnet34_image")
def resnet34_image(widths: Sequence[int] = (64, 128, 256, 512), blocks: Sequence[int] = (3, 4, 6, 3),
                   bands: int = 64, embedding_dim: int = 512) -> ResNet:
    """torchvision's network for images, with one input channel and an embedding in place of the classes."""
    return ResNet(LogMel(bands, norm="variance"), MaskedConv2d(1, widths[0], 7, 2), BasicBlock, widths, blocks,
                  (1, 2, 2, 2), lambda width: MeanPooling(), embedding_dim, flat=False, max_pool=True)
