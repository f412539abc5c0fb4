# SPDX-License-Identifier: Apache-2.0
"""Stages 3 to 5 of the mini recipe on real schedulers must give the same scores as with run.py."""

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import eventually
from programs import forking
from recipe import run_recipe

QUICK = "batch.speakers=4 batch.min_utts_per_speaker=2 batch.max_utts_per_speaker=2 crop.samples=4375"
SET = f"train.epochs=1 {QUICK}"


@pytest.fixture(scope="module")
def mini(root, tmp_path_factory) -> Path:
    """A recipe folder after stages 1 and 2."""
    folder = tmp_path_factory.mktemp("mini")
    assert_good(run_recipe(root, "mini", folder, "--stage", 1, "--stop-stage", 2))
    return folder


@pytest.fixture(scope="module")
def here(mini) -> Iterator[Future]:
    """exp/here: trained and scored with run.py, in parallel with the cluster."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit(verification, mini, "here", "run.py", os.environ["PATH"])


def verification(folder: Path, name: str, launcher: str, path: str, *options) -> subprocess.CompletedProcess[str]:
    """Train exp/NAME, extract and score, with this launcher for all commands."""
    env = forking({**os.environ, "PATH": path, **dict.fromkeys(("train_cmd", "extract_cmd", "cuda_cmd"), launcher)})
    options = ("--stage", "3", "--stop-stage", "5", "--conf", "conf/mini/rawnext.yaml", "--set", SET, "--durations", "",
               "--protocols", "native", "--nj", "2", "--num-threads", "1", "--num-workers", "1", *options)
    return subprocess.run(["steps/verification.sh", *options, f"exp/{name}"], cwd=folder, env=env, capture_output=True,
                          text=True, timeout=400)


def assert_good(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_same_scores(cluster, mini, here):
    assert_good(verification(mini, cluster.name, f"{cluster.name}.py --mem 3G", cluster.path))
    assert_good(here.result())
    exp = mini / "exp" / cluster.name
    assert "with status 0" in (exp / "log/train.log").read_text()
    assert "with status 0" in (exp / "log/extract.test_native.2.log").read_text()
    scores = "scores/cosine/test/trials_native"
    assert (exp / scores).read_text() == (mini / "exp/here" / scores).read_text() != ""


def test_slurm_requeues_preempted_training(slurm, mini):
    options = ["--stop-stage", "3", "--set", f"train.epochs=6 {QUICK}"]
    log = mini / "exp/preempted/log/train.log"
    with ThreadPoolExecutor() as pool:
        uninterrupted = pool.submit(verification, mini, "uninterrupted", "run.py", os.environ["PATH"], *options)
        run = pool.submit(verification, mini, "preempted", "slurm.py --mem 3G", slurm.path, *options)
        assert eventually(lambda: run.done() or (log.exists() and " epoch=2 " in log.read_text()), 120)
        job = re.search(r"^# SLURM_JOB_ID: (\d+)$", log.read_text(), re.M)
        slurm.query("scancel", "--signal=TERM", job[1])  # as at a preemption or before the time limit
        assert_good(run.result())
    text = log.read_text()
    words = ("stopped by SIGTERM", "to be run again", "continuing from", "with status 0")
    assert [word for word in words if text.count(word) != 1] == [], text
    assert_good(uninterrupted.result())
    models = [(mini / "exp" / name / "model.pt").read_bytes() for name in ("uninterrupted", "preempted")]
    assert models[0] == models[1]


def test_training_on_two_nodes_of_slurm(slurm, mini):
    assert_good(verification(mini, "two", "slurm.py --mem 3G", slurm.path, "--num-nodes", "2", "--stop-stage", "3"))
    assert (mini / "exp/two/model.pt").stat().st_size > 0
    log = (mini / "exp/two/log/train.log").read_text()
    assert "with status 0" in log and "# SLURM_JOB_NODELIST: n[1-2]\n" in log
