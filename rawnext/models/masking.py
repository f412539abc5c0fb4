# SPDX-License-Identifier: Apache-2.0
"""Frames that belong to an utterance, and the zeros behind it that fill a batch.

Feature maps are (B, L, C), channels last: there a 1x1 convolution is a matrix product, and frames become three by a
view. `lengths` is (B,) frames at the resolution of the map beside it, or None when every utterance fills the batch.
A network that zeroes the padding before each convolution that looks sideways, and leaves it out of each mean and
softmax over time, gives an utterance in a batch the embedding that it has alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def outside(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, L, 1) bool, true behind each utterance's end in x (B, L, C)."""
    return (torch.arange(x.shape[1], device=x.device) >= lengths[:, None]).unsqueeze(-1)


def zero_tail(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (B, L, C) with zeros behind each utterance's end."""
    if lengths is None:
        return x
    if not x.is_inference() or x.device.type != "cpu":
        return x.masked_fill(outside(x, lengths), 0)
    for row, num in zip(x, lengths.tolist()):  # in place: no gradient needs x, and nobody what is behind its ends
        row[num:] = 0
    return x


def time_mean(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Mean over an utterance's own frames: (B, L, C) -> (B, C)."""
    return x.mean(1) if lengths is None else zero_tail(x, lengths).sum(1) / lengths[:, None]


def time_softmax(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Softmax over an utterance's own frames; zero behind its end. (B, L, C) -> (B, L, C)."""
    return (x if lengths is None else x.masked_fill(outside(x, lengths), float("-inf"))).softmax(dim=1)


def threes(x: Tensor) -> Tensor:
    """(B, 3 L, C) -> (B, L, 3, C)."""
    return x.reshape(x.shape[0], -1, 3, x.shape[2])  # unflatten would be traced with one number of frames for ever


def mean_of_3(x: Tensor) -> Tensor:
    """(B, 3 L, C) -> (B, L, C)."""
    return threes(x).mean(2)


def max_of_3(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Maximum of each three frames, a rest of one or two dropped: (B, L, C) -> (B, L // 3, C), and its lengths."""
    return threes(x[:, : x.shape[1] // 3 * 3]).amax(2), None if lengths is None else lengths // 3


def mean_of_3_to_end(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Mean of each three frames; the last window divides by the frames it really has.

    (B, L, C) -> (B, ceil(L / 3), C), and its lengths.
    """
    rest = -x.shape[1] % 3
    if lengths is None and not rest:
        return mean_of_3(x), None
    n = x.new_full((len(x),), x.shape[1], dtype=torch.long) if lengths is None else lengths
    x = mean_of_3(F.pad(zero_tail(x, lengths), (0, 0, 0, rest)))
    start = 3 * torch.arange(x.shape[1], device=x.device)
    count = (n[:, None] - start).clamp(1, 3)  # (B, L / 3); an empty window holds zeros, whatever it divides by
    return x * (3 / count).to(x.dtype).unsqueeze(-1), None if lengths is None else (lengths + 2) // 3


def zero_frames(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Two-dimensional maps x (B, C, F, L) with zeros behind each utterance's end."""
    if lengths is None:
        return x
    return x.masked_fill((torch.arange(x.shape[-1], device=x.device) >= lengths[:, None])[:, None, None], 0)
