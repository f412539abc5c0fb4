# SPDX-License-Identifier: Apache-2.0
"""Programs whose output is read: limits of their time and memory, and their end with this process."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rawnext.data.pipes import run_program


def test_output_and_failures():
    parts = []
    assert run_program(["bash", "-c", "echo a; echo b >&2"], "it", parts.append) == "b\n" and parts == [b"a\n"]
    for words, why in (("exit 3", r"it failed \(exit status 3\)"), ("kill -9 $$", "it was killed by signal 9"),
                       ("echo no >&2", "it wrote nothing: no")):
        with pytest.raises(OSError, match=why):
            run_program(["bash", "-c", words], "it", parts.append)


def test_limits_of_time_and_memory():
    with pytest.raises(OSError, match="it was killed; it may take 1 s of processor time"):
        run_program(["bash", "-c", "while :; do :; done"], "it", print, cpu_s=1)
    words = [sys.executable, "-c", "import time; time.sleep(0.2); bytearray(1 << 30); print()"]
    assert run_program(words, "it", lambda _: None) == ""
    with pytest.raises(OSError, match="it failed .*MemoryError"):
        run_program(words, "it", print, memory=1 << 29)


def gone(pid: int) -> bool:
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv")
def test_programs_end_with_a_killed_parent(tmp_path):
    """A program that writes nothing, so that it does not notice the closed pipe."""
    program = f"""
from rawnext.data.pipes import run_program
run_program(["bash", "-c", "echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 60"], "it", print)"""
    parent = subprocess.Popen([sys.executable, "-c", program],
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        for _ in range(1000):
            if (tmp_path / "pid").exists():
                break
            time.sleep(0.02)
        pid = int((tmp_path / "pid").read_text())
        assert not gone(pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    for _ in range(500):
        if gone(pid):
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("still runs")
