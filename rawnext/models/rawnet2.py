# SPDX-License-Identifier: Apache-2.0
"""RawNet2 in the form that RawNeXt was compared with: residual blocks with feature map scaling, attentive pooling.

Source: Jung, Kim, Shim, Kim, Yu, "Improved RawNet with feature map scaling for text-independent speaker verification
using raw waveforms", Interspeech 2020, in the form of the refactored code that its authors released later ("modified":
no sinc filters, no GRU, attentive statistics instead).
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.features import pre_emphasis
from rawnext.models.layers import conv1d, norm, pointwise
from rawnext.models.masking import max_pool, time_mean, zero_tail
from rawnext.models.pooling import AttentiveStatsPooling

SLOPE = 0.3  # of the leaky ReLU; the attention's is torch's default, 0.01


class Scaling(nn.Module):
    """Feature map scaling (x + alpha) s: alpha is learned per channel, s in 0...1 depends on the mean over time."""

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return (x + self.alpha.squeeze(-1)) * torch.sigmoid(self.fc(time_mean(x, lengths))).unsqueeze(1)


class ScaledBlock(nn.Module):
    """Pre-activated residual block of two kernel-3 convolutions, then a max-pool if `pool`, then scaling."""

    then_norm: ClassVar = {"conv1": "bn2"}

    def __init__(self, inputs: int, outputs: int, pool: bool):
        super().__init__()
        self.pool = pool
        self.bn1 = nn.BatchNorm1d(inputs)
        self.conv1 = nn.Conv1d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm1d(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Conv1d(inputs, outputs, 1, bias=False) if inputs != outputs else None
        self.afms = Scaling(outputs)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, L, I) -> (B, L or L // 3, O) and its lengths."""
        y = F.leaky_relu(norm(self.bn1, x), SLOPE)
        skip = x if self.shortcut is None else pointwise(self.shortcut, y)
        y = F.leaky_relu(norm(self.bn2, conv1d(self.conv1, zero_tail(y, lengths))), SLOPE)
        y = conv1d(self.conv2, zero_tail(y, lengths)) + skip
        if self.pool:
            y, lengths = max_pool(y, lengths, 3)
        return self.afms(y, lengths), lengths


@MODELS.register("rawnet2")
class RawNet2(SpeakerModel):
    """Raw waveform of any length -> speaker embedding.

    Args:
        channels, blocks: widths and numbers of blocks of the six layers, each of which ends in a max-pool.
    Raises: ValueError: not six layers of one block or more.
    """

    least_samples = 3**7  # shorter signals leave no frame after the last max-pool

    def __init__(self, channels: Sequence[int] = (128, 128, 256, 256, 512, 512),
                 blocks: Sequence[int] = (1, 1, 1, 2, 1, 2), embedding_dim: int = 512):
        super().__init__()
        if len(channels) != 6 or len(blocks) != 6 or min(blocks) < 1:
            raise ValueError("rawnet2 needs 6 channels and 6 numbers of blocks, 1 or more each, got "
                             f"{list(channels)}, {list(blocks)}")
        self.embedding_dim = embedding_dim
        self.conv1 = nn.Conv1d(1, channels[0], 3, stride=3)
        inputs = channels[0]
        for i, (outputs, num) in enumerate(zip(channels, blocks), 1):
            setattr(self, f"layer{i}", nn.ModuleList(ScaledBlock(outputs if b else inputs, outputs, b == num - 1)
                                                     for b in range(num)))
            inputs = outputs
        self.bn_before_agg = nn.BatchNorm1d(inputs)
        self.pooling = AttentiveStatsPooling(inputs, 128, nn.LeakyReLU(), nn.BatchNorm1d(128))
        self.fc = nn.Linear(2 * inputs, embedding_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="leaky_relu")

    def preprocess(self, wave: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return pre_emphasis(wave, lengths)

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = conv1d(self.conv1, x.unsqueeze(-1))  # (B, T / 3, C)
        lengths = None if lengths is None else lengths // 3
        for i in range(1, 7):
            for block in self.get_submodule(f"layer{i}").children():
                x, lengths = block(x, lengths)
        return self.fc(self.pooling(F.leaky_relu(norm(self.bn_before_agg, x), SLOPE), lengths))
