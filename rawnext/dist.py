# SPDX-License-Identifier: Apache-2.0
"""Several processes as one: the group that torchrun starts, and gathering embeddings with their gradient."""

import os
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist


def init_process_group() -> torch.device:
    """Join the group that torchrun describes in the environment, by nccl on GPUs, else gloo; without torchrun, none.

    Returns: the device of this process: GPU number LOCAL_RANK, or the CPU.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local_rank >= (num_gpus := torch.cuda.device_count()):
            raise RuntimeError(f"process {local_rank} of this machine finds no GPU of its own: there are {num_gpus}")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        gpu = device.type == "cuda"
        dist.init_process_group("nccl" if gpu else "gloo", device_id=device if gpu else None)
    return device


def cleanup() -> None:
    """Leave the process group, if there is one."""
    if _initialised():
        dist.destroy_process_group()


def rank_world() -> tuple[int, int]:
    """(number of this process, how many there are); (0, 1) without a group."""
    return (dist.get_rank(), dist.get_world_size()) if _initialised() else (0, 1)


def is_main() -> bool:
    """Is this the process that writes files?"""
    return rank_world()[0] == 0


def all_gather_with_grad(x: torch.Tensor) -> torch.Tensor:
    """Concatenate the tensors of all processes by rank; the gradient flows back to every one of them.

    A loss computed in full on every process then gives, after DDP has averaged the parameters' gradients, exactly
    the gradient of a single process that holds the whole batch. Every process must bring the same shape.

    Args:
        x: (B, ...) of this process.
    Returns: (W * B, ...) for W processes; x itself without a group.
    """
    return x if rank_world()[1] == 1 else _Gather.apply(x)


def mean_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """Mean of each value over the processes; every process must call it."""
    if rank_world()[1] == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return (total / dist.get_world_size()).tolist()


def barrier() -> None:
    """Wait until every process is here."""
    if rank_world()[1] > 1:
        dist.barrier()


class Vote:
    """Does any process say yes? The answer comes one call later, so that neither processes nor GPUs wait for it."""

    def __init__(self, device: torch.device):
        self.device = device
        self.answer = torch.zeros((), dtype=torch.int32, pin_memory=device.type == "cuda")
        self.wait: Callable[[], object] | None = None

    def __call__(self, yes: bool) -> bool:
        """Every process must call it, equally often."""
        if rank_world()[1] == 1:
            return yes
        said = False
        if self.wait:
            self.wait()
            said = bool(self.answer)
        ballot = torch.full((), int(yes), dtype=torch.int32, device=self.device)
        work = dist.all_reduce(ballot, dist.ReduceOp.MAX, async_op=True)
        if self.device.type == "cuda":
            work.wait()  # holds up the GPU's stream, not this process
            self.answer.copy_(ballot, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            self.wait = copied.synchronize
        else:
            self.answer, self.wait = ballot, work.wait
        return said


class SyncBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """BatchNorm whose training statistics are those of all processes' batches; torch's own runs on GPUs only."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> (N, C, ...), with statistics over all axes but C."""
        if not self.training or rank_world()[1] == 1:
            return super().forward(x)
        if x.ndim > 2:
            last = x.movedim(1, -1)
            return self.forward(last.flatten(0, -2)).view(last.shape).movedim(-1, 1)
        num = _Sum.apply(torch.tensor(float(len(x)), device=x.device))
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = _Sum.apply(wide.sum(0)) / num
        centred = wide - mean
        var = _Sum.apply(centred.square().sum(0)) / num
        with torch.no_grad():
            for running, now in ((self.running_mean, mean), (self.running_var, var * num / (num - 1))):
                running.lerp_(now.to(running.dtype), self.momentum)  # type: ignore[union-attr, arg-type]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return (centred * torch.rsqrt(var + self.eps) * self.weight + self.bias).to(x.dtype)


def sync_batchnorm(model: torch.nn.Module) -> None:
    """Let every BatchNorm of a model share its statistics over the processes."""
    for module in model.modules():
        if type(module) in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad):
        # Every process holds its own loss as a function of all embeddings: sum what they say about each embedding.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad):
        return _Sum.forward(ctx, grad)
