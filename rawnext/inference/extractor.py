# SPDX-License-Identifier: Apache-2.0
"""The Python interface to embeddings: `from rawnext import Extractor`."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from rawnext.config import Config, model_folder
from rawnext.data import vad as vads
from rawnext.data.audio import can_resample, resample
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.wav import LEAST_SAMPLES, no_speech
from rawnext.dist import DEVICES, choose_device
from rawnext.errors import InputError, as_input_error
from rawnext.files import PathLike
from rawnext.identity import with_vad
from rawnext.inference.doubts import of_recording
from rawnext.inference.extract import BUFFER_SAMPLES, LONGEST_SAMPLES, buffered, embed_native, load_model
from rawnext.models.folded import folded
from rawnext.training import checkpoint
from rawnext.training.checkpoint import fingerprint

LONGEST_S = LONGEST_SAMPLES / SAMPLE_RATE


class RecordingWarning(UserWarning):
    """A reason to doubt the embedding of a recording."""


class Extractor:
    """A trained model that turns waveforms into embeddings.

    A waveform is one channel, (T,) floating-point samples in [-1, 1] in numpy or torch, 0.1 s or longer, at any rate
    from 2 to 768 kHz (rates other than 16 kHz are resampled). Embeddings are float32 and not normalised in length;
    compare them by their cosine.

    >>> import numpy as np
    >>> from rawnext import Extractor, read_audio
    >>> extractor = Extractor.from_pretrained("exp/rawnext", device="cpu")
    >>> waveform, sample_rate = read_audio("a.wav")
    >>> embedding = extractor.embed(waveform, sample_rate)
    >>> embedding.shape == (extractor.embedding_dim,)
    True

    A batch may have different lengths; each waveform gets the same embedding as alone:

    >>> both = extractor.embed_batch([waveform, waveform[: sample_rate // 2]], sample_rate)
    >>> np.allclose(both[0], embedding, atol=1e-4 * abs(embedding).max())
    True

    Windows for diarization:

    >>> times, embeddings = extractor.windows(waveform, sample_rate, window=0.5, shift=0.25)
    >>> times[:2].tolist(), len(times) == len(embeddings)
    ([[0.0, 0.5], [0.25, 0.75]], True)

    Args:
        model: the network, in evaluation mode.   config, folder: configuration and folder of its experiment.
        longest_s: a longer utterance is cut into equal pieces of at most this many seconds, and its embedding is the
            mean of theirs: memory grows with length, and no model was trained on longer utterances.
        warn: whether reasons to doubt a recording (`doubts`), such as noise or less than 2 s, become a
            RecordingWarning.
        vad: voice activity detection, "energy" or "silero": the embedding is that of the speech alone, at least 0.1 s.
            Embeddings with and without it are not comparable. `windows` does not use it.
    """

    def __init__(self, model: Any, config: Config, folder: PathLike, longest_s: float = LONGEST_S, warn: bool = True,
                 vad: str = ""):
        if not 2 * LEAST_SAMPLES / SAMPLE_RATE <= longest_s < math.inf:
            raise ValueError(f"longest_s: at least {2 * LEAST_SAMPLES / SAMPLE_RATE} s, got {longest_s}")
        self.model, self.config, self.folder, self.warn = model, config, folder, warn
        self.max_samples, self.vad = int(longest_s * SAMPLE_RATE), vad
        if vad and vad not in vads.KINDS:
            raise ValueError(f"vad: {' or '.join(vads.KINDS)}, got {vad!r}")
        vads.check_kind(vad)

    @classmethod
    def from_pretrained(cls, folder: PathLike = "pretrained", device: str = "auto", longest_s: float = LONGEST_S,
                        warn: bool = True, vad: str = "") -> "Extractor":
        """Load the model of an experiment folder or of a folder from `rawnext export --safetensors`.

        Args:
            folder: `pretrained` is the model that comes with the package; hf:OWNER/NAME[@REVISION] is a repository of
                the Hugging Face Hub, and https://HOST/ARCHIVE#sha256=HEX a tar archive of an exported model. Both are
                downloaded once.
            device: cpu, cuda, cuda:1, ...; auto: a GPU if there is one.   longest_s, warn, vad: see the class.
        Raises: InputError: a file is missing, damaged or belongs to another model, there is no such device, the model
            cannot be downloaded, or the package of the voice activity detection is not installed.
        """
        try:
            place = choose_device(device) if device in DEVICES else torch.device(device)
            torch.ones(1, device=place).item()  # the device `meta` has no values
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
            raise InputError(device, None, f"no such device: {str(error).splitlines()[0]}") from None
        folder = model_folder(folder)
        model, config = load_model(folder, place)
        return cls(folded(model), config, folder, longest_s, warn, vad)

    @property
    def embedding_dim(self) -> int:
        """D, the dimension of the embeddings."""
        return self.model.embedding_dim

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the model's configuration and weights; equal for a model and its export. With the kind of voice
        activity detection, if there is one."""
        return with_vad(fingerprint(self.config, checkpoint.load_state(self.folder)["model"]), self.vad)

    def embed(self, waveform: ArrayLike | torch.Tensor, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
        """(T,) samples at `sample_rate` Hz -> (D,) float32.

        Raises: ValueError: wrong shape, integers, NaN, less than 0.1 s (of speech, with vad), or a rate that cannot be
            resampled.
        """
        return self._embed_batch([waveform], [sample_rate])[0]

    def doubts(self, waveform: ArrayLike | torch.Tensor, sample_rate: int = SAMPLE_RATE) -> list[str]:
        """Reasons to doubt the embedding of a waveform: short, noisy, quiet, clipped, no speech, ...; often none.

        Raises: ValueError: see embed.
        """
        return of_recording(checked(waveform, sample_rate), sample_rate)

    def embed_batch(self, waveforms: Sequence[ArrayLike | torch.Tensor],
                    sample_rate: int | Sequence[int] = SAMPLE_RATE) -> np.ndarray:
        """N waveforms of any lengths -> (N, D) float32, as from embed.

        Args: sample_rate: one for all, or N.
        Raises: ValueError: see embed.
        """
        rates = np.atleast_1d(sample_rate).tolist() * (len(waveforms) if np.ndim(sample_rate) == 0 else 1)
        if len(rates) != len(waveforms):
            raise ValueError(f"{len(waveforms)} waveforms, but {len(rates)} sample rates")
        if not len(waveforms):
            return np.empty((0, self.embedding_dim), np.float32)
        return self._embed_batch(waveforms, rates)

    def _embed_batch(self, waveforms: Sequence[ArrayLike | torch.Tensor], rates: Sequence[int]) -> np.ndarray:
        waves = list(map(checked, waveforms, rates))
        for number, (wave, rate) in enumerate(zip(waves, rates)):
            self._warn(wave, rate, 4, f" {number}" if len(waves) > 1 else "")
        return embed_native(self.model, list(map(self.speech, waves, rates)), self.max_samples)

    def speech(self, waveform: ArrayLike | torch.Tensor, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
        """What is embedded of a waveform: (T,) float32 at 16 kHz, with vad the speech alone.

        Raises: ValueError: see embed.
        """
        wave = resample(checked(waveform, sample_rate), sample_rate)
        if not self.vad:
            return wave
        speech = vads.select(wave, vads.speech_frames(wave, self.vad))
        if len(speech) < LEAST_SAMPLES:
            found, all_s = (len(samples) / SAMPLE_RATE for samples in (speech, wave))
            raise ValueError(f"{found:.2f} s of speech in {all_s:.2f} s of audio, by the voice activity detection "
                             f"({self.vad}); at least {LEAST_SAMPLES / SAMPLE_RATE} s")
        return speech

    def _warn(self, wave: np.ndarray, rate: int, stacklevel: int, name: str = "") -> None:
        if self.warn and (found := of_recording(wave, rate)):
            warnings.warn(f"doubtful waveform{name}: {' '.join(found)}", RecordingWarning, stacklevel=stacklevel)

    def windows(self, waveform: ArrayLike | torch.Tensor, sample_rate: int = SAMPLE_RATE, window: float = 1.5,
                shift: float = 0.75) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of sliding windows; the last window ends at the end of the recording.

        Args:
            window: seconds, 0.1 or more; a shorter recording is one window.   shift: seconds, 0.01 or more.
        Returns: (N, 2) start and end in seconds, and (N, D) float32.
        Raises: ValueError: see embed; or window or shift is too short.
        """
        wave = checked(waveform, sample_rate)
        self._warn(wave, sample_rate, 3)
        wave = resample(wave, sample_rate)
        starts, length = window_starts(len(wave), window, shift)
        embeddings = embed_native(self.model, [wave[start : start + length] for start in starts], self.max_samples)
        times = np.column_stack([starts, starts + length]) / SAMPLE_RATE
        return np.minimum(times, np.shape(waveform)[0] / sample_rate), embeddings

    def embed_each(self, waves: Iterable[tuple[str, np.ndarray, int]],
                   seconds: dict[str, float] | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """(name, (T,) waveform, rate in Hz) -> (name, (D,) embedding), in the same order; reads some minutes ahead.

        Args: seconds: with vad, takes the seconds of speech of each.
        Raises: ValueError: see embed.   InputError: too little speech.
        """
        for part in buffered(self._speech_of_each(waves), BUFFER_SAMPLES):
            names, signals = zip(*part)
            if seconds is not None and self.vad:
                seconds |= {name: len(signal) / SAMPLE_RATE for name, signal in part}
            vectors = embed_native(self.model, signals, self.max_samples)
            del part, signals  # an hour takes hundreds of megabytes, which the next recording may need
            yield from zip(names, vectors)

    def _speech_of_each(self, waves: Iterable[tuple[str, np.ndarray, int]]) -> Iterator[tuple[str, np.ndarray]]:
        for name, wave, rate in waves:
            self._warn(checked(wave, rate), rate, 5, f" {name}")
            with as_input_error(name):
                yield name, self.speech(wave, rate)
            del wave  # before the next one is read


def checked(waveform: ArrayLike | torch.Tensor, sample_rate: int) -> np.ndarray:
    """Any waveform as (T,) float32.   Raises: ValueError: see Extractor.embed."""
    wave = waveform.detach().cpu().numpy() if isinstance(waveform, torch.Tensor) else np.asarray(waveform)
    if wave.ndim != 1:
        raise ValueError(f"want the samples of one channel, (T,), got shape {wave.shape}")
    if wave.dtype.kind != "f":
        raise ValueError(f"want floating-point samples in [-1, 1], got {wave.dtype}")
    if not can_resample(sample_rate):
        raise ValueError(f"{sample_rate} Hz cannot be resampled to {SAMPLE_RATE} Hz")
    if len(wave) * SAMPLE_RATE < LEAST_SAMPLES * sample_rate:
        raise ValueError(f"{len(wave) / sample_rate:.5g} s of audio; at least {LEAST_SAMPLES / SAMPLE_RATE} s")
    with np.errstate(over="ignore"):  # values too large for float32 become infinite
        wave = np.require(wave, np.float32, ["C", "W"])
    if why := no_speech(wave):
        raise ValueError(f"the waveform {why}")
    return wave


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
