# SPDX-License-Identifier: Apache-2.0
"""Noise and rooms that data workers have drawn and read, put on a whole batch at a time on the device that trains.

The draws and, but for rounding, the waves are those of `train.augment_on: workers`. Nothing waits for the device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rawnext.data.augment import EFFECTS, POWER_FLOOR, reverberate

FFT_UNIT = 4096  # transforms are 4096, 8192, 12288, ... samples long: few lengths, so that plans are used again


class Step(NamedTuple):
    """What is put on some utterances of a batch. room: heard through, else added.

    rows: (M,) int64 in the batch, each once.   drawn: (M, T) noises, or (M, R) room responses, the ends filled with 0.
    """

    room: bool
    rows: Tensor
    drawn: Tensor


def as_steps(effects: Sequence[Sequence[tuple[str, np.ndarray]]]) -> list[Step]:
    """Args: effects: what was drawn for each utterance of a batch, (operation, array) in its order."""
    steps = []
    for turn in range(max(map(len, effects), default=0)):
        for room in (False, True):
            drawn = {row: of[turn][1] for row, of in enumerate(effects)
                     if len(of) > turn and (EFFECTS[of[turn][0]].put is reverberate) == room}
            if drawn:
                steps.append(Step(room, torch.tensor(list(drawn)), stacked(list(drawn.values()))))
    return steps


def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    """M arrays of their own lengths -> (M, longest)."""
    rows = torch.zeros(len(arrays), max(map(len, arrays)))
    for row, array in zip(rows.numpy(), arrays):
        row[: len(array)] = array
    return rows


def put_on(wave: Tensor, steps: Sequence[Step]) -> Tensor:
    """wave (B, T) with all steps done, on wave's device."""
    for room, *tensors in steps:
        rows, drawn = (tensor.to(wave.device, non_blocking=True) for tensor in tensors)
        dry = wave[rows]
        wave = wave.index_copy(0, rows, convolve(dry, drawn) if room else dry + level(dry) * drawn)
    return wave


def level(wave: Tensor) -> Tensor:
    """(M, T) -> (M, 1), as augment.level."""
    return (wave.square().mean(1, keepdim=True) + POWER_FLOOR).sqrt()


def convolve(wave: Tensor, response: Tensor) -> Tensor:
    """The first T samples of each row of (M, T) convolved with its row of (M, R)."""
    from scipy.fft import next_fast_len

    size = FFT_UNIT * next_fast_len(-(-(wave.shape[1] + response.shape[1] - 1) // FFT_UNIT), real=True)
    return torch.fft.irfft(torch.fft.rfft(wave, size) * torch.fft.rfft(response, size), size)[:, : wave.shape[1]]
