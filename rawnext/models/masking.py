# SPDX-License-Identifier: Apache-2.0
"""Operations over time that ignore the padding of a batch.

Feature maps are (B, L, C), channels last: a 1x1 convolution is a matrix product, and grouping frames by three a view.
`lengths` is (B,) frames at the map's resolution, or None if every utterance fills the batch. A network that zeroes the
padding before each convolution over time, and excludes it from each mean and softmax over time, gives an utterance in
a batch the embedding that it has alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def tail_mask(num: int, lengths: Tensor) -> Tensor:
    """(B, num) bool, true after each utterance's end."""
    return torch.arange(num, device=lengths.device) >= lengths[:, None]


def zero_tail(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (B, L, C) with zeros after each utterance's end; in inference mode on a CPU, x itself is changed."""
    if lengths is None:
        return x
    if not x.is_inference() or x.device.type != "cpu":
        return x.masked_fill(tail_mask(x.shape[1], lengths).unsqueeze(-1), 0)
    for row, num in zip(x, lengths.tolist()):  # in place: no gradient needs x, and no layer reads the padding
        row[num:] = 0
    return x


def zero_tail_2d(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Maps x (B, C, F, L) with zeros after each utterance's end."""
    return x if lengths is None else x.masked_fill(tail_mask(x.shape[-1], lengths)[:, None, None], 0)


def time_mean(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Mean over an utterance's own frames: (B, L, C) -> (B, C)."""
    return x.mean(1) if lengths is None else zero_tail(x, lengths).sum(1) / lengths[:, None]


def time_softmax(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Softmax over an utterance's own frames, zero after its end: (B, L, C) -> (B, L, C)."""
    if lengths is not None:
        x = x.masked_fill(tail_mask(x.shape[1], lengths).unsqueeze(-1), float("-inf"))
    return x.softmax(dim=1)


def group(x: Tensor, size: int) -> Tensor:
    """(B, size L, C) -> (B, L, size, C)."""
    return x.reshape(x.shape[0], -1, size, x.shape[2])  # traced, unflatten would fix the number of frames


def mean_pool(x: Tensor, size: int) -> Tensor:
    """Mean of every `size` frames: (B, size L, C) -> (B, L, C)."""
    return group(x, size).mean(2)


def max_pool(x: Tensor, lengths: Tensor | None, size: int) -> tuple[Tensor, Tensor | None]:
    """Maximum of every `size` frames; those left over are dropped: (B, L, C) -> (B, L // size, C) and its lengths."""
    return group(x[:, : x.shape[1] // size * size], size).amax(2), None if lengths is None else lengths // size


def max_pool_ceil(x: Tensor, lengths: Tensor | None, size: int) -> tuple[Tensor, Tensor | None]:
    """Maximum of every `size` frames; an utterance's last window is the maximum of the frames that it has.

    (B, L, C) -> (B, ceil(L / size), C), zero after each end, and its lengths.
    """
    x = F.pad(x, (0, 0, 0, -x.shape[1] % size), value=float("-inf"))
    if lengths is not None:
        x = x.masked_fill(tail_mask(x.shape[1], lengths).unsqueeze(-1), float("-inf"))
    lengths = ceil_lengths(lengths, size)
    return zero_tail(group(x, size).amax(2), lengths), lengths


def mean_pool_ceil(x: Tensor, lengths: Tensor | None, size: int) -> tuple[Tensor, Tensor | None]:
    """Mean of every `size` frames; an utterance's last window is the mean of the frames that it has.

    (B, L, C) -> (B, ceil(L / size), C) and its lengths.
    """
    missing = -x.shape[1] % size
    if lengths is None and not missing:
        return mean_pool(x, size), None
    num = x.new_full((len(x),), x.shape[1], dtype=torch.long) if lengths is None else lengths
    x = mean_pool(F.pad(zero_tail(x, lengths), (0, 0, 0, missing)), size)
    start = size * torch.arange(x.shape[1], device=x.device)
    count = (num[:, None] - start).clamp(1, size)  # (B, L / size); a window after the end is zero for any count
    return x * (size / count).to(x.dtype).unsqueeze(-1), ceil_lengths(lengths, size)


def ceil_lengths(lengths: Tensor | None, stride: int) -> Tensor | None:
    """Numbers of frames after a stride, rounded up."""
    return None if lengths is None else (lengths + stride - 1) // stride
