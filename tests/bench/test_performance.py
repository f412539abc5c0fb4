# SPDX-License-Identifier: Apache-2.0
"""The programs that the speed benchmark compares do the same work, and its arithmetic is right."""

import dataclasses
import itertools
import subprocess

import pytest
import torch

from bench import timing, training
from bench.published import PublishedTask
from rawnext.config import Config
from rawnext.training.task import build_task

SMALL = {"name": "rawnext", "channels": [8, 8, 16, 16, 16, 16], "cardinality": 4, "embedding_dim": 8}
# with fewer samples than the published form's 59,050 BatchNorm would have too few frames
TINY = dataclasses.replace(Config(), model=SMALL, batch=dataclasses.replace(Config().batch, speakers=4))


@pytest.mark.slow
@pytest.mark.parametrize("model", [SMALL, {**SMALL, "dla": False, "blocks": [1, 2, 2, 1]}, {**SMALL, "gate": False},
                                   {"name": "resnext", **{key: SMALL[key] for key in ("channels", "cardinality")}}])
def test_the_published_form_is_the_same_function(model):
    """Loss and every gradient, in training."""
    torch.manual_seed(0)
    task = build_task(dataclasses.replace(TINY, model=model), 5).double().train()
    wave, label = torch.randn(3, 59050, dtype=torch.float64), torch.arange(3)
    gradients = []
    for form in (task, PublishedTask(task)):
        task.zero_grad()
        loss = form(wave, label)[0]
        loss.backward()
        gradients.append([loss, *(p.grad.clone() for p in task.parameters())])
    largest = max(float(g.detach().abs().max()) for g in gradients[0])
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-11 * largest)


def test_programs_alternate_and_the_first_round_is_not_counted(monkeypatch):
    clock = itertools.count()  # each reading is a second later
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    calls = []
    times = timing.in_turns([lambda: calls.append("a"), lambda: [calls.append("b"), next(clock)]], 2)
    assert calls == ["a", "b"] * 3
    assert times == [[1, 1], [2, 2]]


def test_a_ratio(monkeypatch):
    monkeypatch.setattr(timing, "in_turns", lambda programs, rounds: [[6.0, 8.0, 9.0], [2.0, 2.0, 3.0]])
    row = timing.compare("work", 12, "utts", ("slow", int), ("fast", int))
    assert (row.rate_before, row.rate_after, row.ratio, row.low, row.high) == (1.5, 6, 3, 3, 4)
    assert timing.ratio_row(row) == "| work | slow | fast | 1.5 -> 6 utts/s | **3.00** (3.00-4.00) |  |"


@pytest.mark.slow
def test_training_rows():
    rows = training.rows(TINY, batch=2, rounds=1)
    assert [row.after for row in rows[:2]] == ["ours, float32", "composed blocks"]
    assert all(row.ratio > 0 for row in rows)
    step = training.Step(TINY, 2)
    flops, map_bytes = training.counts(step)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as forward:
        step.task(step.wave, step.label)
    assert flops == pytest.approx(3 * forward.get_total_flops(), rel=0.05)  # backward: twice the forward pass
    # at least a convolution, BatchNorm and ReLU keep the widest map, (2, 19683, 8)
    assert 3 * 2 * 19683 * 8 * 4 < map_bytes < 60 * 2 * 19683 * 8 * 4
    assert len(training.roofline(step, 1)) == 3 and sum(training.profile(step).values()) == pytest.approx(1)


def test_the_program_refuses_unknown_parts(root):
    done = subprocess.run([root / "bench/performance.py", "cooking"], capture_output=True, text=True)
    assert done.returncode == 2 and "no part cooking; there are training" in done.stderr
