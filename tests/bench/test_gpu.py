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
    gpu.training(bench)
    text = capsys.readouterr().out
    rows = re.findall(r"^\| (\S[^|]*) \| (fp32|TF32|bf16) \| ([\d.]+) \| \*\*([\d.]+)\*\* ", text, re.M)
    assert [row[:2] for row in rows] == [
        ("published order, torch's layers, plain Adam", "fp32"), *(("ours", name) for name in ("fp32", "TF32", "bf16")),
        *(("ours, convolutions not channels last", name) for name in ("TF32", "bf16")),
        ("ours, own SyncBatchNorm", "bf16")]
    assert all(float(rate) > 0 for *_, rate, _ in rows) and float(rows[0][3]) == 1
    kernels = re.findall(r"^\| `([^`]+)` \|", text, re.M)  # on a loaded machine, one may be an autograd function
    assert len(kernels) == 5 and sum(name.startswith("aten::") for name in kernels) > 2


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


def test_table_of_extraction(bench, capsys):
    gpu.extraction(bench)
    rows = re.findall(r"^\| (native|paper) \| ([\d.]+) \| ([\d.]+) \| \*\*", capsys.readouterr().out, re.M)
    assert [row[0] for row in rows] == ["native", "paper"] and all(float(rate) > 0 for row in rows for rate in row[1:])


def test_parts_without_time_are_named(root, tmp_path):
    done = subprocess.run([root / "bench/gpu.sh", "--dry", "--minutes", "0", "--out", tmp_path], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    for part in ("tests", "training", "extraction", "compiled"):
        assert f"- {part}: not run, no time was left\n" in (tmp_path / "table.md").read_text()
