# SPDX-License-Identifier: Apache-2.0
"""Real schedulers for the tests in this folder; those that are not running are started and stopped afterwards."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import SCHEDULERS, Cluster

HERE = Path(__file__).parent


def running(name: str) -> Iterator[str]:
    """A PATH that has the programs of this scheduler."""
    def script(verb: str) -> str:
        done = subprocess.run([HERE / f"{name}.sh", verb], capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.fail(done.stderr.strip(), pytrace=False)
        return done.stdout.strip()

    started = script("start")
    yield script("env").removeprefix("export PATH=").replace("$PATH", os.environ["PATH"])
    if started:  # no output: it was already running
        script("stop")


@pytest.fixture(scope="session")
def slurm_path() -> Iterator[str]:
    yield from running("slurm")


@pytest.fixture(scope="session")
def sge_path() -> Iterator[str]:
    yield from running("sge")


@pytest.fixture(params=SCHEDULERS)
def cluster(request, tmp_path) -> Iterator[Cluster]:
    """Each scheduler in turn, with an empty working folder."""
    with Cluster.at(request.param, request.getfixturevalue(f"{request.param}_path"), tmp_path) as cluster:
        yield cluster


@pytest.fixture
def slurm(slurm_path, tmp_path) -> Iterator[Cluster]:
    with Cluster.at("slurm", slurm_path, tmp_path) as cluster:
        yield cluster


@pytest.fixture
def sge(sge_path, tmp_path) -> Iterator[Cluster]:
    with Cluster.at("sge", sge_path, tmp_path) as cluster:
        yield cluster
