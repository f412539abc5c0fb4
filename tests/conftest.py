# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("LHOTSE_AUDIO_BACKEND", "LibsndfileBackend")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config) -> None:
    """Every run of the tests is the same run, wherever it is started from."""
    import torch

    class TorchRandom:
        """torch's generator as hypothesis wants it: set back to the same state before each of its examples."""
        seed, getstate, setstate = torch.manual_seed, torch.get_rng_state, torch.set_rng_state

    torch.set_num_threads(1)   # as many tests run at a time as there are cores: more would only wait for each other
    config.torch_random = TorchRandom   # hypothesis itself holds it by a weak reference
    hypothesis.register_random(TorchRandom)
    hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("repeatable")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)   # under nohup our launchers would, rightly, not hear of it either


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference numbers and real audio that may lie beside the checkout; tests that want them skip without."""
    folder = ROOT.parent / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip(f"no reference data at {folder}")
    return folder
