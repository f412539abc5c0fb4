# SPDX-License-Identifier: Apache-2.0
"""sge.py: options for qsub, parsing of Grid Engine's output."""

import os
import subprocess
import sys
from pathlib import Path

import fake_cluster
import pytest

UTILS = Path(__file__).parents[2] / "utils"
sys.path.insert(0, str(UTILS))

import sge  # noqa: E402


@pytest.fixture
def submitted(tmp_path):
    """submitted(*args) -> the options passed to qsub, and the job numbers; the jobs must succeed."""
    def call(*args: object) -> tuple[str, str]:
        words, numbers = fake_cluster.submitted(UTILS / "sge.py", tmp_path, *args)
        return " ".join(words), numbers
    return call


def test_one_job(submitted, tmp_path):
    options, numbers = submitted("--mem", "4G", "--time", "1:00:00", "--num-threads", 2, "--gpu", 1, "-q", "fast.q",
                                 "-V", "-sync", "y", "--max-jobs-run", 3, "7x.log", "true")
    assert options == ("-v PATH -S /bin/bash -notify -l gpu=1 -l mem_free=4G -l s_rt=1:00:00 -pe smp 2 -terse -sync y "
                       f"-N job.7x -j y -o {tmp_path}/q/7x.out -q fast.q -V")
    assert numbers == "1"


@pytest.mark.parametrize("args, options, numbers", [
    (["JOB=2:5"], "-t 2-5", "-"),
    (["--max-jobs-run", "2", "JOB=1:3"], "-tc 2 -t 1-3", "-"),
    (["-tc", "9", "--pick", "incomplete", "JOB=1:5"], "-tc 9 -t 1-3", "1,3,4"),     # qsub -t takes no list
    (["--pick", "incomplete", "JOB=5:6"], "q/x.JOB.out", "6"),                      # a single job is not an array
])
def test_arrays(submitted, tmp_path, args, options, numbers):
    if "--pick" in args:
        for done in (2, 5):
            (tmp_path / f"x.{done}.log").write_text("# Finished at x with status 0\n")
    got = submitted(*args, "x.JOB.log", "touch", "ran.JOB")
    assert got[0].endswith(options) and got[1] == numbers
    if numbers != "-":
        assert sorted(path.suffix[1:] for path in tmp_path.glob("ran.*")) == numbers.split(",")


def test_several_nodes_are_refused(tmp_path):
    done = subprocess.run([sys.executable, UTILS / "sge.py", "--num-nodes", "2", "x.log", "true"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 255 and "use slurm.py" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("code", [99, 100])
def test_exit_codes_special_to_grid_engine(tmp_path, monkeypatch, code):
    """A command's exit code 99 must not requeue the job (fake qsub would for ever), nor 100 put it in error state."""
    fake_cluster.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    done = subprocess.run([sys.executable, UTILS / "sge.py", "x.log", "exit", str(code)], cwd=tmp_path, timeout=60,
                          capture_output=True, text=True)
    assert done.returncode == 1 and f"with status {code}\n" in (tmp_path / "x.log").read_text()


@pytest.mark.parametrize("text, job_id", [
    ("12\n", "12"),
    ("12.1-3:1\n", "12"),
    ("warning: 7 hosts are away\n12\nJob 12 exited with exit code 0.\n", "12"),
    ("Unable to run job: unknown queue 7\n", None),
])
def test_job_id(text, job_id):
    assert sge.GridEngine().job_id(text) == job_id


@pytest.mark.parametrize("answer, alive", [
    ("=====\njob_number:   12\n", True),
    ("Following jobs do not exist: \n12\n", False),
    ("error: commlib error: got select error (Connection refused)\n", True),    # unknown
])
def test_is_active(monkeypatch, answer, alive):
    monkeypatch.setattr(sge, "run_program", lambda *_: subprocess.CompletedProcess([], 0, answer))
    assert sge.GridEngine().is_active("12") == alive


def test_job_in_error_state(monkeypatch):
    answer = "job_number: 12\nerror reason    1:          can't chdir to /x: No such file or directory\nscheduling: -\n"
    monkeypatch.setattr(sge, "run_program", lambda *_: subprocess.CompletedProcess([], 0, answer))
    assert sge.GridEngine().problem("12") == \
        "can't chdir to /x: No such file or directory (qmod -cj 12 clears the error)"


def test_exit_info(monkeypatch):
    output = "qname all.q\nhostname     n7\njobnumber 12\nfailed       37  : enforced h_rt\nexit_status  137 (Killed)\n"
    calls = []
    monkeypatch.setattr(sge, "run_program",
                        lambda *words: calls.append(words) or subprocess.CompletedProcess([], 0, output))
    engine = sge.GridEngine()
    engine.tasks = {7: 2}
    assert engine.exit_info("12", 7) == "hostname n7; failed 37  : enforced h_rt; exit_status 137 (Killed)"
    assert calls == [("qacct", "-j", "12", "-t", "2")]
