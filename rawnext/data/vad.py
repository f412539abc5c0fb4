# SPDX-License-Identifier: Apache-2.0
"""Voice activity detection: which 10 ms frames of a waveform are speech.

energy: Kaldi's compute-vad, a threshold on the log energy of each frame.   silero: the network of the package
silero-vad, with weights, an optional dependency.

Frame f covers samples 160 f ... 160 f + 160 at 16 kHz, so T samples have ceil(T / 160) frames. Kaldi's features with
snip-edges=false have (T + 80) // 160, with snip-edges=true up to three fewer; `fit` takes the decisions of both.
"""

from collections.abc import Iterable
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.kaldi.ark import Vectors

KINDS = ("energy", "silero")
SHIFT = SAMPLE_RATE // 100  # samples of a frame's decision
FRAME = SAMPLE_RATE // 40  # samples of a frame's energy
INT16 = 32768.0
DITHER = 1.0  # Kaldi's default: the standard deviation, on the scale of int16, of the noise added to the samples
BLOCK = 60 * SAMPLE_RATE  # of a whole waveform, at a time
PIECE, CONTEXT, STATE = 512, 64, 128  # of silero's network at 16 kHz: samples, samples before them, size of its state
MOST_FRAMES = 1 << 23  # of a recording: 23 hours
SLACK = 3  # frames by which Kaldi's decisions may be fewer or more
JOIN_S, LEAST_S = 0.3, 0.1  # of `regions`


class Energy(NamedTuple):
    """Options and defaults of Kaldi's compute-vad, whose names begin with `vad-`.

    A frame has energy if its log energy exceeds energy_threshold + energy_mean_scale * (mean log energy of the
    recording). It is speech if at least proportion_threshold of the frames at most frames_context away have energy.
    """

    energy_threshold: float = 5.0
    energy_mean_scale: float = 0.5
    frames_context: int = 0
    proportion_threshold: float = 0.6

    def check(self) -> None:
        """Raise InputError if Kaldi would refuse a value."""
        if not np.isfinite(self).all() or self.energy_mean_scale < 0 or self.frames_context < 0 or not (
                0 < self.proportion_threshold < 1):
            raise InputError("--vad options", None, "want a mean scale and a context of 0 or more, and a proportion "
                                                    f"between 0 and 1, got {self}")

    def decide(self, log_energy: np.ndarray) -> np.ndarray:
        """(F,) log energies -> (F,) bool."""
        if not len(log_energy):
            return np.zeros(0, bool)
        loud = log_energy > self.energy_threshold + self.energy_mean_scale * log_energy.mean()
        sums = np.append(0, np.cumsum(loud))
        frame = np.arange(len(loud))
        first = np.maximum(frame - self.frames_context, 0)
        last = np.minimum(frame + self.frames_context + 1, len(loud))
        return sums[last] - sums[first] >= self.proportion_threshold * (last - first)


def check_kind(kind: str) -> None:
    """Raise InputError if the detector needs a package that is not installed."""
    if kind == "silero":
        silero()


def detect(blocks: Iterable[np.ndarray], kind: str, energy: Energy = Energy()) -> np.ndarray:  # noqa: B008 (constant)
    """(F,) bool: which frames of a recording are speech.

    Args: blocks: its consecutive parts, (T,) float32 at 16 kHz, each of any length.   energy: options of that kind.
    """
    return energy.decide(log_energies(blocks)) if kind == "energy" else silero_frames(blocks)


def speech_frames(wave: np.ndarray, kind: str, energy: Energy = Energy()) -> np.ndarray:  # noqa: B008
    """detect() of (T,) samples at 16 kHz."""
    return detect((wave[start : start + BLOCK] for start in range(0, len(wave), BLOCK)), kind, energy)


