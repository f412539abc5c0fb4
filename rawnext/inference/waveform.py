# SPDX-License-Identifier: Apache-2.0
"""Waveforms from the caller of Extractor: checks, resampling to 16 kHz, windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rawnext.data.audio import can_resample, resample
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.wav import LEAST_SAMPLES

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor


def prepare(waveform: ArrayLike | Tensor, sample_rate: int) -> np.ndarray:
    """Any waveform as (T,) float32 at 16 kHz.   Raises: ValueError: see Extractor.embed."""
    import torch

    wave = waveform.detach().cpu().numpy() if isinstance(waveform, torch.Tensor) else np.asarray(waveform)
    if wave.ndim != 1:
        raise ValueError(f"want the samples of one channel, (T,), got shape {wave.shape}")
    if wave.dtype.kind != "f":
        raise ValueError(f"want floating-point samples in [-1, 1], got {wave.dtype}")
    if not can_resample(sample_rate):
        raise ValueError(f"{sample_rate} Hz cannot be resampled to {SAMPLE_RATE} Hz")
    if len(wave) * SAMPLE_RATE < LEAST_SAMPLES * sample_rate:
        raise ValueError(f"{len(wave) / sample_rate:.3f} s of audio; at least {LEAST_SAMPLES / SAMPLE_RATE} s")
    with np.errstate(over="ignore"):  # values too large for float32 become infinite
        wave = np.require(wave, np.float32, ["C", "W"])
    if not np.isfinite(wave).all():
        raise ValueError("the waveform contains NaN or infinity")
    return wave if sample_rate == SAMPLE_RATE else resample(wave, sample_rate)


def window_starts(num_samples: int, window: float, shift: float) -> tuple[np.ndarray, int]:
    """(N,) first samples of sliding windows over num_samples at 16 kHz, and their common length in samples.

    Windows start one shift apart; if more than 0.01 s are left at the end, another window ends with the recording.
    Raises: ValueError: window below 0.1 s, or shift below 0.01 s.
    """
    length, step = round(window * SAMPLE_RATE), round(shift * SAMPLE_RATE)
    if length < LEAST_SAMPLES or step < SAMPLE_RATE // 100:
        raise ValueError(f"want a window from 0.1 s and a shift from 0.01 s, got {window:g} and {shift:g}")
    length = min(length, num_samples)
    starts = np.arange(0, num_samples - length + 1, step)
    rest = num_samples - length - starts[-1]
    return np.append(starts, num_samples - length) if rest > SAMPLE_RATE // 100 else starts, length
