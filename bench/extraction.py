#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hours of speech embedded per second by several ways to extract, and the difference of their results.

bench/extraction.py
bench/extraction.py --exp exp/rawnext --data data/test --trials data/test/trials

Uses one CPU thread except in the last row. The default is a full-size RawNeXt with random weights on noise with
VoxCeleb's durations; the result column is then the largest difference from the plain model's embeddings, relative to
their largest value. With --exp it is a trained model on the first --utts utterances of a data directory, and with
--trials the result is the EER of the list.
"""

import argparse
import functools
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.timing import Growth, Ratio, compare, growth, growth_table, in_turns, ratio, ratio_table
from rawnext.errors import run_main

PART, RATE = "extraction", 16000
Waves = list[np.ndarray]
Embed = Callable[[Waves], Any]
_job: Any = None  # (model, waves) of a pool's process


def noise(num: int) -> Waves:
    """Noise of 4 to 20 s with the distribution of VoxCeleb's durations, mostly short."""
    rng = np.random.default_rng(0)
    seconds = np.clip(4 + rng.exponential(4.2, num), 4, 20)
    return [0.1 * rng.standard_normal(int(s * RATE), dtype=np.float32) for s in seconds]


def hours(waves: Waves) -> float:
    return sum(map(len, waves)) / RATE / 3600


def build(exp: str):
    """The trained model of an experiment, or a full-size RawNeXt without one."""
    import torch

    from rawnext.inference.extract import load_model
    from rawnext.models import MODELS

    torch.manual_seed(0)
    return load_model(exp, torch.device("cpu"))[0] if exp else MODELS.build("rawnext", {}).eval()


def alone(model, waves: Waves) -> Waves:
    return [batches(model, [wave])[0] for wave in waves]


def batches(model, waves: Waves) -> Waves:
    from rawnext.inference.extract import embed_native

    return embed_native(model, waves)


def ten_segments(model, waves: Waves) -> Waves:
    from rawnext.config import Extract
    from rawnext.inference.extract import embed_paper

    return [embed_paper(model, wave, Extract()) for wave in waves]


def in_bfloat16(model, waves: Waves) -> Waves:
    import torch

    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        return [model(torch.from_numpy(wave)[None])[0].float().numpy() for wave in waves]


def in_onnx(runtime, waves: Waves) -> Waves:
    return [runtime(wave[None], np.array([len(wave)]))[0] for wave in waves]


def onnx_models(model, num_threads: int) -> tuple:
    """The model in ONNX Runtime, in float32 and with 8-bit matrices."""
    from onnxruntime.quantization import quantize_dynamic

    from rawnext.export.onnx import OnnxModel, trace

    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        trace(model, plain)
        quantize_dynamic(plain, small, op_types_to_quantize=["MatMul", "Gemm"])
        return OnnxModel(plain, num_threads), OnnxModel(small, num_threads)


class Trials:
    """Quality of embeddings: EER in % on a trial list, or the difference from the plain model's embeddings."""

    def __init__(self, reference: Waves, utts: Sequence[str], trials: str):
        self.reference, self.utts, self.trials = np.stack(reference), utts, trials

    def __call__(self, embeddings: Waves) -> str:
        found = np.stack([np.asarray(vector, np.float32) for vector in embeddings])
        if not self.trials:
            return f"{np.abs(found - self.reference).max() / np.abs(self.reference).max():.1e}"
        from rawnext.kaldi.tables import read_trials
        from rawnext.scoring.cosine import cosine_scores
        from rawnext.scoring.metrics import eer

        trials, place = read_trials(self.trials), {utt: i for i, utt in enumerate(self.utts)}
        enroll, test = ([place[utt] for utt in side] for side in trials[:2])
        scores = cosine_scores(found, found, enroll, test)
        return f"EER {100 * eer(scores[trials.is_target], scores[~trials.is_target]):.3f} %"


def set_up(exp: str, num_threads: int, waves: Waves) -> None:
    """Set the model, threads and speech of a pool's process."""
    import torch

    from rawnext.models.folded import folded

    global _job
    torch.set_num_threads(num_threads)
    _job = folded(build(exp)), waves


def work(share: slice) -> int:
    model, waves = _job
    return len(batches(model, waves[share]))


def pool_of(exp: str, processes: int, num_threads: int, waves: Waves):
    return multiprocessing.get_context("spawn").Pool(processes, set_up, (exp, num_threads, waves))


