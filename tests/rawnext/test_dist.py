# SPDX-License-Identifier: Apache-2.0
"""Two processes have the gradients and statistics of one process that holds the whole batch."""

import copy
import os
import socket
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rawnext.dist import (
    DelayedMax,
    all_gather_with_grad,
    choose_device,
    cleanup,
    gather_generators,
    init_process_group,
    is_main,
    rank_world,
    restore_generators,
    sync_batchnorm,
)
from rawnext.errors import InputError
from rawnext.losses import LOSSES

WORLD, P, K, D = 2, 4, 2, 8  # P speakers in each process
CASES = {"prototypical": {}, "angular_prototypical": {}, "ge2e": {}, "triplet": {"hard_rank": 0, "hard_prob": 1.0}}


class Task(nn.Module):
    """A small trunk and a loss, wrapped together as in training."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, D))
        self.loss = LOSSES.build(name, CASES[name], D, WORLD * P)
        self.double()

    def forward(self, x, label):
        return self.loss(self.trunk(x), label)[0]


def whole_batch():
    rng = torch.Generator().manual_seed(1)
    return (torch.randn(WORLD * P * K, 5, generator=rng, dtype=torch.float64),
            torch.arange(WORLD * P).repeat_interleave(K))


def gradients(module):
    return {name.removeprefix("module."): p.grad.clone() for name, p in module.named_parameters()}


def normalised(rank=None):
    """Outputs, gradients and statistics of BatchNorms over a process's share (None: over all) of maps."""
    rng, out = torch.Generator().manual_seed(2), []
    for norm, shape in ((nn.BatchNorm1d(3), (8, 3)), (nn.BatchNorm1d(3), (8, 3, 5)), (nn.BatchNorm2d(3), (8, 3, 4, 5))):
        x, weight = torch.randn(2, *shape, generator=rng, dtype=torch.float64)
        if rank is not None:
            sync_batchnorm(norm, torch.device("cpu"))
            x, weight = (part.chunk(WORLD)[rank].clone() for part in (x, weight))
        y = norm.double()(x.requires_grad_())
        (y * weight).sum().backward()
        norm.eval()(x)
        out.append((y.detach(), x.grad, norm.running_mean, norm.running_var))
    return out


def worker(rank, port, folder):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    device = choose_device("auto")
    assert device == torch.device("cpu")
    init_process_group(device)
    assert rank_world() == (rank, WORLD) and is_main() == (rank == 0)
    x, label = (part.chunk(WORLD)[rank] for part in whole_batch())
    results = {}
    for name in CASES:
        task = DistributedDataParallel(Task(name))
        task(x, label).backward()
        results[name] = gradients(task)
    results["norms"] = normalised(rank)
    gathered = all_gather_with_grad(x.T.contiguous().T)     # not contiguous
    any_flag = DelayedMax(torch.device("cpu"))
    answers = [any_flag(rank == 1 and call == 2) for call in range(5)]
    largest = DelayedMax(torch.device("cpu"))
    results["largest"] = [largest([[1, 0, 1, 0], [0, 2, 2, 0]][rank][call]) for call in range(4)]
    torch.manual_seed(rank)
    states, drawn = gather_generators(device), torch.rand(3)
    restore_generators(states, device)
    results["generators"] = states, torch.equal(torch.rand(3), drawn)
    torch.save((gathered, results, answers), f"{folder}/{rank}.pt")
    cleanup()
    assert not dist.is_initialized()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_ranks(worker, (port, str(folder)), WORLD)
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


def test_gathered_batch_is_in_order_of_rank(two_processes):
    for gathered, *_ in two_processes:
        assert torch.equal(gathered, whole_batch()[0])


@pytest.mark.parametrize("name", CASES)
def test_gradient_of_two_processes_equals_that_of_one(two_processes, name):
    task = Task(name)
    task(*whole_batch()).backward()
    for _, results, _ in two_processes:
        for parameter, wanted in gradients(task).items():
            torch.testing.assert_close(results[name][parameter], wanted, rtol=1e-10, atol=1e-13)


