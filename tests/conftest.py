# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("LHOTSE_AUDIO_BACKEND", "LibsndfileBackend")

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config) -> None:
    """As many tests run at a time as there are cores: threads of their own would only wait for each other."""
    import torch

    torch.set_num_threads(1)


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