def select(wave: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The samples of the speech frames of (T,) samples at 16 kHz, one after another."""
    return wave[np.repeat(frames, SHIFT)[: len(wave)]]


def fit(frames: np.ndarray, num_samples: int) -> np.ndarray | None:
    """Decisions about ceil(num_samples / 160) frames from those about up to three fewer or more; None: other ones."""
    num = -(-num_samples // SHIFT)
    if not len(frames) or abs(len(frames) - num) > SLACK:
        return None
    return np.append(frames[:num], np.repeat(frames[-1], max(0, num - len(frames))))


def read_decisions(scp: PathLike, utts: Iterable[str]) -> dict[str, np.ndarray]:
    """(F,) bool of each utterance in an scp of Kaldi's vectors of 0 and 1.

    Raises: InputError: an utterance is missing; a vector cannot be read, or has other numbers.
    """
    vectors, found = Vectors(scp, MOST_FRAMES), {}
    for utt in utts:
        if utt not in vectors:
            raise InputError(scp, None, f"has no decisions about {utt}; steps/vad.sh writes them")
        values = vectors[utt]
        if not ((values == 0) | (values == 1)).all():
            raise vectors.fault(utt, "is not a vector of 0 and 1")
        found[utt] = values > 0
    return found


def regions(frames: np.ndarray, join_s: float = JOIN_S, least_s: float = LEAST_S) -> np.ndarray:
    """(N, 2) start and end in seconds of runs of speech frames.

    Args: join_s: shorter pauses are part of a region.   least_s: shorter regions, after joining, are left out.
    """
    edges = np.flatnonzero(np.diff(frames.astype(np.int8), prepend=0, append=0)).reshape(-1, 2) / 100
    apart = edges[1:, 0] - edges[:-1, 1] >= join_s - 1e-6
    joined = np.column_stack([edges[np.append(True, apart), 0], edges[np.append(apart, True), 1]]) if len(edges) else (
        np.empty((0, 2)))
    return joined[joined[:, 1] - joined[:, 0] >= least_s - 1e-6]


# --- energy

def log_energies(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """(F,) natural logarithms of the energies of frames of 25 ms around each 10 ms, on the scale of int16.

    As the energy of Kaldi's features with raw-energy and snip-edges=false: without the frame's mean, and the recording
    is mirrored at its ends. Instead of Kaldi's dither its expected energy is added, so that results are repeatable.
    """
    margin = (FRAME - SHIFT) // 2
    found, rest = [], np.zeros(0, np.float32)
    total, first = 0, True
    for block in blocks:
        total += len(block)
        rest = np.concatenate([rest, block])
        if first and len(rest) > margin:
            rest, first = np.concatenate([rest[:margin][::-1], rest]), False
        if not first and (num := (len(rest) - FRAME - margin) // SHIFT + 1) > 0:
            found.append(frame_log_energies(rest[: (num - 1) * SHIFT + FRAME]))
            rest = rest[num * SHIFT :]
    if not total:
        return np.zeros(0)
    if first:
        rest = np.pad(rest, (margin, 0), "symmetric")
    left = -(-total // SHIFT) - sum(map(len, found))
    missing = (left - 1) * SHIFT + FRAME - len(rest)
    rest = np.pad(rest, (0, max(0, missing)), "symmetric")
    return np.concatenate([*found, frame_log_energies(rest[: (left - 1) * SHIFT + FRAME])])


def frame_log_energies(wave: np.ndarray) -> np.ndarray:
    frames = sliding_window_view(wave, FRAME)[::SHIFT]
    power = np.einsum("fs,fs->f", frames, frames, dtype=np.float64)
    total = np.einsum("fs->f", frames, dtype=np.float64)
    return np.log(INT16**2 * np.maximum(power - total**2 / FRAME, 0) + FRAME * DITHER**2)


# --- silero

@lru_cache(maxsize=1)
def silero():
    """The loaded network, which computes many frames in one call.   Raises: InputError: it is not installed."""
    import torch

    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad

        return load_silero_vad(sequence=True)
    except ModuleNotFoundError as error:
        if (name := (error.name or "").partition(".")[0]) not in ("silero_vad", "onnxruntime"):
            raise
        raise InputError("silero-vad" if name == "silero_vad" else name, None,
                         "is not installed: pip install 'rawnext[vad]'") from None
    finally:
        torch.set_num_threads(threads)  # the import sets one thread


def silero_frames(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """(F,) bool by the network and the package's rules: at least 0.25 s of speech, pauses from 0.1 s, 30 ms around."""
    probabilities, num_samples = silero_probabilities(blocks)
    from silero_vad import get_speech_timestamps_from_probs

    found = get_speech_timestamps_from_probs(probabilities.tolist(), audio_length_samples=num_samples)
    frames = np.zeros(-(-num_samples // SHIFT), bool)
    for part in found:  # one for each stretch of speech
        frames[round(part["start"] / SHIFT) : round(part["end"] / SHIFT)] = True
    return frames


def silero_probabilities(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """(N,) probabilities of speech of consecutive pieces of 512 samples, and the number of samples.

    As SileroVADSequence.audio_forward, which needs the whole recording.
    """
    session, state, found, num_samples = silero().session, [np.zeros((1, 1, STATE), np.float32)] * 2, [], 0
    rest = np.zeros(CONTEXT, np.float32)
    for block in chain(blocks, [np.zeros(PIECE - 1, np.float32)]):  # zeros fill the last piece
        rest, num_samples = np.concatenate([rest, block]), num_samples + len(block)
        if (num := (len(rest) - CONTEXT) // PIECE) > 0:
            pieces = np.ascontiguousarray(sliding_window_view(rest, CONTEXT + PIECE)[::PIECE])
            part, *state = session.run(["speech_probs", "hn", "cn"], {"input": pieces, "h": state[0], "c": state[1]})
            found.append(part.reshape(-1))
            rest = rest[num * PIECE :]
    return np.concatenate([np.zeros(0, np.float32), *found]), num_samples - (PIECE - 1)
