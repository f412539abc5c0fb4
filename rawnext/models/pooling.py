# SPDX-License-Identifier: Apache-2.0
"""Pooling over time: from frames to one vector per utterance."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models.layers import norm, pointwise
from rawnext.models.masking import time_mean, time_softmax, zero_tail


class AttentiveStatsPooling(nn.Module):
    """Weighted mean and standard deviation over time, with one weight per channel and frame.

    Args:
        channels: C.   hidden: width of the attention.
        between: layers between the attention's two 1x1 convolutions; by default ReLU, BatchNorm.
        context: the attention sees each utterance's mean and deviation in addition to each frame.
        least, most: limits of the variances.
        deviation: False leaves out the deviations.
    Source: Okabe et al., "Attentive statistics pooling for deep speaker embedding", Interspeech 2018; default layers as
        in the released RawNeXt code. Context: Desplanques et al., "ECAPA-TDNN", Interspeech 2020.
    """

    def __init__(self, channels: int, hidden: int, *between: nn.Module, context: bool = False, least: float = 1e-5,
                 most: float | None = None, deviation: bool = True):
        super().__init__()
        self.context, self.least, self.most, self.deviation = context, least, most, deviation
        self.attention = nn.Sequential(nn.Conv1d(3 * channels if context else channels, hidden, 1),
                                       *(between or (nn.ReLU(), nn.BatchNorm1d(hidden))),
                                       nn.Conv1d(hidden, channels, 1))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, 2C): means, then deviations; without deviations (B, C)."""
        x = zero_tail(x, lengths)  # padding may hold anything, and 0 * inf is not 0
        reduce, *between, expand = self.attention
        h = self.reduce_with_context(x, lengths) if self.context else pointwise(reduce, x)
        for layer in between:  # all of them but BatchNorm are elementwise, so that `norm` suits every one
            h = norm(layer, h)
        weight = time_softmax(pointwise(expand, h), lengths)  # (B, L, C)
        return weighted_stats(x, weight, self.deviation, self.least, self.most)

    def reduce_with_context(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The first 1x1 over (frame, mean, deviation); the product with the last two is shared by all frames."""
        reduce = self.attention[0]
        assert isinstance(reduce, nn.Conv1d)
        frame_weight, context_weight = reduce.weight.squeeze(-1).split((x.shape[-1], 2 * x.shape[-1]), dim=1)
        mean = time_mean(x, lengths)
        num = x.shape[1] if lengths is None else lengths[:, None]
        variance = zero_tail((x - mean.unsqueeze(1)).square(), lengths).sum(1) / (num - 1)
        context = torch.cat([mean, variance.clamp(self.least, self.most).sqrt()], dim=1)
        return F.linear(x, frame_weight, reduce.bias) + F.linear(context, context_weight).unsqueeze(1)


class SelfAttentivePooling(nn.Module):
    """Weighted mean (and standard deviation) over time, with one weight per frame: softmax of v . tanh(W x + b).

    Args:
        channels: C.   deviation: append the deviations to the means.
    Source: Cai, Chen, Li, "Exploring the encoding layer and loss function in end-to-end speaker and language
        recognition system", Odyssey 2018.
    """

    def __init__(self, channels: int, deviation: bool = False):
        super().__init__()
        self.sap_linear = nn.Linear(channels, channels)
        self.attention = nn.Parameter(torch.empty(channels, 1))
        nn.init.xavier_normal_(self.attention)
        self.deviation = deviation

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, C), with deviations (B, 2C)."""
        x = zero_tail(x, lengths)
        weight = time_softmax(self.sap_linear(x).tanh() @ self.attention, lengths)  # (B, L, 1)
        return weighted_stats(x, weight, self.deviation)


class MeanPooling(nn.Module):
    """Mean over time."""

    deviation = False

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, C)."""
        return time_mean(x, lengths)


def weighted_stats(x: Tensor, weight: Tensor, deviation: bool = True, least: float = 1e-5,
                   most: float | None = None) -> Tensor:
    """Means of x (B, L, C) with weights over time (B, L, C or 1), then, if asked for, deviations: (B, C or 2C)."""
    mean = (weight * x).sum(1)
    if not deviation:
        return mean
    square = (weight * x.square()).sum(1)
    return torch.cat([mean, (square - mean.square()).clamp(least, most).sqrt()], dim=1)
