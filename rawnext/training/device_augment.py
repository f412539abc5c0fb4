# SPDX-License-Identifier: Apache-2.0
"""Reverberation, and the operations after it, applied to whole batches on the training device.

Data workers make all draws, read all recordings and apply the operations before the first reverberation: adding a noise
there costs less than transferring it. Draws and, up to rounding, waves are those of `train.augment_on: workers`.
Nothing waits for the device.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rawnext.training.augment import BANK_OPERATIONS, OPERATIONS, POWER_FLOOR, Banks, draw_operations

FFT_UNIT = 4096  # transforms have 4096, 8192, 12288, ... samples: few lengths, so that plans are reused

Pending = list[tuple[str, np.ndarray]]  # an utterance's operations for the device, in order: name and drawn array


def augment_before_reverb(wave: np.ndarray, cases: Sequence[Mapping[str, Any]], rng: random.Random,
                          banks: Banks) -> tuple[np.ndarray, Pending]:
    """Draw as `augment` does, but apply only the operations before the first reverberation; the others are pending."""
    pending: Pending = []
    for name in draw_operations(cases, rng):
        if pending or name == "reverb":
            operation = BANK_OPERATIONS[name]
            pending.append((name, operation.draw(len(wave), rng, banks[operation.bank])))
        else:
            wave = OPERATIONS[name](wave, rng, banks)
    return wave, pending


class BatchOperation(NamedTuple):
    """An operation on some utterances of a batch: reverberation or added noise.

    rows: (M,) int64 in the batch, all different.   drawn: (M, T) noises or (M, R) room responses, zero-padded.
    """

    is_reverb: bool
    rows: Tensor
    drawn: Tensor


def batch_operations(pending: Sequence[Pending]) -> list[BatchOperation]:
    """Group the pending operations of B utterances so that each utterance keeps their order."""
    operations = []
    for turn in range(max(map(len, pending), default=0)):
        for is_reverb in (False, True):
            drawn = {row: torch.from_numpy(ops[turn][1]) for row, ops in enumerate(pending)
                     if len(ops) > turn and (ops[turn][0] == "reverb") == is_reverb}
            if drawn:
                padded = pad_sequence(list(drawn.values()), batch_first=True)
                operations.append(BatchOperation(is_reverb, torch.tensor(list(drawn)), padded))
    return operations


def apply_on_device(wave: Tensor, operations: Sequence[BatchOperation]) -> Tensor:
    """wave (B, T) -> (B, T), on the device of wave."""
    for is_reverb, *tensors in operations:
        rows, drawn = (tensor.to(wave.device, non_blocking=True) for tensor in tensors)
        clean = wave[rows]
        rms = (clean.square().mean(1, keepdim=True) + POWER_FLOOR).sqrt()  # as augment.rms
        wave = wave.index_copy(0, rows, convolve(clean, drawn) if is_reverb else clean + rms * drawn)
    return wave


def convolve(wave: Tensor, response: Tensor) -> Tensor:
    """The first T samples of each row of (M, T) convolved with the same row of (M, R)."""
    size = FFT_UNIT * scipy.fft.next_fast_len(-(-(wave.shape[1] + response.shape[1] - 1) // FFT_UNIT), real=True)
    return torch.fft.irfft(torch.fft.rfft(wave, size) * torch.fft.rfft(response, size), size)[:, : wave.shape[1]]
