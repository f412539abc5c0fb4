# SPDX-License-Identifier: Apache-2.0
"""Programs of steps/ and local/ in forks of a process that has imported torch and others: less time for each start."""

import atexit
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
FORKED = Path(__file__).resolve().parent / "forked"


@cache
def server() -> str:
    """The socket of this process's server, started now. It ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="rawnext-tests-")
    env = {**os.environ, **ONE_THREAD, "LC_ALL": "C", "LHOTSE_AUDIO_BACKEND": "LibsndfileBackend", "MPLBACKEND": "Agg"}
    process = subprocess.Popen([sys.executable, FORKED / "server.py", f"{folder.name}/socket"], env=env, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder.name)

    @atexit.register
    def end() -> None:
        process.stdin.close()
        process.wait()
        folder.cleanup()

    assert process.stdout.readline() == "ready\n"
    return f"{folder.name}/socket"


def program(pid: int) -> int:
    """The process in which the program of a process runs: `pid`, unless it runs as a fork."""
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    return int(name) if name.isdigit() else pid


def forking(env: dict[str, str] | None = None) -> dict[str, str]:
    """The environment (default: ours) in which each Python program of steps/ and local/ runs as a fork of `server`.

    Not for tests that kill programs, limit their resources, look for them in /proc or measure their start.
    """
    env = dict(os.environ if env is None else env)
    more = env.get("PYTHONPATH")
    return {**env, "PYTHONPATH": os.pathsep.join([str(FORKED), *([more] if more else [])]),
            "RAWNEXT_TEST_SERVER": server()}
