# SPDX-License-Identifier: Apache-2.0
"""Windows cover a recording of any length; test_extractor.py tests the checks of waveforms."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rawnext.inference.waveform import window_starts


@given(num=st.integers(1600, 10**6), window=st.floats(0.1, 20), shift=st.floats(0.01, 20))
@settings(max_examples=100)
def test_windows_cover_the_recording(num, window, shift):
    starts, length = window_starts(num, window, shift)
    assert starts[0] == 0 and num - 160 <= starts[-1] + length <= num
    steps = np.diff(starts)
    assert (steps[:-1] == round(shift * 16000)).all() and (steps > 0).all() and (not len(steps) or steps[-1] >= 160)
    assert length == min(num, round(window * 16000))
    assert len(starts) <= 2 + math.ceil(num / round(shift * 16000))
