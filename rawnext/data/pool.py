# SPDX-License-Identifier: Apache-2.0
"""Worker processes that end with their parent.

The workers of a ProcessPoolExecutor whose parent is killed wait forever, and keep its files and locks open.
"""

import ctypes
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

PR_SET_PDEATHSIG = 1


def worker_pool(num_workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(num_workers, initializer=die_with, initargs=(os.getpid(),))


def die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os._exit(1)
