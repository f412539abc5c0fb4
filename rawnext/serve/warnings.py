# SPDX-License-Identifier: Apache-2.0
"""Warnings about recordings and pairs that make a score less reliable.

The level limits come from 150 utterances of speechocean762. In 99 of 100 the quietest tenth of the frames is at least
28 dB below the loud frames, and no sample is at full scale. With white noise at 10 dB SNR the difference is 15 to 18
dB; clipped at 8 times their level, 95 of 100 have at least one sample in 1,400 at full scale.
"""

import math

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.scoring.decision import Operating, Verdict

SHORT_S = 2.0  # calibrations cover 1 s and more; error rates grow fast below 2 s
FRAME_S = 0.025
PAUSE_DB = 30  # frames this far below the loud frames are pauses
RANGE_DB = 20  # minimum difference of loud frames and the quietest tenth
QUIET_DBFS = -45
FULL_SCALE = 0.999
CLIPPED_SHARE = 5e-4
NEAR = math.log(9)  # LLR distance at which, with costs of 1, 1 of 10 decisions is wrong
SAME_AUDIO = 0.9999  # cosine


def of_recording(wave: np.ndarray, rate: int) -> list[str]:
    """Warnings about (T,) samples in [-1, 1] at `rate` Hz, at least 0.1 s and not all zero."""
    level = frame_levels(wave, rate)
    loud, quiet = np.percentile(level, [95, 10])
    seconds, loud_s = len(wave) / rate, FRAME_S * float(np.sum(level > loud - PAUSE_DB))
    clipped = (np.count_nonzero(wave >= FULL_SCALE) + np.count_nonzero(wave <= -FULL_SCALE)) / len(wave)
    found = []
    if seconds < SHORT_S:
        found.append(f"Short: {seconds:.2f} s; errors are more frequent below {SHORT_S:g} s.")
    elif loud_s < SHORT_S:
        found.append(f"Little speech: only {loud_s:.2f} s are louder than pauses.")
    if clipped > CLIPPED_SHARE:
        found.append(f"Clipped: {100 * clipped:.2g} % of the samples are at full scale.")
    if loud < QUIET_DBFS:
        found.append(f"Quiet: the loud parts are at {loud:.0f} dB of full scale.")
    if loud - quiet < RANGE_DB:
        found.append(f"Noise, music or speech without pauses: the quietest tenth is only {loud - quiet:.0f} dB below "
                     "the loud parts.")
    if rate < SAMPLE_RATE:
        found.append(f"Narrow band: sampled at {rate / 1000:g} kHz, so nothing above {rate / 2000:g} kHz.")
    return found


def frame_levels(wave: np.ndarray, rate: int) -> np.ndarray:
    """(F,) levels of full frames in dB of full scale."""
    length = int(FRAME_S * rate)
    frames = wave[: len(wave) // length * length].reshape(-1, length)
    power = np.einsum("fs,fs->f", frames, frames, dtype=np.float64) / length
    return 10 * np.log10(power + 1e-12)


def of_pair(verdict: Verdict, at: Operating) -> list[str]:
    """Warnings about a pair of recordings and its score."""
    found = []
    if verdict.score > SAME_AUDIO:
        found.append("Both sides are the same audio, or nearly; other recordings may score differently.")
    if verdict.same is None:
        return [*found, "This model has no calibration, so the threshold is not known."]
    if verdict.outside:
        found.append("The calibration has not seen recordings of these durations and uses the nearest that it knows.")
    if abs(verdict.llr - verdict.threshold) < NEAR:
        found.append(f"The LLR is only {abs(verdict.llr - verdict.threshold):.2f} from the threshold ({at}); other "
                     "recordings of the same people may be decided differently.")
    return found
