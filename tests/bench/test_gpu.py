# SPDX-License-Identifier: Apache-2.0
"""bench/gpu.py measures every way to run a step, and bench/gpu.sh keeps to its time."""

import re
import subprocess

import pytest
import torch

from bench import gpu
from rawnext.config import load_config

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(root):
    config = load_config([root / "conf/rawnext.yaml"], ["crop.samples=59050"])
    config.model = gpu.TINY
    return gpu.Bench(torch.device("cpu"), config, 2, 1, 1, 2)


def test_tables_of_steps_and_kernels(bench, capsys):
    rows = list(gpu.training(bench))
    assert [row.after for row in rows] == [
        "published order, torch's layers, plain Adam, fp32", *(f"ours, {name}" for name in ("fp32", "TF32", "bf16")),
        *(f"ours, convolutions not channels last, {name}" for name in ("TF32", "bf16")),
        "ours, own SyncBatchNorm, bf16"]
    assert all(row.rate_after > 0 and re.fullmatch(r"[\d.]+% of roofline, .* GFLOP, .* GiB of maps", row.kept)
               for row in rows) and rows[0].ratio == 1
    assert capsys.readouterr().out.count("aten::") > 2  # on a loaded machine, one may be an autograd function


def test_layouts_and_norms_are_the_same_function(bench):
    """The loss of the first step, in the same precision."""
    losses = {}
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        for variant in gpu.variants(bench):
            with variant.context():
                losses[variant.name, variant.precision] = float(variant.step.forward().detach())
    finally:
        torch.distributed.destroy_process_group()
    for (_, precision), loss in losses.items():
        assert loss == pytest.approx(losses["ours", precision], rel=1e-2 if precision == "bf16" else 1e-5)


def test_rows_of_extraction(bench):
    rows = list(gpu.extraction(bench))
    assert [row.what.split()[-1] for row in rows] == ["native", "paper"]
    assert all(min(row.rate_before, row.rate_after) > 0 for row in rows)


def test_parts_without_time_are_named(root, tmp_path):
    done = subprocess.run([root / "bench/gpu.sh", "--dry", "--minutes", "0", "--out", tmp_path], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    for part in ("tests", "training", "extraction", "compiled"):
        assert f"- {part}: not run, no time was left\n" in (tmp_path / "table.md").read_text()
