# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are written by a thread from a copy, one at a time; their errors are not lost, and nothing is left."""

import threading
import time

import pytest
import torch

from rawnext.errors import InputError
from rawnext.training import checkpoint
from rawnext.training.checkpoint import Saver


@pytest.fixture
def gate(monkeypatch):
    """Until it is set, checkpoints are not written."""
    opened, write = threading.Event(), checkpoint.save_step

    def wait_and_write(*args):
        assert opened.wait(30)
        write(*args)

    monkeypatch.setattr(checkpoint, "save_step", wait_and_write)
    return opened


def test_training_goes_on_and_does_not_change_what_is_written(gate, tmp_path):
    weights, row = torch.ones(3), {"loss": 1.0}
    with Saver(tmp_path, keep=2) as saver:
        saver.save(1, {"weights": weights, "history": [row]})  # returns, although nothing can be written yet
        weights.add_(1)
        row["loss"] = 2.0
        gate.set()
    state = checkpoint.load(tmp_path / "step-00000001.pt")
    assert torch.equal(state["weights"], torch.ones(3)) and state["history"] == [{"loss": 1.0}]


def test_the_end_of_the_block_waits(gate, tmp_path):
    threading.Timer(0.2, gate.set).start()
    started = time.monotonic()
    with Saver(tmp_path, keep=2) as saver:
        saver.save(1, {"step": 1})
    assert time.monotonic() - started > 0.15
    assert checkpoint.load_newest(tmp_path) == {"step": 1}


def test_old_checkpoints_and_unfinished_ones_of_killed_processes_are_deleted(tmp_path):
    (tmp_path / ".step-00000001.pt.4194304.tmp").touch()
    for step in (1, 2, 3):
        checkpoint.save_step(tmp_path, step, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002.pt", "step-00000003.pt"]


@pytest.mark.parametrize("at", ["save", "wait", "end"])
def test_an_error_in_the_thread_is_raised(tmp_path, at):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="cannot be written"), Saver(blocked / "folder", keep=2) as saver:
        saver.save(1, {"step": 1})
        if at == "save":
            saver.save(2, {"step": 2})
            raise AssertionError("saved")
        if at == "wait":
            saver.wait()
            raise AssertionError("saved")
