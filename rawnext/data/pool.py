# SPDX-License-Identifier: Apache-2.0
"""Worker processes that end with the process that started them.

Python's wait for work that nobody will send when their parent is killed, for ever, with its files and locks in hand.
"""

import ctypes
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

PR_SET_PDEATHSIG = 1


def worker_pool(num_workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(num_workers, initializer=end_with, initargs=(os.getpid(),))


def end_with(parent: int) -> None:
    """Have the system kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os._exit(1)
