# SPDX-License-Identifier: Apache-2.0
"""The device of a process; training in several: torchrun's process group, and collectives with gradients."""

import os
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from rawnext.errors import InputError

DEVICES = ("auto", "cpu", "cuda")  # of --device


def choose_device(name: str) -> torch.device:
    """The device of this process: the CPU, or GPU number LOCAL_RANK (0 without torchrun), which it makes the current.

    Args: name: auto (the GPU if there is one that can be used, otherwise the CPU), cpu or cuda.
    Raises: InputError: cuda, and that GPU cannot be used; with the reason. Or auto, and there are GPUs, but fewer than
        processes.   ValueError: another name.
    """
    if name not in DEVICES:
        raise ValueError(f"the device must be one of {', '.join(DEVICES)}, got {name!r}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if why := cuda_fault(device):
        raise InputError(f"--device {name}", None, f"no GPU can be used: {why}")
    return device


def cuda_fault(device: torch.device) -> str:
    """Why this process cannot compute on a GPU; empty if it can."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.backends.cuda.is_built():
        return f"torch {torch.__version__} is built for CPUs only; install its build for CUDA"
    try:
        torch.cuda.init()  # its message distinguishes no driver, too old a driver, and no device
        if device.index >= (num_gpus := torch.cuda.device_count()):
            return f"process {device.index} of this machine has none, as the machine has {num_gpus}"
        torch.cuda.set_device(device)
        torch.zeros(1, device=device).cpu()  # fails for a GPU that this torch has no code for, or that is in use
    except (AssertionError, RuntimeError) as error:
        reason = " ".join(next(iter(str(error).strip().splitlines()), type(error).__name__).split())
        return reason + (f" (CUDA_VISIBLE_DEVICES is {visible!r})" if visible is not None else "")
    return ""


def init_process_group() -> torch.device:
    """Join the group that torchrun describes in the environment, if any, with nccl on GPUs, else gloo.

    Returns: the device of this process: GPU number LOCAL_RANK, or the CPU.
    Raises: RuntimeError: the machine has fewer GPUs than processes.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local_rank >= (num_gpus := torch.cuda.device_count()):
            raise RuntimeError(f"no GPU for process {local_rank} of this machine: it has {num_gpus}")
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
    """(rank of this process, number of processes); (0, 1) without a group."""
    return (dist.get_rank(), dist.get_world_size()) if _initialised() else (0, 1)


def is_main() -> bool:
    """Is this the process that writes files?"""
    return rank_world()[0] == 0


def all_gather_with_grad(x: torch.Tensor) -> torch.Tensor:
    """Concatenate the tensors of all processes by rank; gradients flow back to each process.

    A loss computed in full on every process then has, after DDP has averaged the parameters' gradients, exactly the
    gradient of a single process that holds the whole batch. The shapes must be equal in all processes.

    Args:
        x: (B, ...) of this process.
    Returns: (W * B, ...) for W processes; x itself without a group.
    """
    rank, world = rank_world()
    if world == 1:
        return x
    parts = [torch.zeros_like(x)] * world
    parts[rank] = x
    return _Sum.apply(torch.cat(parts))  # each process's loss depends on all embeddings: _Sum adds up their gradients


def mean_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """Mean of each value over the processes; every process must call it."""
    if rank_world()[1] == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return (total / dist.get_world_size()).tolist()


def barrier() -> None:
    """Wait for all processes."""
    if rank_world()[1] > 1:
        dist.barrier()


class DelayedAny:
    """Is a flag set in any process? The answer comes one call later, so neither processes nor GPUs wait."""

    def __init__(self, device: torch.device):
        self.device = device
        self.result = torch.zeros((), dtype=torch.int32, pin_memory=device.type == "cuda")
        self.wait: Callable[[], object] | None = None

    def __call__(self, flag: bool) -> bool:
        """Any process's flag in the previous call; every process must call it equally often. One process: its flag."""
        if rank_world()[1] == 1:
            return flag
        answer = False
        if self.wait:
            self.wait()
            answer = bool(self.result)
        any_flag = torch.full((), int(flag), dtype=torch.int32, device=self.device)
        work = dist.all_reduce(any_flag, dist.ReduceOp.MAX, async_op=True)
        if self.device.type == "cuda":
            work.wait()  # blocks the GPU's stream, not this process
            self.result.copy_(any_flag, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            self.wait = copied.synchronize
        else:
            self.result, self.wait = any_flag, work.wait
        return answer


class SyncBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """BatchNorm with training statistics over all processes' batches; torch's own supports GPUs only."""

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
    """Turn every BatchNorm of a model into a SyncBatchNorm, in place."""
    for module in model.modules():
        if type(module) in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm


def _initialised() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Sum(torch.autograd.Function):
    """Sum over processes, of values in the forward and of gradients in the backward pass."""

    @staticmethod
    def forward(ctx, x):
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad):
        return _Sum.forward(ctx, grad)
