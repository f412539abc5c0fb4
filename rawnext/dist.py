# SPDX-License-Identifier: Apache-2.0
"""Several processes as one: the group that torchrun starts, and gathering embeddings with their gradient."""

import os

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