def test_shared_statistics_are_those_of_the_whole_batch(two_processes):
    for k, (y, grad, *running) in enumerate(normalised()):
        parts = [results["norms"][k] for _, results, _ in two_processes]
        torch.testing.assert_close(torch.cat([part[0] for part in parts]), y)
        torch.testing.assert_close(torch.cat([part[1] for part in parts]), grad)
        for part in parts:
            torch.testing.assert_close(list(part[2:]), running)


def test_one_flag_reaches_all_processes_one_call_later(two_processes):
    assert [answers for *_, answers in two_processes] == [[False, False, False, True, False]] * WORLD


def test_the_largest_number_reaches_all_processes_one_call_later(two_processes):
    assert [results["largest"] for _, results, _ in two_processes] == [[0, 1, 2, 2]] * WORLD


def test_each_process_continues_with_its_own_generator(two_processes):
    (states, same), (others, others_same) = (results["generators"] for _, results, _ in two_processes)
    assert same and others_same
    assert torch.equal(states, others) and not torch.equal(states[0], states[1])
    restore_generators(states, torch.device("cpu"))  # in another number of processes: the first one's
    assert torch.equal(torch.get_rng_state(), states[0])


def test_batchnorm_over_gpus_is_that_of_torch():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Unflatten(1, (3, 1, 1)), nn.BatchNorm2d(3)).eval()
    x = torch.randn(5, 4)
    before, keys = model(x), list(model.state_dict())
    sync_batchnorm(model, torch.device("cuda", 0))
    assert type(model[1]) is type(model[3]) is nn.SyncBatchNorm
    assert torch.equal(model(x), before) and list(model.state_dict()) == keys
    assert torch.equal(copy.deepcopy(model).train()[1](x[:, :3]), nn.BatchNorm1d(3)(x[:, :3]))  # without a group


def test_without_a_group():
    x = torch.randn(3, 2)
    assert rank_world() == (0, 1) and is_main()
    assert all_gather_with_grad(x) is x
    assert [DelayedMax(torch.device("cpu"))(yes) for yes in (False, True)] == [False, True]
    cleanup()  # has no effect


def break_cuda(monkeypatch, built=True, message="", num_gpus=0):
    """A torch with these properties, on a machine with these GPUs."""
    def init():
        if message:
            raise RuntimeError(message)

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)


@pytest.mark.parametrize("fault, why", [
    ({"built": False}, "is built for CPUs only"),
    ({"message": "Found no NVIDIA driver on your system. Please check\nthat"}, "Found no NVIDIA driver"),
    ({"message": "The NVIDIA driver on your system is too old (found version 11040)."}, "too old"),
    ({"message": "No CUDA GPUs are available"}, r"No CUDA GPUs are available \(CUDA_VISIBLE_DEVICES is ''\)"),
    ({"num_gpus": 2}, "process 2 of this machine has none, as the machine has 2"),
])
def test_gpus_that_cannot_be_used_are_an_error_with_the_reason(monkeypatch, fault, why):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("LOCAL_RANK", "2")
    break_cuda(monkeypatch, **fault)
    with pytest.raises(InputError, match=f"--device cuda: no GPU can be used: .*{why}") as caught:
        choose_device("cuda")
    assert "\n" not in str(caught.value)


def test_auto_takes_the_cpu_only_if_there_is_no_gpu(monkeypatch):
    break_cuda(monkeypatch, built=False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    break_cuda(monkeypatch, num_gpus=1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(InputError, match="has none"):
        choose_device("auto")
    with pytest.raises(ValueError, match="one of auto, cpu, cuda, got 'gpu'"):
        choose_device("gpu")


LEAVE = """
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from rawnext.dist import cleanup

def train():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = DistributedDataParallel(torch.nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()
    for _ in range(20):
        dist.all_reduce(torch.ones(3), async_op=True)
    cleanup()

torch.set_num_threads(1)
for _ in range(100):
    train()
"""


def test_a_group_can_be_left_before_the_model_is_deleted():
    """One round in about five hung."""
    done = subprocess.run([sys.executable, "-c", LEAVE], timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
