# SPDX-License-Identifier: Apache-2.0
"""Embeddings of utterances with a trained model, by one of two protocols.

native: the whole utterance in one pass. Utterances of different lengths share a zero-padded batch; masks give each the
    embedding that it has alone.
paper: the protocol of the published results. The mean of the embeddings of evenly spaced segments of 59,049 samples of
    the pre-emphasised utterance; shorter speech is repeated up to that length.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rawnext.config import Config, Extract, load_config, split_name
from rawnext.data.cuts import SAMPLE_RATE, centre_crop, tile
from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.models import MODELS
from rawnext.training import checkpoint

PROTOCOLS = ("native", "paper")
# Largest padded batch, unless a single utterance is longer. On a CPU, batches larger than its caches bring no gain, and
# their wider spread of lengths costs padding.
BATCH_SAMPLES = 16 * 59050
CPU_BATCH_SAMPLES = 4 * 59050


def load_model(exp: PathLike, device: torch.device | str = "cpu") -> tuple[Any, Config]:
    """The trained model of an experiment folder, in evaluation mode, and its configuration.

    Raises: InputError: a file is missing or damaged, or the weights belong to another model.
    """
    config = load_config([Path(exp) / "config.yaml"])
    try:
        model = MODELS.build(*split_name(config.model))
    except ValueError as error:
        raise InputError(Path(exp) / "config.yaml", None, str(error)) from None
    checkpoint.load_weights(model, exp)
    return model.to(device).eval(), config


def device_of(model: nn.Module) -> torch.device:
    """The device of a model; a baseline without a network has only buffers."""
    return next(itertools.chain(model.parameters(), model.buffers())).device


def segments(signal: np.ndarray, config: Extract, window: int = 0) -> np.ndarray:
    """Evenly spaced segments of a pre-emphasised signal.

    Args:
        signal: (T,).   window: samples to cut from the middle first (a shorter signal is repeated); 0: no cut.
    Returns: (S, samples).
    Source: the evaluation of the released RawNeXt code.
    """
    if window:
        signal = centre_crop(np.tile(signal, window // len(signal) + 1) if len(signal) <= window else signal, window)
    signal = tile(signal, max(len(signal), config.samples))
    num = config.short_segments if window else config.segments
    starts = np.linspace(0, len(signal) - config.samples, num).astype(int)
    return np.stack([signal[s : s + config.samples] for s in starts])


@torch.inference_mode()
def embed_paper(model: Any, wave: np.ndarray, config: Extract, window: int = 0) -> np.ndarray:
    """(T,) waveform -> (D,) mean of the embeddings of its segments."""
    device = device_of(model)
    signal = model.frontend(torch.from_numpy(wave).unsqueeze(0))[0].squeeze(0).numpy()
    parts = segments(signal, config, window)
    if (parts[1:] == parts[:1]).all():  # a repeated utterance: all segments are equal
        parts = parts[:1]
    return model.embed(torch.from_numpy(parts).to(device)).double().mean(0).cpu().numpy()


@torch.inference_mode()
def embed_native(model: nn.Module, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """N waveforms of any lengths -> N embeddings (D,), in padded batches of similar lengths."""
    device = device_of(model)
    result: list[Any] = [None] * len(waves)
    max_samples = CPU_BATCH_SAMPLES if device.type == "cpu" else BATCH_SAMPLES
    for batch in batches_by_length([len(w) for w in waves], max_samples):
        lengths = torch.tensor([len(waves[i]) for i in batch])
        padded = nn.utils.rnn.pad_sequence([torch.from_numpy(waves[i]) for i in batch], batch_first=True)
        embeddings: Tensor = model(padded.to(device), lengths.to(device))
        for i, embedding in zip(batch, embeddings.cpu().numpy()):
            result[i] = embedding
    return result


def batches_by_length(lengths: Sequence[int], max_samples: int) -> Iterator[list[int]]:
    """Positions grouped by similar length, with a padded size of at most max_samples (or a single utterance)."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[i] > max_samples:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def embed_all(model: nn.Module, waves: Iterable[tuple[str, np.ndarray]], protocol: str, config: Extract,
              duration: float = 0, chunk: int = 256) -> Iterator[tuple[str, np.ndarray]]:
    """(utt, (T,) waveform) -> (utt, (D,) embedding), in the same order.

    Args:
        duration: seconds cut from the middle of each utterance; 0: all of it.
        chunk: utterances that are read before they are batched by length.
    """
    window = round(duration * SAMPLE_RATE)
    if protocol == "paper":
        for utt, wave in waves:
            yield utt, embed_paper(model, wave, config, window)
        return
    cut = ((utt, centre_crop(wave, window) if window else wave) for utt, wave in waves)
    while part := list(itertools.islice(cut, chunk)):
        yield from zip([utt for utt, _ in part], embed_native(model, [wave for _, wave in part]))
