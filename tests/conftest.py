# SPDX-License-Identifier: Apache-2.0
"""Fixtures and settings of all tests."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked.server import use_large_pages
from programs import ONE_THREAD, forking

os.environ.setdefault("LHOTSE_AUDIO_BACKEND", "LibsndfileBackend")
# Tests run in parallel, one per core: more threads, in a test or in the programs that it starts, would only wait for
# each other, and OpenMP's do so actively: a verification took 9 s of processor time instead of 1.
os.environ.update(ONE_THREAD)

ENOUGH_MEMORY = 8 << 30   # in /dev/shm, for the files of all tests

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config) -> None:
    """Make every test run repeatable."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        # pytest-xdist's first process runs no test, and its workers start after this.
        memory = Path("/dev/shm")
        if memory.is_dir() and shutil.disk_usage(memory).free > ENOUGH_MEMORY:
            os.environ.setdefault("TMPDIR", str(memory))   # many small files: a tenth of the processor time on a disk
        return
    gc.disable()   # until pytest_collection_finish
    import hypothesis
    import torch

    class TorchRandom:
        """torch's generator for hypothesis, which resets it before each example."""
        seed, getstate, setstate = torch.manual_seed, torch.get_rng_state, torch.set_rng_state

    config.torch_random = TorchRandom   # hypothesis keeps only a weak reference
    hypothesis.register_random(TorchRandom)
    hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("repeatable")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)   # under nohup, launchers would inherit that SIGHUP is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)   # ignored in a job that a shell started with &


def pytest_collection_finish() -> None:
    """Exempt the packages and tests from garbage collection: it took a fifth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.enable()
    use_large_pages()


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="module")
def forked_programs() -> Iterator[None]:
    """The environment of this process is that of `forking`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in forking().items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def parity() -> Path:
    """Numbers of released code; README.md there describes them."""
    return ROOT / "tests/data/parity"


@pytest.fixture(scope="session")
def shared() -> Path:
    """More reference values, and real audio, next to the checkout, not part of the project; without: skip."""
    folder = ROOT.parent / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip(f"needs reference data that is not part of the project: {folder}")
    return folder
