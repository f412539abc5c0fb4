# SPDX-License-Identifier: Apache-2.0
"""Signals as data, and the end of every process that a launcher's jobs started, even if the launcher is killed."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

GRACE_S = 30  # between asking processes to end (TERM) and ending them (KILL); a training writes a checkpoint in it


class SignalPipe:
    """Signals as data: nothing is interrupted halfway, they are read from a pipe when we are ready for them."""

    def __init__(self) -> None:
        self.pipe, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup stays nohup
                signal.signal(number, lambda *_: None)

    def stop_within(self, seconds: float | None) -> int:
        """The first signal to stop that arrives in this time (None: until any signal arrives), or 0."""
        ready, _, _ = select.select([self.pipe], [], [], seconds)
        numbers = os.read(self.pipe, 512) if ready else b""
        return next((number for number in numbers if number != signal.SIGCHLD), 0)


def family(groups: set[int]) -> set[int]:
    """Living processes below this one or in these process groups; groups that they opened are added to `groups`."""
    living = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, group = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:3]
        except OSError:  # it ended while we looked
            continue
        if state not in (b"Z", b"X"):
            living[int(folder.name)] = int(parent), int(group)
    found: set[int] = set()
    while new := {pid for pid, (parent, group) in living.items()
                  if pid not in found and (parent == os.getpid() or parent in found or group in groups)}:
        found |= new
        groups |= {living[pid][1] for pid in new} - {os.getpgrp()}
    return found


def end(groups: set[int], hurried_within: Callable[[float], object]) -> None:
    """End these process groups and all below them: first by asking, then by force.

    Args:
        groups: their numbers; groups found below them are added.
        hurried_within: waits so many seconds; true if somebody lost patience meanwhile.
    """
    for number, patience in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 5)):
        deadline = time.monotonic() + patience
        told: set[int] = set()
        while pids := family(groups):
            for pid in sorted(pids - told):  # parents first: a launcher among them then knows why its jobs end
                with contextlib.suppress(ProcessLookupError):  # it ended by itself
                    os.kill(pid, number)
            told |= pids
            if hurried_within(0.05) or time.monotonic() > deadline:
                break


class Watchdog:
    """A process that ends the jobs if this one is killed without a chance to do so itself (KILL, out of memory).

    It reads from a pipe which process groups began (`+123`) and ended (`-123`). Where the pipe closes without a
    goodbye, it ends those that are left. It has a session of its own, is nobody's child and holds no file of ours, so
    that neither our callers nor our own search for processes (`family`) meet it.
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
            os._exit(0)  # whatever happened, this is not the launcher

    def _write(self, word: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # somebody ended the watchdog: the jobs do without
            os.write(self.writer, f"{word}\n".encode())

    def began(self, group: int) -> None:
        self._write(f"+{group}")

    def ended(self, group: int) -> None:
        self._write(f"-{group}")

    def goodbye(self) -> None:
        self._write("goodbye")
        os.close(self.writer)


def _watch(reader: int) -> None:
    """What the watchdog does. Ends when the launcher has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(reader, 0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.closerange(3, min(os.sysconf("SC_OPEN_MAX"), 65536))
    os.chdir("/")  # holds no file system either
    words = b"".join(iter(lambda: os.read(0, 65536), b"")).decode().split()
    groups: set[int] = set()
    for word in words:  # in order: a number may come back
        if word != "goodbye":
            (groups.add if word[0] == "+" else groups.discard)(int(word[1:]))
    if "goodbye" not in words:
        end(groups, time.sleep)
