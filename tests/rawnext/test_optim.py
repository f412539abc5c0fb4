# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from torch import nn

from rawnext.config import Optim, Train
from rawnext.optim import build_optimizer, learning_rate, margin_share


def test_rates_equal_released_code(shared):
    z = np.load(shared / "parity" / "pipeline.npz")
    cosine, config = z["lr/rawnext_code_cosine_7it_80ep"][:560], Optim(final_lr=1e-6)
    assert np.allclose([learning_rate(i, i / 560, config) for i in range(560)], cosine, rtol=1e-9, atol=0)
    cycles, config = z["lr/nexttdnn_cyclic_stepup65"], Optim(schedule="cyclical", final_lr=1e-8, cycle_steps=65)
    assert np.allclose([learning_rate(i, 0, config) for i in range(len(cycles))], cycles, rtol=1e-9, atol=1e-15)


def test_warm_up_and_end():
    config = Optim(warmup_steps=10)
    assert learning_rate(0, 0, config) == pytest.approx(1e-4)
    assert learning_rate(9, 0, config) == pytest.approx(1e-3)
    assert learning_rate(99, 1, config) == pytest.approx(1e-7)


def test_only_matrices_decay():
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.BatchNorm1d(3))
    decay, plain = build_optimizer(model, Optim()).param_groups
    assert [p.shape for p in decay["params"]] == [(3, 2, 1)] and decay["weight_decay"] == 1e-4
    assert len(plain["params"]) == 3 and plain["weight_decay"] == 0
    assert decay["amsgrad"]


def test_margin_comes_late():
    config = Train(margin_from=2, margin_full=4)
    assert [margin_share(e, config) for e in (0, 2, 3, 4, 9)] == [0, 0, 0.5, 1, 1]
    assert margin_share(0, Train()) == 1
