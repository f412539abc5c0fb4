# SPDX-License-Identifier: Apache-2.0
"""From frames to one vector per utterance."""

import torch
from torch import Tensor, nn

from rawnext.models.layers import norm, pointwise
from rawnext.models.masking import time_softmax, zero_tail


class AttentiveStatsPooling(nn.Module):
    """Weighted mean and standard deviation over time, a weight for every channel and frame.

    Args:
        channels: C.   hidden: width of the attention.
    Source: Okabe et al. 2018; layer order (ReLU, then BatchNorm) as in the released RawNeXt code.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.attention = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.ReLU(), nn.BatchNorm1d(hidden),
                                       nn.Conv1d(hidden, channels, 1))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, 2C): means, then deviations."""
        reduce, relu, bn, expand = self.attention
        weight = time_softmax(pointwise(expand, norm(bn, relu(pointwise(reduce, x)))), lengths)  # (B, L, C)
        if lengths is not None:
            x = zero_tail(x, lengths)  # padding may hold anything, and 0 * inf is not 0
        mean = (weight * x).sum(1)
        square = (weight * x.square()).sum(1)
        return torch.cat([mean, (square - mean.square()).clamp(min=1e-5).sqrt()], dim=1)