def processes_row(exp: str, waves: Waves, rounds: int) -> Ratio:
    """One process with a thread per CPU against one process per CPU."""
    cpus = len(os.sched_getaffinity(0))
    with pool_of(exp, 1, cpus, waves) as one, pool_of(exp, cpus, 1, waves) as many:
        shares = [slice(i, None, cpus) for i in range(cpus)]
        return compare(PART, "a data directory", hours(waves), "h", (f"1 process, {cpus} threads",
                       lambda: one.map(work, [slice(None)])), (f"{cpus} processes, 1 thread",
                       lambda: many.map(work, shares, chunksize=1)), rounds, "same embeddings")


def ways(model, num_threads: int) -> dict[str, Embed]:
    """Name -> function that embeds a list of waveforms."""
    from rawnext.models.folded import folded

    quick = folded(model)
    runtime, small = onnx_models(model, num_threads)
    calls: dict[str, tuple[Callable[[Any, Waves], Any], Any]] = {
        "one at a time": (alone, model), "batches": (batches, model), "ten segments": (ten_segments, model),
        "one at a time, folded": (alone, quick), "batches, folded": (batches, quick),
        "bfloat16": (in_bfloat16, quick), "ONNX Runtime": (in_onnx, runtime), "ONNX Runtime, int8": (in_onnx, small)}
    return {name: functools.partial(embed, engine) for name, (embed, engine) in calls.items()}


WHOLE = [("one at a time", "batches"), ("one at a time", "one at a time, folded"), ("one at a time", "batches, folded"),
         ("one at a time, folded", "ONNX Runtime"),
         ("one at a time, folded", "ONNX Runtime, int8")]
SEGMENTS = [("ten segments", "one at a time, folded")]
SHORT = [("one at a time", "one at a time, folded"), ("one at a time", "batches, folded"),
         ("one at a time, folded", "ONNX Runtime"), ("one at a time, folded", "bfloat16")]


def pairs(what: str, options: dict[str, Embed], waves: Waves, which: Sequence[tuple[str, str]], utts: Sequence[str],
          trials: str, rounds: int) -> Iterator[Ratio]:
    """The rows (before, after) of `which`; each way runs once per round, even if several rows use it."""
    names = sorted({name for pair in which for name in pair})
    results: dict[str, Waves] = {}

    def run(name: str) -> None:
        results[name] = options[name](waves)

    times = dict(zip(names, in_turns([functools.partial(run, name) for name in names], rounds)))
    worth = Trials(results.get("one at a time") or options["one at a time"](waves), utts, trials)
    for before, after in which:
        kept = f"{worth(results[before])} -> {worth(results[after])}" if trials else worth(results[after])
        yield ratio(PART, what, hours(waves), "h", (before, times[before]), (after, times[after]), kept)


def rows(exp: str = "", waves: Waves | None = None, utts: Sequence[str] = (), trials: str = "", rounds: int = 2,
         ) -> list[Ratio]:
    """Ways to extract, in pairs. exp, waves, utts, trials: a trained model and its test set (default: random)."""
    import torch

    torch.set_num_threads(1)
    waves = waves or noise(6)
    options, few = ways(build(exp), 1), waves if trials else waves[:2]
    return [*pairs("whole utterances", options, waves, WHOLE, utts, trials, rounds),
            *pairs("whole utterances", options, few, SEGMENTS, utts, trials, rounds),
            *pairs("1 s of each", options, [wave[:RATE] for wave in waves], SHORT, utts, trials, rounds),
            processes_row(exp, waves, rounds)]


def growth_rows() -> list[Growth]:
    """Batches of a folded model on 1, 4 and 16 utterances."""
    from rawnext.models.folded import folded

    model, most = folded(build("")), noise(16)
    return [growth(PART, "utterances, 4 to 20 s each", 1, lambda num: batches(model, most[:num]), 1)]


def read(data: str, num: int) -> tuple[list[str], Waves]:
    """The first `num` utterances of a data directory; 0: all."""
    from rawnext.data.wav import check_sources, load_wave, read_sources

    sources = read_sources(data)[:num or None]
    check_sources(sources)
    return [source.utt for source in sources], [load_wave(source) for source in sources]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", default="", help="trained experiment")
    parser.add_argument("--data", default="", help="test data directory")
    parser.add_argument("--trials", default="", help="trial list of all of --data")
    parser.add_argument("--utts", type=int, default=0, help="number of utterances of --data; 0 (default): all")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each pair (default 2)")
    args = parser.parse_args()
    if bool(args.exp) != bool(args.data) or (args.trials and (not args.exp or args.utts)):
        parser.error("--exp and --data go together; --trials needs both, without --utts")
    utts, waves = read(args.data, args.utts) if args.data else ([], noise(6))
    print(*ratio_table(rows(args.exp, waves, utts, args.trials, args.rounds)), "", sep="\n", flush=True)
    print(*growth_table(growth_rows()), sep="\n")


if __name__ == "__main__":
    run_main(main)
