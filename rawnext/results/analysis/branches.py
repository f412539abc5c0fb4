# SPDX-License-Identifier: Apache-2.0
"""How the output of each resolution branch of RawNeXt changes with utterance length: the paper's eq. 8 and Fig. 2.

In a block, branch r contributes x^r (T, C): its output times the gate's weights, or its output if there is no gate.
With x_L for an utterance's middle L seconds, the variation score is the mean over t and c of x_L^r - x_1^r, averaged
over blocks and utterances: 0 at 1 s. Eq. 8 has one T for both terms, so the network must be fed equally long signals:

tiled: the middle L seconds, repeated up to the longest duration, as the paper's evaluation repeats short speech.
native: the middle L seconds alone, in which each term is a mean over its own T.

As in the paper's evaluation the signal is pre-emphasised, then cut and repeated.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rawnext.data.cuts import SAMPLE_RATE, centre_crop, tile
from rawnext.inference.extract import LONGEST_SAMPLES, device_of
from rawnext.models.block import Block
from rawnext.models.masking import time_mean

BRANCHES = ("original", "low", "high")  # in the order of the gate's weights


def check_branches(model: nn.Module) -> None:
    """Raise ValueError if no block has branches at several resolutions."""
    if not any(block.low is not None for block in blocks_of(model).values()):
        raise ValueError(f"{type(model).__name__} has no branches at several resolutions here; an elastic RawNeXt has")


def blocks_of(model: nn.Module) -> dict[str, Block]:
    return {name: module for name, module in model.named_modules() if isinstance(module, Block)}


def contributions(block: Block, x: Tensor, lengths: Tensor | None) -> Tensor:
    """A block's input (B, T, I) -> (B, n) means over t and c of its branches; the gate's weights do not depend on t."""
    means = [time_mean(output, lengths) for output in block.branches(x, lengths)]  # (B, C) each
    weights = 1.0 if block.gate is None else block.gate(means)
    return (weights * torch.stack(means, -1)).double().mean(1)


@contextlib.contextmanager
def watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """By the blocks' names, their contributions in the last pass of the model, until the end of the `with`."""
    found: dict[str, Tensor] = {}

    def keep(name: str, block: Block, inputs: tuple) -> None:
        found[name] = contributions(block, *inputs)

    with contextlib.ExitStack() as hooks:
        for name, block in blocks_of(model).items():
            hooks.enter_context(block.register_forward_pre_hook(partial(keep, name)))
        yield found


def branches_of(model: nn.Module) -> list[str]:
    block = next(iter(blocks_of(model).values()))
    return [name for name in BRANCHES if getattr(block, name) is not None]


@torch.inference_mode()
def variation(model: Any, waves: Iterable[np.ndarray], durations: Sequence[float], policy: str) -> np.ndarray:
    """Variation scores of N utterances, block by block.

    Args:
        model: in evaluation mode; see check_branches.   waves: N of (T,); one shorter than a duration is repeated.
        durations: L of them, in seconds.   policy: tiled or native.
    Returns: (N, L, blocks, branches) float64, in the order of blocks_of and branches_of.
    """
    longest = max(durations)
    size = max(1, int(LONGEST_SAMPLES / (longest * SAMPLE_RATE)))
    parts: list[np.ndarray] = []
    batch: list[np.ndarray] = []

    def measure(seconds: float) -> np.ndarray:
        """(B, blocks, branches) contributions for the middle seconds of the batch."""
        num = round(seconds * SAMPLE_RATE)
        signals = [tile(centre_crop(signal, num), num) for signal in batch]
        if policy == "tiled":
            signals = [tile(signal, round(longest * SAMPLE_RATE)) for signal in signals]
        model.embed(torch.from_numpy(np.stack(signals)).to(device_of(model)))
        return torch.stack([found[name] for name in blocks_of(model)], 1).cpu().numpy()

    def flush() -> None:
        at = {seconds: measure(seconds) for seconds in {1.0, *durations}}  # a set: the score at 1 s is exactly 0
        parts.append(np.stack([at[seconds] - at[1.0] for seconds in durations], 1))
        batch.clear()

    with watched(model) as found:
        for wave in waves:
            batch.append(model.frontend(torch.from_numpy(wave).unsqueeze(0))[0].squeeze(0).numpy())
            if len(batch) == size:
                flush()
        if batch:
            flush()
    return np.concatenate(parts)


def table(scores: np.ndarray, durations: Sequence[float], blocks: Sequence[str], branches: Sequence[str]) -> list[str]:
    """Lines of TSV: the average over blocks first, then each block; stderr is that of the mean over utterances."""
    lines = ["block\tbranch\tseconds\tscore\tstderr\tnum_utts"]
    for name, part in (("all", scores.mean(2)), *((block, scores[:, :, k]) for k, block in enumerate(blocks))):
        mean, error = summary(part)
        lines += [f"{name}\t{branch}\t{seconds:g}\t{mean[i, j]:.6g}\t{error[i, j]:.6g}\t{len(scores)}"
                  for j, branch in enumerate(branches) for i, seconds in enumerate(durations)]
    return lines


def summary(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over utterances, and its standard error (NaN for a single utterance): (N, L, R) -> twice (L, R)."""
    error = part.std(0, ddof=1) / np.sqrt(len(part)) if len(part) > 1 else np.full(part.shape[1:], np.nan)
    return part.mean(0), error
