# SPDX-License-Identifier: Apache-2.0
"""Speed of training steps and of extraction on a GPU, as Markdown tables; bench/gpu.sh runs it.

python3 -m bench.gpu training compiled extraction

training: steps (forward, backward, optimiser) of conf/rawnext.yaml, 80 utterances of 59,050 samples, timed alternately,
    in several precisions and layouts. `of roofline` is the least time that the step's operations and feature maps take
    at the peaks of an H100 (PEAKS, BANDWIDTH), divided by the measured time.
compiled: the same with torch.compile, whose start takes minutes.
extraction: utterances of 4 to 20 s, in batches and one by one, by both protocols.
--dry: a tiny model on the CPU, which tests this program.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.modules._functions import SyncBatchNorm as SyncFunction

from bench.extraction import noise
from bench.timing import Ratio, compare, in_turns, print_rows, ratio
from bench.training import Step, counts
from rawnext.config import Config, Extract, load_config, split_name
from rawnext.dist import SyncBatchNorm, choose_device
from rawnext.errors import ArgumentParser, run_main
from rawnext.inference.extract import embed_native, embed_paper
from rawnext.models import MODELS
from rawnext.models.folded import folded
from rawnext.stamp import stamp

ROOT = Path(__file__).resolve().parents[1]
# Operations and bytes per second of an H100 SXM: NVIDIA's data sheet of the H100, in which TF32 and bf16 are given with
# sparsity; dense products reach half of that. The H200 has the same peaks and 4.8 TB/s.
PEAKS = {"fp32": 67e12, "TF32": 494.7e12, "bf16": 989.4e12}
BANDWIDTH = 3.35e12
BATCH, STEPS, ROUNDS, UTTS = 80, 5, 3, 96
TINY = {"name": "resnext", "channels": [8, 8, 16, 16, 16, 16], "blocks": [1, 1, 1, 1], "cardinality": 4,
        "embedding_dim": 8}


class Bench(NamedTuple):
    """What is measured, and how much of it.   steps: in each of `rounds`.   utts: for extraction."""

    device: torch.device
    config: Config
    batch: int
    steps: int
    rounds: int
    utts: int


class Variant(NamedTuple):
    """A way to run a step.   precision: a key of PEAKS.   context: active while it runs."""

    name: str
    precision: str
    step: Step
    context: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


class TorchSyncBatchNorm(torch.nn.BatchNorm1d):
    """torch's synchronised BatchNorm, which is a plain one in a group of one, with its communication."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return SyncFunction.apply(x, self.weight, self.bias, self.running_mean, self.running_var, self.eps,
                                  self.momentum, dist.group.WORLD, 1)


def with_norm(step: Step, kind: type) -> Step:
    for module in step.task.modules():
        if type(module) is torch.nn.BatchNorm1d:
            module.__class__ = kind
    return step


def contiguous_conv1d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: int = 1,
                      padding: int = 1, dilation: int = 1, groups: int = 1) -> torch.Tensor:
    """models/layers.py's channels_last_conv1d with a copy to (B, C, L), torch's usual layout."""
    y = F.conv1d(x.transpose(1, 2).contiguous(), weight, bias, stride, padding, dilation, groups)
    return y.transpose(1, 2).contiguous()


def variants(bench: Bench) -> Iterator[Variant]:
    def step(precision: str, published: bool = False) -> Step:
        return Step(bench.config, bench.batch, published, torch.bfloat16 if precision == "bf16" else None,
                    str(bench.device))

    yield Variant("published order, torch's layers, plain Adam", "fp32", step("fp32", True))
    for precision in PEAKS:
        yield Variant("ours", precision, step(precision))
    for precision in ("TF32", "bf16"):
        yield Variant("ours, convolutions not channels last", precision, step(precision),
                      lambda: mock.patch("rawnext.models.layers.channels_last_conv1d", contiguous_conv1d))
    yield Variant("ours, own SyncBatchNorm", "bf16", with_norm(step("bf16"), SyncBatchNorm),
                  lambda: mock.patch("rawnext.dist.rank_world", lambda: (0, 2)))  # 2: communicates in a group of one
    if bench.device.type == "cuda":
        yield Variant("ours, torch's SyncBatchNorm", "bf16", with_norm(step("bf16"), TorchSyncBatchNorm))


