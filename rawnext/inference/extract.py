# SPDX-License-Identifier: Apache-2.0
"""Embeddings of utterances with a trained model, by one of two protocols.

native: the whole utterance in one pass. Utterances of different lengths share a zero-padded batch; masks give each the
    embedding that it has alone. An utterance longer than LONGEST_SAMPLES is cut into equal pieces, and its embedding is
    the mean of theirs: memory grows with length, and no model was trained on longer utterances.
paper: the protocol of the published results. The mean of the embeddings of evenly spaced segments of 59,049 samples of
    the pre-emphasised utterance; shorter speech is repeated up to that length.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from rawnext.config import Config, Extract, load_config, split_name
from rawnext.data.cuts import SAMPLE_RATE, centre_crop
from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.identity import weights_path
from rawnext.models import MODELS
from rawnext.training import checkpoint

PROTOCOLS = ("native", "paper")
LONGEST_SAMPLES = 16 * 59050  # of one pass; the full RawNeXt takes 0.5 GiB for it
MOST_MODULES = 5000  # of a model; RawNeXt has 400, MR-RawNet 900
BUFFER_SAMPLES = 16 * LONGEST_SAMPLES  # read before they are batched by length: 60 MB
# Largest padded batch, unless a single piece is longer. On a CPU, batches larger than its caches bring no gain, and
# their wider spread of lengths costs padding. On a GPU the full RawNeXt takes 2 GiB.
CPU_BATCH_SAMPLES = 4 * 59050
GPU_BATCH_SAMPLES = 64 * 59050


def load_model(exp: PathLike, device: torch.device | str = "cpu") -> tuple[Any, Config]:
    """The trained model of an experiment folder, in evaluation mode, and its configuration.

    Raises: InputError: a file is missing or damaged, or the weights belong to another model.
    """
    path = Path(exp) / "config.yaml"
    config = load_config([path])
    state = checkpoint.load_state(exp)
    for place in ("meta", "cpu"):  # shapes alone first: those of a tampered configuration may not fit in memory
        try:
            with torch.device(place), WithoutRandomValues(), limited_modules():
                model = MODELS.build(*split_name(config.model))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise InputError(path, None, str(error)) from None
        checkpoint.set_weights(model, state, weights_path(exp))
    return model.to(device).eval(), config


class WithoutRandomValues(TorchFunctionMode):
    """In the block, weights keep what is in memory: they are loaded afterwards. On the meta device torch would import
    its compiler to draw random values, which takes 3 s."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def limited_modules() -> Iterator[None]:
    """In the block, a model of more than MOST_MODULES modules is a ValueError, before they fill the memory."""
    total = itertools.count(1)

    def count(*_) -> None:
        if next(total) > MOST_MODULES:
            raise ValueError(f"more than {MOST_MODULES:,} modules")

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def device_of(model: nn.Module) -> torch.device:
    """The device of a model; a baseline without a network has only buffers."""
    return next(itertools.chain(model.parameters(), model.buffers())).device


def is_gpu(device: torch.device) -> bool:
    return device.type != "cpu"


