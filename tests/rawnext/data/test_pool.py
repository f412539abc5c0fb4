# SPDX-License-Identifier: Apache-2.0
"""Workers return results in order and end with their parent, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rawnext.data.pool import worker_pool

PARENT = """
import os, time
from rawnext.data.pool import worker_pool
with worker_pool(3) as pool:
    list(pool.map(time.sleep, [0.1] * 6))
    print(*pool._processes, flush=True)
    list(pool.map(time.sleep, [0.1] * 600))
"""


def test_results_are_in_order():
    with worker_pool(2) as pool:
        assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except OSError:
        return False


def test_workers_end_with_their_parent(root):
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=root, stdout=subprocess.PIPE, text=True)
    workers = list(map(int, parent.stdout.readline().split()))
    assert len(workers) == 3 and all(map(alive, workers))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "workers without a parent"
        time.sleep(0.01)
