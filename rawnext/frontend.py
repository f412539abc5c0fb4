# SPDX-License-Identifier: Apache-2.0
"""What stands between a waveform and a network."""

import torch
from torch import Tensor, nn


class PreEmphasis(nn.Module):
    """First-order high-pass filter `y[t] = x[t + 1] - a x[t]`; the output is one sample shorter.

    Args:
        coefficient: a, between 0 and 1.
    Source: the released RawNeXt code; 59,050 samples of speech give the network's 59,049 = 3^10.
    """

    def __init__(self, coefficient: float = 0.97):
        super().__init__()
        self.coefficient = coefficient

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, T) samples in [-1, 1] -> (B, T - 1), and the lengths that go with it."""
        y = wave[..., 1:] - self.coefficient * wave[..., :-1]
        return y, None if lengths is None else lengths - 1


def tile_short(x: Tensor, lengths: Tensor | None, least: int) -> tuple[Tensor, Tensor | None]:
    """Repeat each utterance that is shorter than `least` samples until it has just so many.

    Args:
        x: (B, T), zero-padded.   lengths: (B,) samples, or None when all have T.
    """
    if lengths is None:
        num = x.shape[-1]
        return (x if num >= least else x.repeat(1, -(-least // num))[:, :least]), None
    if int(lengths.min()) >= least:
        return x, lengths
    total = max(x.shape[-1], least)
    time = torch.arange(total, device=x.device).expand(len(x), total)
    source = torch.where(lengths[:, None] < least, time % lengths[:, None], time.clamp(max=x.shape[-1] - 1))
    return x.gather(1, source), lengths.clamp(min=least)
