# SPDX-License-Identifier: Apache-2.0
"""No training step waits for a GPU, whether to read or to copy a value. The meta device represents a GPU."""

import contextlib
import copy

import pytest
import torch
from small_models import SMALL_MODELS, UNTRAINED, small
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rawnext.config import Config
from rawnext.losses import LOSSES
from rawnext.models import MODELS
from rawnext.training.optim import follow
from rawnext.training.task import SpeakerTask

CASES = [*({"name": name} for name in LOSSES), {"name": "am", "subcenters": 2, "topk": 2},
         {"name": "triplet", "hard_rank": -1},
         *({"name": "triplet", "mining": mining} for mining in ("batch_hard", "semihard", "all"))]


class WatchConstants(TorchFunctionMode):
    """Records tensors that are made from Python's numbers on the other device, which no dispatch mode sees."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and result.device.type != "cpu":
            self.found.append(func.__name__)
        return result


class Watch(TorchDispatchMode):
    """Records operations between the CPU and the other device, and those whose kernels wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.constants = WatchConstants(self.found)

    def __enter__(self):
        self.constants.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.constants.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tensors = [x for x in torch.utils._pytree.tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        if len({x.device.type for x in tensors}) > 1 or func.name() in ("aten::multinomial", "aten::nonzero"):
            self.found.append(func.name())
        return result


@pytest.fixture
def step(monkeypatch):
    """step(model, losses): forward and backward pass of a batch on the meta device; returns what Watch found."""
    autocast = torch.autocast  # which does not know the meta device
    monkeypatch.setattr(torch, "autocast", lambda device, *args, **kwargs: contextlib.nullcontext()
                        if device == "meta" else autocast(device, *args, **kwargs))

    def run(model, losses):
        task = SpeakerTask(Config(model=model, losses=losses), 5, teacher_dim=4).to("meta")
        wave = torch.empty(8, 2500, device="meta")
        label, teacher = torch.empty(8, dtype=torch.int64, device="meta"), torch.empty(8, 4, device="meta")
        average = copy.deepcopy(task)
        with Watch() as watch:
            loss, _ = task(wave, label, teacher)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            follow(average, task, 0.9)
        return watch.found

    return run


def test_every_network_is_among_the_small_ones():
    assert {*SMALL_MODELS, *UNTRAINED} == set(MODELS)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_networks(step, name):
    assert step(small(name), [{"name": "softmax"}]) == []


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_losses(step, loss):
    assert step(small("convmixer"), [loss]) == []


@pytest.mark.parametrize("wait", [lambda x: bool(x.sum() > 0), lambda x: x[x > 0], lambda x: float(x[0])])
def test_reading_a_value_is_an_error_here(wait):
    with pytest.raises((RuntimeError, NotImplementedError)):
        wait(torch.empty(3, device="meta"))


@pytest.mark.parametrize("copy", [lambda x: torch.tensor([1.0, 2.0]).to(x.device), lambda x: x.copy_(torch.ones(2)),
                                  lambda x: torch.tensor(1.0, device=x.device), lambda x: torch.multinomial(x, 1)])
def test_copies_are_found(copy):
    with Watch() as watch:
        copy(torch.empty(2, device="meta"))
    assert watch.found
