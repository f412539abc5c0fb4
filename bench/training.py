# SPDX-License-Identifier: Apache-2.0
"""Speed of training: a step of our RawNeXt against the published order of operations and the peaks of the hardware.

Steps (forward, backward, optimiser) of the full model on random waveforms of the paper's crop, timed alternately on the
CPU; bench/gpu.py measures them on a GPU. Then the roofline (operations of a step against the rate of a large matrix
product, bytes of its feature maps against the rate of a copy) and a profile.
"""

import dataclasses
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.published import PublishedTask
from bench.timing import Program, Ratio, compare, in_turns
from rawnext.config import Config
from rawnext.models.layers import channels_last_conv1d
from rawnext.training.optim import build_optimizer
from rawnext.training.task import build_task

SPEAKERS = 5994  # of VoxCeleb2
BATCH = 8  # takes 5 GiB


class Step:
    """A training step, as a callable: our task, or the published form with torch's plain Adam."""

    def __init__(self, config: Config, batch: int, published: bool = False, amp: torch.dtype | None = None,
                 device: str = "cpu", speakers: int = SPEAKERS):
        torch.manual_seed(0)
        task = build_task(config, speakers).to(device).train()
        self.amp = amp
        self.optimizer: Any = build_optimizer(task, config.optim)
        if published:
            self.optimizer = torch.optim.Adam(task.parameters(), lr=config.optim.lr, amsgrad=config.optim.amsgrad)
        self.task = PublishedTask(task) if published else task
        self.wave = 0.1 * torch.randn(batch, config.crop.samples, device=device)
        self.label = torch.arange(batch, device=device) // config.batch.utts % speakers

    def forward(self) -> torch.Tensor:
        with torch.autocast(self.wave.device.type, self.amp, enabled=self.amp is not None):
            return self.task(self.wave, self.label)[0]

    def forward_backward(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.forward().backward()

    def __call__(self) -> None:
        self.forward_backward()
        self.optimizer.step()


def counts(step: Step) -> tuple[float, float]:
    """Operations of a step, and bytes of the tensors that its forward pass keeps for the backward pass."""
    with FlopCounterMode(display=False) as counter:
        step.forward_backward()
    kept: dict[int, int] = {}  # by address, because several layers keep the same tensor

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = step.forward()
    del loss
    parameters = sum(p.untyped_storage().nbytes() for p in step.task.parameters())
    return counter.get_total_flops(), sum(kept.values()) - parameters


def roofline(step: Step, rounds: int) -> list[str]:
    """The operations of a step against the rate of a matrix product, and its bytes against the rate of a copy."""
    (flops, map_bytes), batch, n = counts(step), len(step.label), 3072
    a, b = (torch.randn(n, n) for _ in range(2))
    x = torch.randn(1 << 25)
    y = torch.empty_like(x)
    times = in_turns([lambda: a @ b, lambda: y.copy_(x), step], rounds)
    product, copy, step_s = map(min, times)
    flop_s, byte_s = 2 * n**3 / product, 2 * x.nbytes / copy
    floor = flops / flop_s
    return [
        f"a step of {batch}: {flops / 1e9:.1f} GFLOP ({flops / 1e9 / batch:.1f} per utterance); a matrix product "
        f"reaches {flop_s / 1e9:,.0f} GFLOP/s: at least {floor:.3f} s",
        f"feature maps kept for the backward pass: {map_bytes / 2**20:,.0f} MiB, a copy moves {byte_s / 1e9:.1f} GB/s: "
        f"at least {3 * map_bytes / byte_s:.3f} s to write them once and read them twice",
        f"measured: {step_s:.3f} s; {floor / step_s:.0%} of the matrix product's rate"]


KINDS = {"matrix products": ("mm", "bmm", "addmm", "baddbmm"), "convolutions": ("conv",), "BatchNorm": ("batch_norm",),
         "optimiser": ("adam", "optimizer"), "copies and sums over frames": ("copy_", "cat", "sum", "mean", "div")}


def profile(step: Step) -> dict[str, float]:
    """Share of a step's time by kind of work."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        step()
    shares = dict.fromkeys([*KINDS, "the rest (ReLU, max, additions, softmax)"], 0.0)
    for event in seen.key_averages():
        name, own = event.key.lower(), event.self_cpu_time_total
        kind = next((kind for kind, words in KINDS.items() if any(
            name.removeprefix("aten::").startswith(w) or (len(w) > 3 and w in name) for w in words)), list(shares)[-1])
        shares[kind] += own
    total = sum(shares.values())
    return {name: own / total for name, own in shares.items()}


def with_torch_convolution(step: Step) -> None:
    """Run a step with gradients of dense convolutions by torch."""
    def conv1d(layer, x: torch.Tensor) -> torch.Tensor:
        return channels_last_conv1d(x, layer.weight, layer.bias, layer.stride[0], layer.padding[0], layer.dilation[0],
                                    layer.groups)

    with mock.patch("rawnext.models.rawnext.conv1d", conv1d):
        step()


def rows(config: Config | None = None, batch: int = BATCH, rounds: int = 3) -> list[Ratio]:
    """Ours against the published form, then against ours without one of the gains."""
    config = config or Config()
    what = f"step, {batch} x {config.crop.samples:,} samples"
    published = "published order, float32", Step(config, batch, published=True)

    def against(before: tuple[str, Program], name: str, after: Step) -> Ratio:
        return compare(what, batch, "utts", before, (name, after), rounds)

    ours = Step(config, batch)
    plain = Step(dataclasses.replace(config, model={**config.model, "fast": False}), batch)
    found = [against(published, "ours, float32", ours),
             against(("plain blocks, channels last", plain), "composed blocks", ours)]
    by_torch = "convolutions' gradients by torch", partial(with_torch_convolution, ours)
    found.append(against(by_torch, "by matrix products", ours))
    return [*found, compare("the optimiser alone", 1, "steps",
                            ("Adam, tensor by tensor", published[1].optimizer.step),
                            ("fused", ours.optimizer.step), rounds)]


def notes() -> list[str]:
    """Roofline and profile of our step."""
    step = Step(Config(), BATCH)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in profile(step).items())
    return [*roofline(step, 3), f"profile: {shares}"]
