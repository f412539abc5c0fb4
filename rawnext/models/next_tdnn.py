# SPDX-License-Identifier: Apache-2.0
"""NeXt-TDNN and NeXt-TDNN-light: ConvNeXt blocks over log mel energies, with long depthwise filters.

Source: Heo, Shin, Lee, Cheon, Park, "NeXt-TDNN: modernizing multi-scale temporal convolution backbone for speaker
verification", ICASSP 2024, and the code released with it. docs/reference/systems/next_tdnn.md lists where they
differ, and which one this follows.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.features import LogMel, SpecAugment
from rawnext.models.layers import conv1d, pointwise
from rawnext.models.masking import zero_tail
from rawnext.models.pooling import AttentiveStatsPooling


class GRN(nn.Module):
    """Global response normalisation: scales each channel by its norm over time, relative to the channels' mean norm.

    gamma and beta start at 0, so that the layer starts as the identity.
    Source: Woo et al., "ConvNeXt V2", CVPR 2023, section 3.2, over frames in place of pixels.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, channels))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        size = torch.linalg.vector_norm(zero_tail(x, lengths), dim=1, keepdim=True)  # (B, 1, C)
        return x * (1 + self.gamma * size / (size.mean(-1, keepdim=True) + 1e-6)) + self.beta


class Block(nn.Module):
    """A residual layer that mixes frames, then a residual pair of linear layers on each frame."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = GRN(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        x = x + self.mix(x, lengths)
        return x + self.pwconv2(self.grn(F.gelu(self.pwconv1(self.norm(x))), lengths))

    @abstractmethod
    def mix(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Mix frames: (B, L, C) -> (B, L, C)."""


class LightBlock(Block):
    """NeXt-TDNN-light's block: depthwise filters of one length."""

    def __init__(self, channels: int, kernel: int):
        super().__init__(channels)
        self.dwconv = depthwise(channels, kernel)

    def mix(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return conv1d(self.dwconv, zero_tail(x, lengths))


class MultiScaleBlock(Block):
    """NeXt-TDNN's block: 1x1, depthwise filters of several lengths, each over a share of the channels, 1x1."""

    def __init__(self, channels: int, kernels: Sequence[int]):
        super().__init__(channels)
        self.projection_linear = nn.Conv1d(channels, channels, 1)
        self.mscconv = nn.ModuleList(depthwise(channels // len(kernels), kernel) for kernel in kernels)
        self.pwconv_1stage = nn.Linear(channels, channels)

    def mix(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        shares = zero_tail(pointwise(self.projection_linear, x), lengths).chunk(len(self.mscconv), dim=-1)
        x = torch.cat([conv1d(conv, share) for conv, share in zip(self.mscconv, shares)], dim=-1)
        return self.pwconv_1stage(F.gelu(x))


def depthwise(channels: int, kernel: int) -> nn.Conv1d:
    """Depthwise convolution; with an odd kernel it keeps the number of frames."""
    return nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)


@MODELS.register("next_tdnn")
class NeXtTDNN(SpeakerModel):
    """Log mel energies, stem, stages of blocks, fusion of all stages' outputs, attentive statistics -> embedding.

    Args:
        channels: C, the same in all stages.   blocks: number of blocks in each stage.
        kernels: odd lengths, in frames, of the depthwise filters; each has an equal share of the channels.
        light: NeXt-TDNN-light, with filters of the last of these lengths only and without the 1x1 around them.
        freq_mask, time_mask: see SpecAugment; 0: no such mask.
    Raises: ValueError: options that do not go together.
    """

    def __init__(self, channels: int = 256, blocks: Sequence[int] = (3, 3, 3), kernels: Sequence[int] = (7, 65),
                 light: bool = False, embedding_dim: int = 192, freq_mask: int = 8, time_mask: int = 10):
        super().__init__()
        check_options(channels, blocks, kernels, light)
        self.embedding_dim = embedding_dim
        self.features = LogMel(low_hz=20, high_hz=7600, pre_emphasis=0.97)
        self.spec_augment = SpecAugment(freq_mask, time_mask)
        self.stem = nn.Sequential(nn.Conv1d(self.features.bands, channels, 4), nn.LayerNorm(channels, eps=1e-6))
        self.stages = nn.ModuleList(
            nn.ModuleList(LightBlock(channels, kernels[-1]) if light else MultiScaleBlock(channels, kernels)
                          for _ in range(num)) for num in blocks)
        self.stem.apply(init_weights)
        self.stages.apply(init_weights)
        width = len(blocks) * channels
        self.MFA = nn.Sequential(nn.Conv1d(width, width, 1), nn.LayerNorm(width, eps=1e-6))
        self.pooling = AttentiveStatsPooling(width, width // 8, nn.BatchNorm1d(width // 8), nn.Tanh())
        self.bn_agg = nn.BatchNorm1d(2 * width)
        self.fc = nn.Linear(2 * width, embedding_dim)
        self.bn_code = nn.BatchNorm1d(embedding_dim)

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x, lengths = self.features(x, lengths)  # (B, L, bands)
        conv, layer_norm = self.stem
        x, lengths = layer_norm(conv1d(conv, self.spec_augment(x))), None if lengths is None else lengths - 3
        outputs = []  # (B, L - 3, C) each
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                x = block(x, lengths)
            outputs.append(x)
        conv, layer_norm = self.MFA
        x = layer_norm(pointwise(conv, torch.cat(outputs, dim=-1)))
        return self.bn_code(self.fc(self.bn_agg(self.pooling(x, lengths))))


def check_options(channels, blocks, kernels, light) -> None:
    if not blocks or min(blocks) < 1:
        raise ValueError(f"next_tdnn needs one or more stages of one or more blocks, got {list(blocks)}")
    if not kernels or any(kernel % 2 == 0 for kernel in kernels):
        raise ValueError(f"next_tdnn's kernels must be one or more odd numbers, got {list(kernels)}")
    if not light and channels % len(kernels):
        raise ValueError(f"{len(kernels)} kernels cannot share next_tdnn's {channels} channels equally")


def init_weights(module: nn.Module) -> None:
    """The released code's initialisation of stem and stages; later layers keep torch's default."""
    if isinstance(module, nn.Conv1d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
