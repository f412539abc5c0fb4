# SPDX-License-Identifier: Apache-2.0
"""Rooms, and what comes after them, put on a whole batch at a time on the device that trains.

Data workers draw and read all of it, and do what comes before a room: to add a noise is cheaper than to hand it over.
The draws and, but for rounding, the waves are those of `train.augment_on: workers`. Nothing waits for the device.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rawnext.training.augment import EFFECTS, OPERATIONS, POWER_FLOOR, Banks, chosen

FFT_UNIT = 4096  # transforms are 4096, 8192, 12288, ... samples long: few lengths, so that plans are used again


Left = list[tuple[str, np.ndarray]]  # operations of an utterance, in their order, and what was drawn for each


def until_room(wave: np.ndarray, cases: Sequence[Mapping[str, Any]], rng: random.Random,
               banks: Banks) -> tuple[np.ndarray, Left]:
    """Draw as `augment` does, but do no more than what comes before the first room; the rest is left."""
    left: Left = []
    for name in chosen(cases, rng):
        if left or name == "reverb":
            left.append((name, EFFECTS[name].draw(len(wave), rng, banks)))
        else:
            wave = OPERATIONS[name](wave, rng, banks)
    return wave, left


def cannot_follow_a_room(ops: Sequence[str]) -> list[str]:
    """Operations of a case that neither a worker nor the device could do."""
    return [name for name in ops[ops.index("reverb") :] if name not in EFFECTS] if "reverb" in ops else []


class Step(NamedTuple):
    """What is put on some utterances of a batch. room: heard through, else added.

    rows: (M,) int64 in the batch, each once.   drawn: (M, T) noises, or (M, R) room responses, the ends filled with 0.
    """

    room: bool
    rows: Tensor
    drawn: Tensor


def as_steps(left: Sequence[Left]) -> list[Step]:
    """What is left of each utterance of a batch, operation by operation."""
    steps = []
    for turn in range(max(map(len, left), default=0)):
        for room in (False, True):
            drawn = {row: ops[turn][1] for row, ops in enumerate(left)
                     if len(ops) > turn and (ops[turn][0] == "reverb") == room}
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
