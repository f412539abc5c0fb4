# SPDX-License-Identifier: Apache-2.0
"""The device of a process; training in several: torchrun's process group, and collectives with gradients."""

import datetime
import os
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist

from rawnext.errors import InputError

DEVICES = ("auto", "cpu", "cuda")  # of --device
# Groups that were left. If DistributedDataParallel had the last reference to one, its destructor would wait for gloo's
# threads without releasing Python's lock, which such a thread may need to delete a tensor: training hung at its end.
_left: list[object] = []


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


def init_process_group(device: torch.device, minutes: float = 60) -> None:
    """Join the group that torchrun describes in the environment, if any: nccl for a GPU, gloo for a CPU.

    Args: minutes: time after which a process that waits for another one in a collective fails.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        gpu = device.type == "cuda"
        dist.init_process_group("nccl" if gpu else "gloo", device_id=device if gpu else None,
                                timeout=datetime.timedelta(minutes=minutes))


def cleanup() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        _left.append(dist.group.WORLD)
        dist.destroy_process_group()


def rank_world() -> tuple[int, int]:
    """(rank of this process, number of processes); (0, 1) without a group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


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


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """Sum of a tensor over the processes, in place; every process must call it."""
    if rank_world()[1] > 1:
        dist.all_reduce(x)
    return x


def mean_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """Mean of each value over the processes; every process must call it."""
    total = sum_over_processes(torch.tensor(values, dtype=torch.float64, device=device))
    return (total / rank_world()[1]).tolist()


def gather_generators(device: torch.device) -> torch.Tensor:
    """States of torch's generators of all processes, (W, bytes) uint8 on the CPU; every process must call it.

    A row is that of the CPU, then that of the process's GPU if it has one.
    """
    rank, world = rank_world()
    own = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    states = torch.zeros(world, sum(map(len, own)), dtype=torch.uint8, device=device)
    states[rank] = torch.cat(own)
    return sum_over_processes(states).cpu()


def restore_generators(states: torch.Tensor, device: torch.device) -> None:
    """Set this process's generators to its row of `gather_generators`, or to the first if their number has changed."""
    rank, world = rank_world()
    own = states[rank if len(states) == world else 0]
    size = len(torch.get_rng_state())
    torch.set_rng_state(own[:size].clone())  # torch reads the state from the start of its storage, not of the view
    if device.type == "cuda" and len(own) > size:  # otherwise a run that was begun on a CPU
        torch.cuda.set_rng_state(own[size:].clone(), device)


def broadcast_buffers(module: torch.nn.Module) -> None:
    """Give all processes the buffers of the first one; those of unsynchronised BatchNorms differ."""
    if rank_world()[1] > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def barrier() -> None:
    """Wait for all processes."""
    if rank_world()[1] > 1:
        dist.barrier()


class DelayedMax:
    """The largest of all processes' small numbers. It comes one call later, so neither processes nor GPUs wait."""

    def __init__(self, device: torch.device):
        self.device = device
        self.result = torch.zeros((), dtype=torch.int32, pin_memory=device.type == "cuda")
        self.wait: Callable[[], object] | None = None

    def __call__(self, value: int) -> int:
        """Largest value, at least 0, of the previous call; every process must call it equally often.

        One process: the value itself.
        """
        if rank_world()[1] == 1:
            return value
        answer = 0
        if self.wait:
            self.wait()
            answer = int(self.result)
        largest = torch.full((), value, dtype=torch.int32, device=self.device)
        work = dist.all_reduce(largest, dist.ReduceOp.MAX, async_op=True)
        if self.device.type == "cuda":
            work.wait()  # blocks the GPU's stream, not this process
            self.result.copy_(largest, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
            self.wait = copied.synchronize
        else:
            self.result, self.wait = largest, work.wait
        return answer


class SyncBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """BatchNorm with training statistics over all processes' batches, for CPUs; torch's own supports GPUs only."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) -> (N, C, ...), with statistics over all axes but C."""
        if not self.training or rank_world()[1] == 1:
            return super().forward(x)
        if x.ndim > 2:
            last = x.movedim(1, -1)
            return self.forward(last.flatten(0, -2)).view(last.shape).movedim(-1, 1)
        num = _Sum.apply(torch.full((), float(len(x)), device=x.device))
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = _Sum.apply(wide.sum(0)) / num
        centred = wide - mean
        var = _Sum.apply(centred.square().sum(0)) / num
        with torch.no_grad():
            for running, now in ((self.running_mean, mean), (self.running_var, var * num / (num - 1))):
                running.lerp_(now.to(running.dtype), self.momentum)  # type: ignore[union-attr, arg-type]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        return (centred * torch.rsqrt(var + self.eps) * self.weight + self.bias).to(x.dtype)


def sync_batchnorm(model: torch.nn.Module, device: torch.device) -> None:
    """Turn every BatchNorm of a model into one over all processes, in place: torch's own on a GPU, else ours."""
    for module in model.modules():
        if type(module) in (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d):
            if device.type == "cuda":
                module.__class__ = torch.nn.SyncBatchNorm
                module.process_group = None  # type: ignore[assignment]
            else:
                module.__class__ = SyncBatchNorm


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
