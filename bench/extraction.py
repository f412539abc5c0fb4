# SPDX-License-Identifier: Apache-2.0
"""Hours of speech that one CPU thread embeds per second, by several ways to extract.

A full-size RawNeXt with random weights, on noise with VoxCeleb's durations. The result column is the largest difference
from the plain model's embeddings, relative to their largest value.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.timing import Ratio, in_turns, ratio
from rawnext.config import Extract
from rawnext.inference.extract import embed_native, embed_paper
from rawnext.models import MODELS
from rawnext.models.folded import folded

RATE = 16000
Waves = list[np.ndarray]
Embed = Callable[[Waves], Any]  # returns N vectors
WHOLE = [("one at a time", "batches"), ("one at a time", "one at a time, folded"), ("one at a time", "batches, folded")]
SEGMENTS = [("ten segments", "one at a time, folded")]


def noise(num: int) -> Waves:
    """Noise of 4 to 20 s with the distribution of VoxCeleb's durations, mostly short."""
    rng = np.random.default_rng(0)
    seconds = np.clip(4 + rng.exponential(4.2, num), 4, 20)
    return [0.1 * rng.standard_normal(int(s * RATE), dtype=np.float32) for s in seconds]


def hours(waves: Waves) -> float:
    return sum(map(len, waves)) / RATE / 3600


def alone(model, waves: Waves) -> Waves:
    return [embed_native(model, [wave])[0] for wave in waves]


def ten_segments(model, waves: Waves) -> Waves:
    return list(embed_paper(model, waves, Extract()))


def ways(model) -> dict[str, Embed]:
    """Name -> function that embeds a list of waveforms."""
    quick = folded(model)
    return {"one at a time": partial(alone, model), "batches": partial(embed_native, model),
            "ten segments": partial(ten_segments, model), "one at a time, folded": partial(alone, quick),
            "batches, folded": partial(embed_native, quick)}


def pairs(what: str, options: dict[str, Embed], waves: Waves, which: Sequence[tuple[str, str]],
          rounds: int = 2) -> Iterator[Ratio]:
    """The rows (before, after) of `which`; each way runs once per round, even if several rows use it."""
    names = sorted({name for pair in which for name in pair})
    times = dict(zip(names, in_turns([partial(options[name], waves) for name in names], rounds)))
    plain = np.stack(options["one at a time"](waves))
    for before, after in which:
        differs = np.abs(np.stack(options[after](waves)) - plain).max() / np.abs(plain).max()
        yield ratio(what, hours(waves), "h", (before, times[before]), (after, times[after]), f"{differs:.1e}")


def rows() -> list[Ratio]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options, waves = ways(MODELS.build("rawnext", {}).eval()), noise(6)
    return [*pairs("whole utterances", options, waves, WHOLE), *pairs("whole utterances", options, waves[:2], SEGMENTS),
            *pairs("1 s of each", options, [wave[:RATE] for wave in waves], WHOLE[1:])]
