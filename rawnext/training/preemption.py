# SPDX-License-Identifier: Apache-2.0
"""Graceful shutdown on SIGTERM, which a scheduler sends some seconds before it takes the machine away."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

import torch

from rawnext.dist import DelayedMax

PR_SET_PDEATHSIG = 1  # of prctl(2)
SAVE, STOP = 1, 2


class Preempted(Exception):
    """Training stopped on SIGTERM; its state is saved."""


class StopRequest:
    """A context manager that records SIGTERM, to be polled between steps; restores the old handler at the end."""

    def __init__(self, device: torch.device) -> None:
        self.received = self.raise_at_once = False
        self.any_process = DelayedMax(device)

    def __enter__(self) -> "StopRequest":
        self.old_handler = signal.signal(signal.SIGTERM, self._receive)
        if "TORCHELASTIC_RUN_ID" in os.environ:  # if torchrun is killed, its processes get SIGTERM
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        return self

    def __exit__(self, *_) -> None:
        signal.signal(signal.SIGTERM, self.old_handler)

    def _receive(self, *_) -> None:
        self.received = True
        if self.raise_at_once:
            raise Preempted

    def poll(self, save: bool = False) -> int:
        """STOP if any process has received the signal, SAVE if one asks for a checkpoint, else 0.

        Every process must call it at the same step; all get the same answer.
        """
        return self.any_process(STOP if self.received else SAVE * save)

    @contextlib.contextmanager
    def immediate(self) -> Iterator[None]:
        """Within the block, where no state can be lost, the signal raises Preempted immediately."""
        self.raise_at_once = True
        try:
            if self.received:
                raise Preempted
            yield
        finally:
            self.raise_at_once = False