def run(bench: Bench, variant: Variant) -> None:
    torch.set_float32_matmul_precision("high" if variant.precision == "TF32" else "highest")
    tf32 = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=variant.precision == "TF32")
    with variant.context(), tf32:
        for _ in range(bench.steps):
            variant.step()
        if bench.device.type == "cuda":
            torch.cuda.synchronize()


def training(bench: Bench) -> Iterator[Ratio]:
    """Steps of all variants but the compiled one; prints the kernels that take most of a step's time."""
    dist.init_process_group("nccl" if bench.device.type == "cuda" else "gloo", store=dist.HashStore(), rank=0,
                            world_size=1)
    chosen = list(variants(bench))
    yield from step_rows(bench, chosen)
    print_kernels(bench, next(one for one in chosen if (one.name, one.precision) == ("ours", "bf16")))
    dist.destroy_process_group()


def compiled(bench: Bench) -> Iterator[Ratio]:
    train = dataclasses.replace(bench.config.train, compiled=True)
    after, before = (Step(config, bench.batch, amp=torch.bfloat16, device=str(bench.device))
                     for config in (dataclasses.replace(bench.config, train=train), bench.config))
    return step_rows(bench, [Variant("ours", "bf16", before), Variant("ours, compiled", "bf16", after)])


def step_rows(bench: Bench, chosen: Sequence[Variant]) -> Iterator[Ratio]:
    """A row per variant; ratios are to the first one, in the same round."""
    times = in_turns([partial(run, bench, variant) for variant in chosen], bench.rounds)
    for variant, own in zip(chosen, times):
        variant.step.task.compiled = None  # the counters do not see compiled operations
        flops, map_bytes = counts(variant.step)  # maps are written once and read twice
        floor = max(flops / PEAKS[variant.precision], 3 * map_bytes / BANDWIDTH)
        yield ratio(f"step, {bench.batch} x {bench.config.crop.samples:,} samples", bench.batch * bench.steps, "utts",
                    (chosen[0].name, times[0]), (f"{variant.name}, {variant.precision}", own),
                    f"{floor * bench.steps / min(own):.1%} of roofline, {flops / 1e9:,.1f} GFLOP, "
                    f"{map_bytes / 2**30:.2f} GiB of maps")


def print_kernels(bench: Bench, variant: Variant) -> None:
    """The five kernels that take most of a step's time (on a CPU: operations)."""
    activity = torch.profiler.ProfilerActivity
    device = "cuda" if bench.device.type == "cuda" else "cpu"
    with torch.profiler.profile(activities=[activity.CPU, *([activity.CUDA] if device == "cuda" else [])]) as seen:
        run(bench._replace(steps=1), variant)
    table = seen.key_averages().table(f"self_{device}_time_total", row_limit=5, max_name_column_width=90)
    print(f"\nThe longest kernels of a step of {variant.name}, {variant.precision}\n\n```\n{table}```", flush=True)


def extraction(bench: Bench) -> Iterator[Ratio]:
    torch.manual_seed(0)
    model = folded(MODELS.build(*split_name(bench.config.model)).to(bench.device).eval())
    waves, settings = noise(bench.utts), Extract()
    for name, batched in (("native", partial(embed_native, model)),
                          ("paper", lambda some: list(embed_paper(model, some, settings)))):
        alone = partial(lambda embed: [embed([wave]) for wave in waves], batched)
        yield compare(f"{bench.utts} utterances of 4 to 20 s, {name}", bench.utts, "utts", ("one by one", alone),
                      ("batches", partial(batched, waves)), bench.rounds)


PARTS: dict[str, Callable[[Bench], Iterator[Ratio]]] = {
    "training": training, "compiled": compiled, "extraction": extraction}


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("parts", nargs="+", choices=PARTS, help="what to measure")
    args = parser.parse_args()
    config = load_config([ROOT / "conf/rawnext.yaml"])
    if args.dry:
        bench = Bench(torch.device("cpu"), dataclasses.replace(config, model=TINY), 2, 1, 1, 3)
    else:
        bench = Bench(choose_device("cuda"), config, BATCH, STEPS, ROUNDS, UTTS)
    facts = stamp()
    print(f"{facts['hardware']}, torch {torch.__version__}, CUDA {torch.version.cuda}, {facts['date'][:10]}, commit "
          f"{facts['commit']}", flush=True)
    for part in args.parts:
        print_rows(PARTS[part](bench))


if __name__ == "__main__":
    run_main(main)
