# SPDX-License-Identifier: Apache-2.0
"""ECAPA-TDNN: log mel energies, three Res2 blocks with squeeze-and-excitation, attention with global context.

Source: Desplanques, Thienpondt, Demuynck, "ECAPA-TDNN: emphasized channel attention, propagation and aggregation in
TDNN based speaker verification", Interspeech 2020. Details that the paper leaves open, and parameter counts, follow the
widely used public code (TaoRuijie/ECAPA-TDNN). docs/reference/systems/ecapa_tdnn.md lists the differences.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.features import LogMel, SpecAugment
from rawnext.models.layers import conv1d, norm, pointwise
from rawnext.models.masking import time_mean, zero_tail
from rawnext.models.pooling import AttentiveStatsPooling


class SqueezeExcitation(nn.Sequential):
    """Scales each channel by a factor in 0...1, computed from all channels' means over time."""

    def __init__(self, channels: int, bottleneck: int):
        super().__init__(nn.Conv1d(channels, bottleneck, 1), nn.ReLU(), nn.Conv1d(bottleneck, channels, 1),
                         nn.Sigmoid())

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return x * super().forward(time_mean(x, lengths).unsqueeze(-1)).transpose(1, 2)


class Res2(nn.Module):
    """1x1, dilated kernel-3 convolutions over groups of channels, 1x1; ReLU and BatchNorm after each.

    Of the `scale` groups, group i is convolved after the output of group i - 1 is added; the last passes unchanged.
    Raises: ValueError: scale does not divide channels.
    Source: Gao et al., "Res2Net", 2019.
    """

    def __init__(self, inputs: int, channels: int, dilation: int, scale: int):
        super().__init__()
        if scale < 2 or channels % scale:
            raise ValueError(f"scale must be 2 or more and divide the {channels} channels, got {scale}")
        width = channels // scale
        self.conv1, self.bn1 = nn.Conv1d(inputs, channels, 1), nn.BatchNorm1d(channels)
        self.convs = nn.ModuleList(nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
                                   for _ in range(scale - 1))
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(scale - 1))
        self.conv3, self.bn3 = nn.Conv1d(channels, channels, 1), nn.BatchNorm1d(channels)

    def residual(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, L, inputs) -> (B, L, channels)."""
        *groups, last = norm(self.bn1, F.relu(pointwise(self.conv1, x))).chunk(len(self.convs) + 1, dim=-1)
        outputs: list[Tensor] = []
        for group, conv, bn in zip(groups, self.convs, self.bns):
            y = group + outputs[-1] if outputs else group
            outputs.append(norm(bn, F.relu(conv1d(conv, zero_tail(y, lengths)))))
        return norm(self.bn3, F.relu(pointwise(self.conv3, torch.cat([*outputs, last], dim=-1))))


class Res2Block(Res2):
    """x plus squeeze-and-excitation of the `residual`."""

    def __init__(self, channels: int, dilation: int, scale: int, bottleneck: int):
        super().__init__(channels, channels, dilation, scale)
        self.se = SqueezeExcitation(channels, bottleneck)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, L, channels) -> (B, L, channels)."""
        return x + self.se(self.residual(x, lengths), lengths)


@MODELS.register("ecapa_tdnn")
class EcapaTdnn(SpeakerModel):
    """Waveform of any length -> log mel energies -> speaker embedding.

    Args:
        channels: C; 512 and 1024 are published.   fused: width after the fusion of the three blocks' outputs.
        scale: groups of channels in a block; divides channels.   bottleneck: width of the squeeze.
        attention: width of the pooling's attention.   freq_mask, time_mask: see SpecAugment.
    Raises: ValueError: scale does not divide channels.
    """

    def __init__(self, channels: int = 1024, fused: int = 1536, embedding_dim: int = 192, scale: int = 8,
                 bottleneck: int = 128, attention: int = 256, bands: int = 80, freq_mask: int = 10, time_mask: int = 8):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.features = LogMel(bands, 20, 7600, pre_emphasis=0.97)
        self.spec_augment = SpecAugment(freq_mask, time_mask)
        self.conv1, self.bn1 = nn.Conv1d(bands, channels, 5, padding=2), nn.BatchNorm1d(channels)
        self.layer1, self.layer2, self.layer3 = (Res2Block(channels, d, scale, bottleneck) for d in (2, 3, 4))
        self.layer4 = nn.Conv1d(3 * channels, fused, 1)
        self.pooling = AttentiveStatsPooling(fused, attention, nn.ReLU(), nn.BatchNorm1d(attention), nn.Tanh(),
                                             context=True, least=1e-4)
        self.bn5 = nn.BatchNorm1d(2 * fused)
        self.fc6 = nn.Linear(2 * fused, embedding_dim)
        self.bn6 = nn.BatchNorm1d(embedding_dim)

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x, lengths = self.features(x, lengths)
        x = norm(self.bn1, F.relu(conv1d(self.conv1, self.spec_augment(x))))  # LogMel has zeroed the padding
        x1 = self.layer1(x, lengths)
        x2 = self.layer2(x + x1, lengths)
        x3 = self.layer3(x + x1 + x2, lengths)
        x = F.relu(pointwise(self.layer4, torch.cat([x1, x2, x3], dim=-1)))
        return self.bn6(self.fc6(self.bn5(self.pooling(x, lengths))))
