# SPDX-License-Identifier: Apache-2.0
"""ConvMixer over log mel maps.

Source: Trockman, Kolter, "Patches are all you need?", 2022. The default sizes for log mel maps are ours.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.features import LogMel
from rawnext.models.masking import time_mean
from rawnext.models.resnet34 import MaskedConv2d, Stage, band_mean


class Mixer(nn.Module):
    """x + BN(GELU(depthwise convolution)), then BN(GELU(1x1))."""

    stride = 1

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.depthwise = MaskedConv2d(channels, channels, kernel, 1, bias=True, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = x + self.bn1(F.gelu(self.depthwise(x, lengths)))
        return self.bn2(F.gelu(self.pointwise(x)))


@MODELS.register("convmixer")
class ConvMixer(SpeakerModel):
    """Patch embedding of the log mel map, mixers, global mean, one linear layer.

    Args:
        channels: of all maps.   depth: number of mixers.   kernel: size of the depthwise convolutions, odd.
        patch: bands and frames of one patch; bands and frames left over are dropped.
    Raises: ValueError: an even kernel, or a patch larger than the shortest map.
    """

    feature_map = "mixers"

    def __init__(self, channels: int = 256, depth: int = 8, kernel: int = 9, patch: Sequence[int] = (8, 4),
                 bands: int = 80, embedding_dim: int = 512):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"convmixer's kernel must be odd, got {kernel}")
        if not (len(patch) == 2 and 1 <= patch[0] <= bands and 1 <= patch[1] <= 11):
            raise ValueError(f"convmixer's patch must be 1...{bands} bands and 1...11 frames, got {list(patch)}")
        self.embedding_dim, self.patch = embedding_dim, (patch[0], patch[1])
        self.features = LogMel(bands, norm="variance")
        self.conv1 = nn.Conv2d(1, channels, self.patch, self.patch)
        self.bn1 = nn.BatchNorm2d(channels)
        self.mixers = Stage(Mixer(channels, kernel) for _ in range(depth))
        self.fc = nn.Linear(channels, embedding_dim)

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x, lengths = self.features(x, lengths)
        x = self.conv1(x.transpose(1, 2).unsqueeze(1)).contiguous(memory_format=torch.channels_last)
        x = self.bn1(F.gelu(x))
        lengths = None if lengths is None else lengths // self.patch[1]
        return self.fc(time_mean(band_mean(self.mixers(x, lengths)), lengths))
