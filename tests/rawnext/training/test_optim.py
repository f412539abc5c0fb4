# SPDX-License-Identifier: Apache-2.0
"""Optimisers, learning-rate schedules and margin warm-up."""

import numpy as np
import pytest
import torch
from torch import nn

from rawnext.config import Optim, Train, load_config
from rawnext.errors import InputError
from rawnext.training.optim import build_optimizer, learning_rate, margin_share


def test_rates_equal_released_code(parity):
    z = np.load(parity / "pipeline.npz")
    cosine, config = z["lr/rawnext_code_cosine_7it_80ep"][:560], Optim(final_lr=1e-6)
    assert np.allclose([learning_rate(i, i / 7, 80, config) for i in range(560)], cosine, rtol=1e-9, atol=0)
    cycles, config = z["lr/nexttdnn_cyclic_stepup65"], Optim(schedule="cyclical", final_lr=1e-8, cycle_steps=65)
    assert np.allclose([learning_rate(i, 0, 1, config) for i in range(len(cycles))], cycles, rtol=1e-9, atol=1e-15)


def test_warm_up_and_final_rate():
    config = Optim(warmup_steps=10)
    assert learning_rate(0, 0, 1, config) == pytest.approx(1e-4)
    assert learning_rate(9, 0, 1, config) == pytest.approx(1e-3)
    assert learning_rate(99, 1, 1, config) == pytest.approx(1e-7)


def test_step_schedule():
    config = Optim(schedule="step", lr=1.0, step_epochs=10, step_factor=0.5, final_lr=0.2)
    rates = [learning_rate(0, epochs, 80, config) for epochs in (0, 9.99, 10, 19.5, 20, 30, 79)]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.2, 0.2]


def test_exponential_schedule():
    config = Optim(schedule="exponential", lr=0.1, final_lr=1e-5, warmup_steps=10)
    rates = [learning_rate(100, epochs, 4, config) for epochs in (0, 1, 2, 3, 4)]
    assert rates == pytest.approx([1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
    assert learning_rate(4, 0, 4, config) == pytest.approx(0.05)


def test_only_matrices_decay():
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3))
    decay, no_decay = build_optimizer(model, Optim()).param_groups
    assert [p.shape for p in decay["params"]] == [(3, 2, 1)] and decay["weight_decay"] == 1e-4
    assert len(no_decay["params"]) == 3 and no_decay["weight_decay"] == 0
    assert decay["amsgrad"]


def test_all_parameters_decay_with_decay_all():
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3))
    decay, no_decay = build_optimizer(model, Optim(decay_all=True)).param_groups
    assert len(decay["params"]) == 4 and decay["weight_decay"] == 1e-4 and not no_decay["params"]


OPTIONS = {"radam": {}, "sgd": {"momentum": 0.9, "nesterov": True}}  # those of torch's own


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW),
                                            ("radam", torch.optim.RAdam), ("sgd", torch.optim.SGD)])
@pytest.mark.parametrize("amsgrad", [True, False])
def test_each_optimizer_equals_torchs(name, kind, amsgrad):
    """Ours and torch's own, with all weights in one group, take the same steps."""
    ends = []
    for build in (lambda model: build_optimizer(model, Optim(name=name, amsgrad=amsgrad, lr=0.1, decay_all=True)),
                  lambda model: kind(model.parameters(), lr=0.1, weight_decay=1e-4,
                                     **OPTIONS.get(name, {"amsgrad": amsgrad}))):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = build(model)
        for scale in (5.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1):  # a large gradient first, which AMSGrad remembers
            optimizer.zero_grad()
            (scale * model(torch.ones(1, 3)).square().sum()).backward()
            optimizer.step()
        ends.append(model.weight.detach())
    torch.testing.assert_close(*ends, rtol=1e-6, atol=0)  # ours are fused, which rounds differently
    assert type(optimizer) is kind


@pytest.mark.parametrize(("option", "why"), [
    ("name=lion", "optim.name: adam, adamw, radam or sgd"), ("momentum=1", "optim.momentum: from 0, below 1"),
    ("schedule=linear", "optim.schedule: cosine, exponential, cyclical or step"),
    ("schedule=exponential optim.final_lr=0", "optim.final_lr: above 0"),
    ("step_epochs=0", "optim.step_epochs: at least 1"), ("step_factor=0", "optim.step_factor: above 0"),
    ("step_factor=1.1", "optim.step_factor: above 0")])
def test_errors_name_the_wrong_value(option, why):
    with pytest.raises(InputError, match=why):
        load_config([], f"optim.{option}".split())


def test_margin_warm_up():
    config = Train(margin_from=2, margin_full=4)
    assert [margin_share(e, config) for e in (0, 2, 3, 4, 9)] == [0, 0, 0.5, 1, 1]
    assert margin_share(0, Train()) == 1
