# SPDX-License-Identifier: Apache-2.0
"""The Python interface to embeddings: `from rawnext import Extractor`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rawnext.config import model_folder
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.wav import LEAST_SAMPLES
from rawnext.dist import DEVICES, choose_device
from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.inference.extract import BUFFER_SAMPLES, LONGEST_SAMPLES, buffered, embed_native, load_model
from rawnext.inference.waveform import prepare, window_starts
from rawnext.models.folded import folded
from rawnext.training import checkpoint

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rawnext.config import Config

LONGEST_S = LONGEST_SAMPLES / SAMPLE_RATE


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
    """

    def __init__(self, model: Any, config: Config, folder: PathLike, longest_s: float = LONGEST_S):
        if longest_s < 2 * LEAST_SAMPLES / SAMPLE_RATE:
            raise ValueError(f"longest_s: at least {2 * LEAST_SAMPLES / SAMPLE_RATE} s, got {longest_s}")
        self.model, self.config, self.folder = model, config, folder
        self.max_samples = int(longest_s * SAMPLE_RATE)

    @classmethod
    def from_pretrained(cls, folder: PathLike = "pretrained", device: str = "auto",
                        longest_s: float = LONGEST_S) -> Extractor:
        """Load the model of an experiment folder or of a folder from `rawnext export --safetensors`.

        Args:
            folder: `pretrained` is the model that comes with the package.
            device: cpu, cuda, cuda:1, ...; auto: a GPU if there is one.   longest_s: see the class.
        Raises: InputError: a file is missing, damaged or belongs to another model, or there is no such device.
        """
        try:
            place = choose_device(device) if device in DEVICES else torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:  # the latter: torch without CUDA
            raise InputError(device, None, f"no such device: {str(error).splitlines()[0]}") from None
        folder = model_folder(folder)
        model, config = load_model(folder, place)
        return cls(folded(model), config, folder, longest_s)

    @property
    def embedding_dim(self) -> int:
        """D, the dimension of the embeddings."""
        return self.model.embedding_dim

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the model's configuration and weights; equal for a model and its export."""
        return fingerprint(self.config, checkpoint.load_state(self.folder)["model"])

    def embed(self, waveform: ArrayLike | torch.Tensor, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
        """(T,) samples at `sample_rate` Hz -> (D,) float32.

        Raises: ValueError: wrong shape, integers, NaN, less than 0.1 s, or a rate that cannot be resampled.
        """
        return self.embed_batch([waveform], sample_rate)[0]

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
        return embed_native(self.model, list(map(prepare, waveforms, rates)), self.max_samples)

    def windows(self, waveform: ArrayLike | torch.Tensor, sample_rate: int = SAMPLE_RATE, window: float = 1.5,
                shift: float = 0.75) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of sliding windows; the last window ends at the end of the recording.

        Args:
            window: seconds, 0.1 or more; a shorter recording is one window.   shift: seconds, 0.01 or more.
        Returns: (N, 2) start and end in seconds, and (N, D) float32.
        Raises: ValueError: see embed; or window or shift is too short.
        """
        wave = prepare(waveform, sample_rate)
        starts, length = window_starts(len(wave), window, shift)
        embeddings = embed_native(self.model, [wave[start : start + length] for start in starts], self.max_samples)
        times = np.column_stack([starts, starts + length]) / SAMPLE_RATE
        return np.minimum(times, np.shape(waveform)[0] / sample_rate), embeddings

    def embed_each(self, waves: Iterable[tuple[str, np.ndarray, int]]) -> Iterator[tuple[str, np.ndarray]]:
        """(name, (T,) waveform, rate in Hz) -> (name, (D,) embedding), in the same order; reads some minutes ahead.

        Raises: ValueError: see embed.
        """
        for part in buffered(waves, BUFFER_SAMPLES):
            names, signals, rates = zip(*part)
            yield from zip(names, self.embed_batch(signals, rates))


def fingerprint(config: Config, state: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a model's configuration and the names, types, shapes and values of its tensors."""
    digest = hashlib.sha256(repr(sorted(config.model.items())).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
