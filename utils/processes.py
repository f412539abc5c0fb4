# SPDX-License-Identifier: Apache-2.0
"""Signal handling, and ending every process that a launcher's jobs started, even if the launcher is killed."""

import contextlib
import math
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

GRACE_S = 30  # between SIGTERM and SIGKILL; long enough for training to save a checkpoint
REPEAT_S = 1  # signals this soon after the first are the same one, sent to the process group and passed on by a script


class SignalPipe:
    """Signals are written to a pipe and read when the launcher waits, so they interrupt no other operation."""

    def __init__(self) -> None:
        self.pipe, writer = os.pipe()
        self.first = math.inf  # time of the first signal to stop
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # started by nohup
                signal.signal(number, lambda *_: None)

    def wait_for_stop(self, seconds: float | None) -> int:
        """Wait this long (None: without limit) or until a signal arrives. Returns: SIGINT, SIGTERM or SIGHUP, or 0."""
        ready, _, _ = select.select([self.pipe], [], [], seconds)
        numbers = os.read(self.pipe, 512) if ready else b""
        number = next((number for number in numbers if number != signal.SIGCHLD), 0)
        if not number or 0 <= time.monotonic() - self.first < REPEAT_S:
            return 0
        self.first = min(self.first, time.monotonic())
        return number


def descendants(groups: set[int]) -> set[int]:
    """Running processes that descend from this one or belong to these process groups.

    Args:
        groups: ids of process groups. Changed in place: the groups of the processes found are added.
    """
    living = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, group = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if state not in (b"Z", b"X"):
            living[int(folder.name)] = int(parent), int(group)
    found: set[int] = set()
    while new := {pid for pid, (parent, group) in living.items()
                  if pid not in found and (parent == os.getpid() or parent in found or group in groups)}:
        found |= new
        groups |= {living[pid][1] for pid in new} - {os.getpgrp()}
    return found


def end_processes(groups: set[int], wait: Callable[[float], object]) -> None:
    """End these process groups and their descendants: SIGTERM, then SIGKILL after GRACE_S seconds.

    Args:
        groups: ids of process groups; see `descendants`.
        wait: waits this many seconds; a true result skips the rest of the grace time.
    """
    for number, timeout in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 5)):
        deadline = time.monotonic() + timeout
        signalled: set[int] = set()
        while pids := descendants(groups):
            for pid in sorted(pids - signalled):  # parents first: a nested launcher must get the signal before its jobs
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(pid, number)
            signalled |= pids
            if wait(0.05) or time.monotonic() > deadline:
                break


class Watchdog:
    """A process that ends the jobs if the launcher itself is killed (SIGKILL, out of memory).

    It reads from a pipe which process groups have started (`+123`) and ended (`-123`). If the pipe closes without
    `goodbye`, it ends the remaining groups. It runs as a daemon, in its own session and without the launcher's open
    files, so no caller waits for it and `descendants` does not find it.
    """

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        child = os.fork()
        if child:
            os.close(reader)
            os.waitpid(child, 0)
            return
        try:
            os.setsid()
            if os.fork() == 0:
                _watch(reader)
        finally:
            os._exit(0)  # the child must never return to the launcher's code

    def _write(self, word: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the watchdog was killed; go on without it
            os.write(self.writer, f"{word}\n".encode())

    def add(self, group: int) -> None:
        self._write(f"+{group}")

    def remove(self, group: int) -> None:
        self._write(f"-{group}")

    def close(self) -> None:
        self._write("goodbye")
        os.close(self.writer)


def _watch(reader: int) -> None:
    """The watchdog's main function. Returns after the launcher has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(reader, 0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.closerange(3, min(os.sysconf("SC_OPEN_MAX"), 65536))
    os.chdir("/")  # do not keep a file system busy
    words = b"".join(iter(lambda: os.read(0, 65536), b"")).decode().split()
    groups: set[int] = set()
    for word in words:  # in order: a process id may be reused
        if word != "goodbye":
            (groups.add if word[0] == "+" else groups.discard)(int(word[1:]))
    if "goodbye" not in words:
        end_processes(groups, time.sleep)
