# SPDX-License-Identifier: Apache-2.0
"""Why a score may be unsure: only what can be measured in the audio or read off the calibration.

The limits of levels were looked up in 150 utterances of speechocean762: 99 in 100 have their quietest tenth 28 dB or
more below their loud frames, and no sample at full scale; with white noise at an SNR of 10 dB they have 15 to 18 dB,
and cut off at 8 times their level 95 in 100 have a sample in 1,400 or more at full scale.
"""

import math

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.scoring.decision import Operating, Verdict

SHORT_S = 2.0  # calibrations see lengths from 1 s; error rates grow fast below 2 s
FRAME_S = 0.025
PAUSE_DB = 30  # below the loud frames: no speech
RANGE_DB = 20  # between loud frames and the quietest tenth
QUIET_DBFS = -45
FULL_SCALE = 0.999
CLIPPED_SHARE = 5e-4
NEAR = math.log(9)  # LLRs: with costs of 1 and 1, a decision that is wrong in 1 of 10 such pairs
SAME_AUDIO = 0.9999  # cosine


def of_recording(wave: np.ndarray, rate: int) -> list[str]:
    """Sentences about (T,) samples in [-1, 1] at `rate` Hz, 0.1 s or longer and not all zero."""
    level = frame_levels(wave, rate)
    loud, quiet = np.percentile(level, [95, 10])
    seconds, loud_s = len(wave) / rate, FRAME_S * float(np.sum(level > loud - PAUSE_DB))
    clipped = float(np.mean(np.abs(wave) >= FULL_SCALE))
    found = []
    if seconds < SHORT_S:
        found.append(f"Short: {seconds:.2f} s; below {SHORT_S:g} s errors are more frequent.")
    elif loud_s < SHORT_S:
        found.append(f"Little speech: only {loud_s:.2f} s are louder than a pause.")
    if clipped > CLIPPED_SHARE:
        found.append(f"Clipped: {100 * clipped:.2g} % of the samples are at full scale.")
    if loud < QUIET_DBFS:
        found.append(f"Quiet: its loud parts have {loud:.0f} dB of full scale.")
    if loud - quiet < RANGE_DB:
        found.append(f"Noise, music or speech without a pause: its quietest tenth is only {loud - quiet:.0f} dB below "
                     "its loud parts.")
    if rate < SAMPLE_RATE:
        found.append(f"Narrow band: sampled at {rate / 1000:g} kHz, it has nothing above {rate / 2000:g} kHz.")
    return found


def frame_levels(wave: np.ndarray, rate: int) -> np.ndarray:
    """(F,) dB of full scale of the frames that T samples fill."""
    length = int(FRAME_S * rate)
    frames = wave[: len(wave) // length * length].reshape(-1, length)
    power = np.einsum("fs,fs->f", frames, frames, dtype=np.float64) / length
    return 10 * np.log10(power + 1e-12)


def of_pair(verdict: Verdict, at: Operating) -> list[str]:
    """Sentences about two recordings and their scores."""
    found = []
    if verdict.score > SAME_AUDIO:
        found.append("Both sides hold the same audio, or nearly: that says nothing of another recording.")
    if verdict.same is None:
        return [*found, "This model has no calibration: from which score on to accept is not known."]
    if verdict.outside:
        found.append("The calibration has not seen recordings of these lengths; they count as the nearest that it has.")
    if abs(verdict.llr - verdict.threshold) < NEAR:
        found.append(f"The LLR is only {abs(verdict.llr - verdict.threshold):.2f} from the threshold: at {at}, other "
                     "recordings of the same people may well be decided otherwise.")
    return found
