# SPDX-License-Identifier: Apache-2.0
"""MR-RawNet: sinc filters at four resolutions, temporal convolutions, and blocks that weight three resolutions.

Source: Kim, Lim, Heo, Kim, Shin, Koo, Yu, "MR-RawNet: speaker verification system with multiple temporal resolutions
for variable duration utterances using raw waveforms", Interspeech 2024, and the code released with it. That code
accepts one length in sixteen, this one any. docs/reference/systems/rawnet.md lists the differences.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.block import Gate
from rawnext.models.layers import conv1d, norm, pointwise, upsample
from rawnext.models.masking import (
    ceil_lengths,
    max_pool_ceil,
    mean_pool,
    mean_pool_ceil,
    tail_mask,
    time_mean,
    zero_tail,
)
from rawnext.models.pooling import AttentiveStatsPooling
from rawnext.models.rawnet3 import ScaledRes2Block, SincBank, WaveNorm

# which frames are an utterance's own, 1 or 0 (B, L, 1), and their number (B, 1, 1). Computed once for the 12 temporal
# blocks of a branch, which shortens the traced graph by a third; the branch's maps are finite in the padding too
Inside = tuple[Tensor, Tensor]


class GlobalNorm(nn.Module):
    """Mean 0, variance 1 over all channels and frames of an utterance, then a gain and an offset for each channel.

    Source: Luo, Mesgarani, "Conv-TasNet", 2019, section II-E.
    """

    eps = 1e-8

    def __init__(self, channels: int):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(1, channels, 1)), nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Tensor, inside: Inside | None) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        if inside is None:
            x = F.layer_norm(x, x.shape[1:], eps=self.eps)
        else:
            keep, num = inside[0], inside[1] * self.gamma.numel()
            x = x * keep
            x = (x - x.sum((1, 2), keepdim=True) / num) * keep
            x = x / (x.square().sum((1, 2), keepdim=True) / num + self.eps).sqrt()
        return x * self.gamma.flatten() + self.beta.flatten()


class TemporalBlock(nn.Module):
    """Residual block: 1x1, dilated depthwise convolution, 1x1; PReLU and GlobalNorm after the first two."""

    def __init__(self, channels: int, dilation: int):
        super().__init__()
        hidden = channels * 3 // 4
        self.reduce = nn.Conv1d(channels, hidden, 1, bias=False)
        self.prelu1, self.norm1 = nn.PReLU(), GlobalNorm(hidden)
        self.depthwise = nn.Conv1d(hidden, hidden, 3, padding=dilation, dilation=dilation, groups=hidden, bias=False)
        self.prelu2, self.norm2 = nn.PReLU(), GlobalNorm(hidden)
        self.expand = nn.Conv1d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor, inside: Inside | None) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        y = self.norm1(self.prelu1(pointwise(self.reduce, x)), inside)
        y = y if inside is None else y * inside[0]
        y = self.norm2(self.prelu2(conv1d(self.depthwise, y)), inside)
        return x + pointwise(self.expand, y)


class Branch(nn.Module):
    """One of the four resolutions: sinc filters, three times four temporal blocks, reduction to the common rate.

    Args:
        filters: of the sinc bank; half of it is the branch's width H.
        stride: S, of the sinc bank, in samples.   kernel: of the sinc bank.   reduction: R, frames at this resolution
            that become one.
    """

    def __init__(self, filters: int, kernel: int, stride: int, reduction: int):
        super().__init__()
        width = filters // 2
        self.sinc = SincBank(filters, kernel, stride, padding=kernel // 2)
        self.project = nn.Conv1d(filters, width, 1, bias=False)
        self.tcn = nn.ModuleList(TemporalBlock(width, 2**x) for _ in range(3) for x in range(4))
        self.conv = nn.Conv1d(width, width, 2 * reduction + 1, reduction, reduction)
        self.bn = nn.BatchNorm1d(width)

    def forward(self, wave: Tensor, lengths: Tensor | None,
                finer: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """(B, T), zero after each end, and the pooled map of the next finer branch (B, L, H) or None.

        Returns: the map at the common rate (B, L / R, H), and that at this resolution, max-pooled by 2, with the
            lengths of the former.
        """
        x, lengths = self.sinc(wave, lengths)
        x = pointwise(self.project, x)
        if finer is not None:
            x = x + finer
        inside = None
        if lengths is not None:
            keep = ~tail_mask(x.shape[1], lengths).unsqueeze(-1)
            inside = keep.to(x.dtype), lengths[:, None, None].float()
        for block in self.tcn:
            x = block(x, inside)
        reduced = norm(self.bn, F.relu(conv1d(self.conv, zero_tail(x, lengths))))
        return reduced, max_pool_ceil(x, lengths, 2)[0], ceil_lengths(lengths, self.conv.stride[0])


class MultiResolutionBlock(nn.Module):
    """Res2 blocks at the original, twice and half the resolution, weighted for each channel; residual connection."""

    def __init__(self, channels: int, scale: int):
        super().__init__()
        self.original, self.high, self.low = (ScaledRes2Block(channels, channels, 2, scale) for _ in range(3))
        self.high_transposed = nn.ConvTranspose1d(channels, channels, 2, stride=2)
        self.low_transposed = nn.ConvTranspose1d(channels, channels, 2, stride=2)
        self.gate = Gate(channels, 3, official=True, hidden=channels // 2)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        original, _ = self.original(x, lengths)
        high, _ = self.high(upsample(self.high_transposed, x), None if lengths is None else 2 * lengths)
        low, _ = self.low(*mean_pool_ceil(x, lengths, 2))
        outputs = original, mean_pool(high, 2), upsample(self.low_transposed, low)[:, : x.shape[1]]
        weight = self.gate([time_mean(output, lengths) for output in outputs])  # (B, C, 3)
        return x + torch.stack([weight[:, None, :, i] * output for i, output in enumerate(outputs)]).sum(0)


@MODELS.register("mr_rawnet")
class MRRawNet(SpeakerModel):
    """Raw waveform of any length -> speaker embedding.

    Args:
        filters: of each of the four sinc banks.   stride: of the finest one, in samples; the others have 2, 4 and 8
            times that.
        channels: C of the multi-resolution blocks.   blocks: number of them in each of the three stages.
        fused: width after the fusion of the stages' outputs.   attention: width of the pooling's attention.
        scale: groups of channels in a Res2 block; divides channels.
    Raises: ValueError: scale does not divide channels; not three stages of one or more blocks; odd filters.
    """

    def __init__(self, filters: int = 256, channels: int = 256, fused: int = 1536, attention: int = 256,
                 embedding_dim: int = 256, scale: int = 4, blocks: Sequence[int] = (3, 3, 3), stride: int = 20):
        super().__init__()
        if len(blocks) != 3 or min(blocks) < 1:
            raise ValueError(f"mr_rawnet needs 3 numbers of blocks, 1 or more each, got {list(blocks)}")
        self.embedding_dim = embedding_dim
        self.wave_norm = WaveNorm().requires_grad_(False)  # the released code never trains its gain and offset
        self.branches = nn.ModuleList(Branch(filters, 50 * 2**i + 1, stride * 2**i, 8 // 2**i) for i in range(4))
        self.conv3, self.bn3 = nn.Conv1d(4 * (filters // 2), channels, 5, padding=2), nn.BatchNorm1d(channels)
        self.stages = nn.ModuleList(nn.ModuleList(MultiResolutionBlock(channels, scale) for _ in range(num))
                                    for num in blocks)
        self.layer4 = nn.Conv1d(3 * channels, fused, 1)
        self.pooling = AttentiveStatsPooling(fused, attention, nn.ReLU(), nn.BatchNorm1d(attention), nn.Tanh(),
                                             context=True, least=1e-4, most=1e4)
        self.bn5 = nn.BatchNorm1d(2 * fused)
        self.fc6 = nn.Linear(2 * fused, embedding_dim)
        self.bn6 = nn.BatchNorm1d(embedding_dim)

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        wave, pooled, frames, maps = self.wave_norm(x, lengths), None, None, []
        for branch in self.branches:  # from fine to coarse
            reduced, pooled, frames = branch(wave, lengths, pooled)
            maps.append(reduced)
        x = norm(self.bn3, F.relu(conv1d(self.conv3, zero_tail(torch.cat(maps, dim=-1), frames))))
        x1 = self.stage(0, x, frames)
        x2 = self.stage(1, x1, frames)
        x3 = self.stage(2, x1 + x2, frames)
        x = F.relu(pointwise(self.layer4, torch.cat([x1, x2, x3], dim=-1)))
        return self.bn6(self.fc6(self.bn5(self.pooling(x, frames))))

    def stage(self, i: int, x: Tensor, lengths: Tensor | None) -> Tensor:
        for block in self.get_submodule(f"stages.{i}").children():
            x = block(x, lengths)
        return x
