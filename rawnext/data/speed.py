# SPDX-License-Identifier: Apache-2.0
"""Copies of utterances at other speeds, which count as new speakers."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import scipy


def with_copies(ids: Sequence[str], speeds: Sequence[float]) -> list[str]:
    """The ids, then those of their copies at each speed, with Kaldi's prefix: a, b -> a, b, sp0.9-a, sp0.9-b."""
    return [*ids, *(f"sp{speed:g}-{name}" for speed in speeds for name in ids)]


def change_speed(wave: np.ndarray, speed: float) -> np.ndarray:
    """(T,) -> about (T / speed,): played `speed` times as fast, which raises the pitch and all formants too."""
    if speed == 1:
        return wave
    ratio = Fraction(speed).limit_denominator(100)
    return scipy.signal.resample_poly(wave, ratio.denominator, ratio.numerator)
