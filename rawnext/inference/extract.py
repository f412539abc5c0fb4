# SPDX-License-Identifier: Apache-2.0
"""Embeddings of utterances with a trained model, by one of two protocols.

native: the whole utterance, at its true length, in one pass. Unequal lengths share a zero-padded batch, whose masks
    give each the embedding that it has alone.
paper: what the published figures were measured with. Pre-emphasised, then segments of 59,049 samples, evenly spread,
    their embeddings averaged; shorter speech is repeated up to that length.
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
# Of a padded batch, at the most (unless one utterance is longer). A CPU gains nothing by more than its caches hold, and
# loses by the padding of a wider spread of lengths.
BATCH_SAMPLES = 16 * 59050
CPU_BATCH_SAMPLES = 4 * 59050


def load_model(exp: PathLike, device: torch.device) -> tuple[nn.Module, Config]:
    """The trained model of an experiment folder, in evaluation mode, and its configuration."""
    config = load_config([Path(exp) / "config.yaml"])
    try:
        model = MODELS.build(*split_name(config.model))
    except ValueError as error:
        raise InputError(Path(exp) / "config.yaml", None, str(error)) from None
    checkpoint.load_weights(model, exp)
    return model.to(device).eval(), config


def device_of(model: nn.Module) -> torch.device:
    """Where a model's numbers are; a baseline without a network has buffers alone."""
    return next(itertools.chain(model.parameters(), model.buffers())).device


def segments(signal: np.ndarray, config: Extract, window: int = 0) -> np.ndarray:
    """Evenly spread segments of a pre-emphasised signal.

    Args:
        signal: (T,).   window: samples that are cut from the middle first, tiling what is shorter; 0: no cut.
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
    """(T,) waveform -> (D,): mean of its segments' embeddings."""
    device = device_of(model)
    signal = model.frontend(torch.from_numpy(wave).unsqueeze(0))[0].squeeze(0).numpy()
    parts = segments(signal, config, window)
    if (parts[1:] == parts[:1]).all():  # a tiled utterance: all segments are the same one
        parts = parts[:1]
    return model.embed(torch.from_numpy(parts).to(device)).double().mean(0).cpu().numpy()


@torch.inference_mode()
def embed_native(model: nn.Module, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """N waveforms of any lengths -> N embeddings (D,), in padded batches of similar lengths."""
    device = device_of(model)
    result: list[Any] = [None] * len(waves)
    most = CPU_BATCH_SAMPLES if device.type == "cpu" else BATCH_SAMPLES
    for batch in batches_by_length([len(w) for w in waves], most):
        lengths = torch.tensor([len(waves[i]) for i in batch])
        padded = nn.utils.rnn.pad_sequence([torch.from_numpy(waves[i]) for i in batch], batch_first=True)
        embeddings: Tensor = model(padded.to(device), lengths.to(device))
        for i, embedding in zip(batch, embeddings.cpu().numpy()):
            result[i] = embedding
    return result


def batches_by_length(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Positions in batches of similar length, padded size at most `most` (or one utterance)."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[i] > most:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def embed_all(model: nn.Module, waves: Iterable[tuple[str, np.ndarray]], protocol: str, config: Extract,
              duration: float = 0, chunk: int = 256) -> Iterator[tuple[str, np.ndarray]]:
    """(utt, (T,) waveform) -> (utt, (D,) embedding), in the order they come.

    Args:
        duration: seconds cut from the middle of each utterance; 0: all of it.
        chunk: utterances held in memory to be batched by length.
    """
    window = round(duration * SAMPLE_RATE)
    if protocol == "paper":
        for utt, wave in waves:
            yield utt, embed_paper(model, wave, config, window)
        return
    held: list[tuple[str, np.ndarray]] = []

    def flush() -> Iterator[tuple[str, np.ndarray]]:
        yield from zip([utt for utt, _ in held], embed_native(model, [wave for _, wave in held]))
        held.clear()

    for utt, wave in waves:
        held.append((utt, centre_crop(wave, window) if window else wave))
        if len(held) == chunk:
            yield from flush()
    yield from flush()