def segments(signal: Tensor, config: Extract, window: int = 0) -> Tensor:
    """Evenly spaced segments of a pre-emphasised signal, on its device.

    Args:
        signal: (T,).   window: samples to cut from the middle first (a shorter signal is repeated); 0: no cut.
    Returns: (S, samples); one segment if all are equal, because the signal is repeated up to their length.
    Source: the evaluation of the released RawNeXt code.
    """
    if window:
        signal = signal.repeat(window // len(signal) + 1)
        start = len(signal) // 2 - window // 2  # as in centre_crop
        signal = signal[start : start + window]
    if len(signal) < config.samples:
        signal = signal.repeat(-(-config.samples // len(signal)))[: config.samples]
    num = config.short_segments if window else config.segments
    starts = np.linspace(0, len(signal) - config.samples, num).astype(int)
    return torch.stack([signal[s : s + config.samples] for s in (starts if starts.any() else starts[:1])])


@torch.inference_mode()
def embed_paper(model: Any, waves: Sequence[np.ndarray], config: Extract, window: int = 0) -> Iterator[np.ndarray]:
    """N waveforms (T,) -> N means (D,) of the embeddings of their segments; on a GPU utterances share batches."""
    device = device_of(model)
    parts = [segments(model.frontend(torch.from_numpy(wave).to(device).unsqueeze(0))[0].squeeze(0), config, window)
             for wave in waves]
    most = GPU_BATCH_SAMPLES // config.samples if is_gpu(device) else 1  # segments in a batch, or those of an utterance
    while parts:
        num = max(1, sum(total <= most for total in itertools.accumulate(map(len, parts))))
        found = model.embed(torch.cat(parts[:num])).double().split([len(part) for part in parts[:num]])
        yield from torch.stack([part.mean(0) for part in found]).cpu().numpy()
        parts = parts[num:]


@torch.inference_mode()
def embed_native(model: nn.Module, waves: Sequence[np.ndarray], longest: int = LONGEST_SAMPLES) -> np.ndarray:
    """N waveforms (T,) of any lengths -> (N, D) float32, in padded batches of similar lengths.

    Args: longest: samples of one pass; a longer waveform is cut into equal pieces, whose embeddings are averaged.
    """
    device = device_of(model)
    pieces = [np.array_split(wave, -(-len(wave) // longest)) for wave in waves]
    flat = [torch.from_numpy(piece) for parts in pieces for piece in parts]
    max_samples = GPU_BATCH_SAMPLES if is_gpu(device) else CPU_BATCH_SAMPLES
    found, order = [], []
    for batch in batches_by_length([len(piece) for piece in flat], max_samples):
        lengths = torch.tensor([len(flat[i]) for i in batch])
        padded = nn.utils.rnn.pad_sequence([flat[i] for i in batch], batch_first=True)
        found.append(model(padded.to(device), lengths.to(device)))
        order += batch
    embeddings = torch.cat(found).cpu().numpy()[np.argsort(order)]
    counts = np.array([len(parts) for parts in pieces])
    sums = np.add.reduceat(embeddings.astype(np.float64), np.cumsum(counts) - counts, axis=0)
    return (sums / counts[:, None]).astype(np.float32)


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


Item = TypeVar("Item", bound=tuple)


def buffered(items: Iterable[Item], max_samples: int, chunk: int = 0) -> Iterator[list[Item]]:
    """Lists of consecutive items (name, waveform, ...).

    A list ends when it has max_samples samples, and after each `chunk` items since the start (0: no such limit).
    """
    buffer: list[Item] = []
    number = num_samples = 0
    for item in items:
        number += 1  # noqa: SIM113 (enumerate would keep the item)
        buffer.append(item)
        num_samples += len(item[1])
        del item  # the waveform may be freed before the next one is read
        if num_samples >= max_samples or (chunk and number % chunk == 0):
            yield buffer
            buffer, num_samples = [], 0
    if buffer:
        yield buffer


def embed_all(model: nn.Module, waves: Iterable[tuple[str, np.ndarray]], protocol: str, config: Extract,
              duration: float = 0, chunk: int = 256) -> Iterator[tuple[str, np.ndarray]]:
    """(utt, (T,) waveform) -> (utt, (D,) embedding), in the same order.

    Args:
        duration: seconds cut from the middle of each utterance; 0: all of it.
        chunk: utterances that are read before they are batched; fewer if they are long.
    Raises: InputError: an embedding is not finite.
    """
    window = round(duration * SAMPLE_RATE)
    for part in buffered(waves, BUFFER_SAMPLES, chunk):
        utts, signals = zip(*part)
        found = (embed_paper(model, signals, config, window) if protocol == "paper" else
                 embed_native(model, [centre_crop(w, window) if window else w for w in signals]))
        for utt, vector in zip(utts, found):
            if not np.isfinite(vector).all():
                raise InputError(utt, None, "the model gives an embedding that is not finite")
            yield utt, vector
        del part, signals  # before more is read
