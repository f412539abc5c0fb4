# SPDX-License-Identifier: Apache-2.0
"""Being asked to end: a scheduler sends SIGTERM some seconds before it takes the machine away."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

import torch

from rawnext.dist import DelayedAny

PR_SET_PDEATHSIG = 1  # of prctl(2)


class Preempted(Exception):
    """The process was asked to end, and what it had done is saved."""


class StopRequest:
    """SIGTERM as a question that is asked between steps. To be used by `with`; restores the old handler."""

    def __init__(self, device: torch.device) -> None:
        self.asked = self.may_leave = False
        self.vote = DelayedAny(device)

    def __enter__(self) -> "StopRequest":
        self.before = signal.signal(signal.SIGTERM, self._notice)
        if "TORCHELASTIC_RUN_ID" in os.environ:  # should torchrun be killed, its processes end too
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        return self

    def __exit__(self, *_) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def _notice(self, *_) -> None:
        self.asked = True
        if self.may_leave:
            raise Preempted

    def heard(self) -> bool:
        """Was any process asked to end? Every process must call it, at the same step, and gets the same answer."""
        return self.vote(self.asked)

    @contextlib.contextmanager
    def leaving_at_once(self) -> Iterator[None]:
        """Within the block, where nothing can be lost, the signal raises Preempted as it comes."""
        self.may_leave = True
        try:
            if self.asked:
                raise Preempted
            yield
        finally:
            self.may_leave = False
