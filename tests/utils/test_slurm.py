# SPDX-License-Identifier: Apache-2.0
"""slurm.py: options for sbatch and srun, several nodes, parsing of Slurm's output."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import fake_cluster
import pytest
from hypothesis import given
from hypothesis import strategies as st

UTILS = Path(__file__).parents[2] / "utils"
sys.path.insert(0, str(UTILS))

import slurm  # noqa: E402


@pytest.fixture
def submitted(tmp_path):
    """submitted(*args) -> the options passed to sbatch; the jobs must succeed."""
    return lambda *args: fake_cluster.submitted(UTILS / "slurm.py", tmp_path, *args)[0]


def test_one_job(submitted, tmp_path):
    options = submitted("--mem", "4G", "--time", "1:00:00", "--num-threads", 2, "--gpu", 1, "-p", "fast", "-sync", "y",
                        "--max-jobs-run", 3, "100%/x.log", "true")
    assert options[:3] == ["--export=PATH", "--requeue", "--signal=TERM@60"]
    assert {"--mem=4G", "--time=1:00:00", "--cpus-per-task=2", "--gres=gpu:1", "--wait", "--nodes=1", "-p", "fast",
            "--job-name=x", f"--output={tmp_path}/100%%/q/x.out", "--open-mode=append"} <= set(options)
    assert "-sync" not in options and not [word for word in options if "array" in word]


@pytest.mark.parametrize("args, array", [
    (["JOB=1:3"], "--array=1-3"),
    (["--max-jobs-run", "2", "JOB=2:5"], "--array=2-5%2"),
    (["-tc", "4", "--pick", "incomplete", "JOB=1:9"], "--array=1,3-5,7-9%4"),
])
def test_arrays(submitted, tmp_path, args, array):
    for done in (2, 6):
        (tmp_path / f"x.{done}.log").write_text("# Finished at x with status 0\n")
    assert submitted(*args, "x.JOB.log", "true")[-1] == array


def test_grid_engine_options(submitted):
    options = submitted("-V", "-pe", "smp", 3, "x.log", "true")
    assert "--export=ALL" in options and "--cpus-per-task=3" in options and "-V" not in options


@given(st.sets(st.integers(1, 40), min_size=1))
def test_ranges(numbers):
    back = [list(range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1))
            for part in slurm.ranges(sorted(numbers)).split(",")]
    assert [number for part in back for number in part] == sorted(numbers)
    assert all(later[0] > earlier[-1] + 1 for earlier, later in pairwise(back))      # no two ranges could be merged


def test_several_nodes(submitted, tmp_path):
    """The command runs once on each node, with the environment variables that torchrun reads."""
    options = submitted("--num-nodes", 3, "x.log", "env", "|", "grep", "PET_", "|", "sort", "|", "tr", "'\\n'", ",")
    assert "--nodes=3" in options and "--ntasks-per-node=1" in options
    log = (tmp_path / "x.log").read_text()
    node = "PET_NNODES=3,PET_RDZV_BACKEND=c10d,PET_RDZV_ENDPOINT=10.0.0.7:20012,PET_RDZV_ID=12,"
    assert log.count(node) == 3 and log.count("# env |") == 1    # not at the start of a line if another node was first
    step = (tmp_path / "bin/state/step").read_text().splitlines()
    assert {"--kill-on-bad-exit=1", "--export=ALL", "--nodes=3", "--ntasks=3"} <= set(step)


def test_one_node_has_no_torchrun_variables(submitted, tmp_path):
    submitted("x.log", "env")
    assert "PET_" not in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize("answer, alive", [
    ("RUNNING\nPENDING\n", True),
    ("COMPLETING\n", True),
    ("", False),
    ("slurm_load_jobs error: Invalid job id specified\n", False),
    ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n", True),    # unknown
])
def test_is_active(monkeypatch, answer, alive):
    monkeypatch.setattr(slurm, "run_program", lambda *_: subprocess.CompletedProcess([], 0, answer))
    assert slurm.Slurm().is_active("12") == alive


@pytest.mark.parametrize("answer, problem", [
    ("Resources\nPriority\n", ""),
    ("Dependency\nJobHeldUser\n", "JobHeldUser"),
    ("launch failed requeued held\n", "launch failed requeued held"),
    ("PartitionTimeLimit\n", "PartitionTimeLimit"),
])
def test_problem(monkeypatch, answer, problem):
    monkeypatch.setattr(slurm, "run_program", lambda *_: subprocess.CompletedProcess([], 0, answer))
    assert slurm.Slurm().problem("12") == problem


def test_exit_info(monkeypatch):
    shown = "JobId=12 JobName=x JobState=NODE_FAIL Reason=None RunTime=00:01:02 NodeList=n[1-2] BatchHost=n1"
    monkeypatch.setattr(slurm, "run_program", lambda *_: subprocess.CompletedProcess([], 0, shown))
    assert slurm.Slurm().exit_info("12", None) == "JobState=NODE_FAIL; NodeList=n[1-2]; RunTime=00:01:02"
