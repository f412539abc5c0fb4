# SPDX-License-Identifier: Apache-2.0
"""What slurm.py and sge.py share: submit the jobs of one call, wait for them, cancel them, judge them by their logs."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from job_files import files_of, job_file, job_name, take_lock, write_script
from jobs import PROGRAM, Refused, Request, has_end, last_state, say
from launcher_conf import read_conf, submit_command
from processes import SignalPipe

JOB_SCRIPT = Path(__file__).resolve().with_name("cluster_job.sh")
LOOK_S = 30      # between two looks at the queue
CANCEL_S = 120   # how long cancelled jobs may take to end
SEE_OFF_S = 10   # how long an ended job may stay in the queue before we go on
LOG_S = 60       # how long a log's end may take through a network file system, if the scheduler calls it a success
DEAD_LOG_S = 10  # ... and if it does not


class Scheduler(ABC):
    """What a launcher knows about its scheduler."""

    conf: str          # the config file that is read if it exists
    default_conf: str  # what counts where it does not

    @abstractmethod
    def submission(self, request: Request, todo: list[int], name: str, out: Path) -> tuple[list[str], str]:
        """Options of the submitting program; and the jobs' numbers, as cluster_job.sh takes them."""

    @abstractmethod
    def job_id(self, text: str) -> str | None:
        """The job's id, from what the submitting program has printed so far."""

    @abstractmethod
    def alive(self, job_id: str) -> bool:
        """Does the scheduler still hold this job, or fail to answer?"""

    @abstractmethod
    def trouble(self, job_id: str) -> str:
        """Why the job will not begin without help; empty if it will."""

    @abstractmethod
    def cancel(self, job_id: str) -> None:
        """Ask for the end of the job, all its tasks."""

    @abstractmethod
    def fate(self, job_id: str, job: int | None) -> str:
        """What the scheduler tells about the end of the only job (None) or of one of them; may be empty."""


def ask(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scheduler's programs; its output and errors come together.

    Raises: Refused: there is no such program here.
    """
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", start_new_session=True)
    except FileNotFoundError:
        raise _no_program(command[0]) from None


def _no_program(name: str) -> Refused:
    return Refused(f"no program {name} on PATH: does this machine belong to the cluster?", 1)


def start_on_terminal(command: list[str]) -> tuple[subprocess.Popen, Callable[[], str]]:
    """Start a program that believes to write on a terminal: qsub keeps the job's id back from anything else.

    Returns: the process, and a function that tells all that it has written so far; once the process has ended it waits
        for the last of it.
    """
    ours, terminal = os.openpty()
    parts: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as file:  # how the end of a terminal looks
            parts.extend(iter(lambda: file.read(4096), b""))

    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
                                   start_new_session=True)
    except FileNotFoundError:
        raise _no_program(command[0]) from None
    finally:
        os.close(terminal)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def written() -> str:
        if process.returncode is not None:
            reader.join(1)  # a child that lives on may hold the terminal
        return b"".join(parts).decode(errors="replace").replace("\r", "")

    return process, written


def squeeze(text: str) -> str:
    """Several lines as one."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


class Launcher:
    """One call: from the lock on its files to the verdict over its jobs."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.signals = SignalPipe()

    @contextlib.contextmanager
    def claim(self, request: Request) -> Iterator[None]:
        """Check the options; then hold the lock on these jobs, and end those of a launcher that was killed."""
        conf = read_conf(request.config, self.scheduler.conf, self.scheduler.default_conf)
        self.command = submit_command(conf, request)
        if Path(request.log).exists() and not Path(request.log).is_file():
            raise Refused(f"the log {request.log} is not a file, which jobs on other machines need")
        self.base = files_of(request)
        with job_file(Path(f"{self.base}.job")) as self.file:
            take_lock(self.file)
            self._end_orphans()
            self._record("")
            yield
            self.file.truncate(0)

    def _record(self, job_id: str) -> None:
        """Say in the locked file who we are and which job is ours."""
        self.file.truncate(0)
        self.file.write(f"{socket.gethostname()} {os.getpid()} {PROGRAM} {job_id}\n")
        self.file.flush()

    def _end_orphans(self) -> None:
        """Cancel what a launcher left behind that was killed: it would write the same files as the new jobs."""
        self.file.seek(0)
        words = self.file.read().split()
        if len(words) < 4:
            return
        program, job_id = words[2:4]
        if job_id == "?":
            say(f"warning: an earlier {program} was killed while it submitted these jobs: are they in the queue?")
        elif program != PROGRAM:
            raise Refused(f"job {job_id} of {program}, which was killed, may still write these logs: cancel it, then "
                          f"remove {self.file.name}", 1)
        elif self.scheduler.alive(job_id):
            say(f"job {job_id} of an earlier {program}, which was killed, still writes these logs: cancelling it")
            self._cancel(job_id)

    def _cancel(self, job_id: str) -> None:
        """Cancel a job and wait until it is gone; a signal cuts the waiting short."""
        self.scheduler.cancel(job_id)
        deadline = time.monotonic() + CANCEL_S
        while self.scheduler.alive(job_id):
            if time.monotonic() > deadline or self._pause(0.5):
                raise Refused(f"job {job_id} is cancelled but has not ended yet", 2)
        self._record("")

    def run(self, request: Request, todo: list[int]) -> set[int]:
        """Submit the jobs and wait; returns those that failed."""
        if not todo:
            return set()
        script, out = Path(f"{self.base}.sh"), Path(f"{self.base}.out")
        write_script(request, script)
        for old in [out, *script.parent.glob("*.again"), *script.parent.glob("*.restarts")]:
            if old == out or old.name.startswith(f"{script.stem}."):
                old.unlink(missing_ok=True)
        options, numbers = self.scheduler.submission(request, todo, job_name(self.base, request), out)
        arguments = [str(script), os.getcwd(), request.log, request.name or "-", str(request.num_threads or 1),
                     str(request.num_nodes), numbers]
        self._record("?")
        logs = [request.log_of(job) for job in todo]
        job_id, good = self._submit_and_wait([*self.command, *options, str(JOB_SCRIPT), *arguments], logs)
        return self._judge(request, todo, job_id, LOG_S if good else DEAD_LOG_S)

    def _submit_and_wait(self, command: list[str], logs: list[Path]) -> tuple[str, bool]:
        """Returns the job's id, and whether the scheduler calls all its tasks a success."""
        process, output = start_on_terminal(command)
        job_id, stopped = None, 0
        while job_id is None:
            ended = process.poll() is not None
            text = output()
            job_id = self.scheduler.job_id(text)
            if job_id is None and ended:
                self._record("")
                raise Refused(f"{command[0]} refused: {squeeze(text) or f'exit code {process.returncode}'}", 1)
            if job_id is None and (number := self._pause(0.05)):
                if stopped:
                    raise Refused(f"stopped while {command[0]} did not answer: the job may be in the queue", 2)
                stopped = number
        self._record(job_id)
        try:
            ended = self._wait(process, job_id, stopped, logs)
        finally:
            process.kill()  # it would look for a job that has gone
            process.wait()
        return job_id, ended or process.returncode == 0

    def _wait(self, process: subprocess.Popen, job_id: str, stopped: int, logs: list[Path]) -> bool:
        """Wait until the job has ended; on a signal, cancel it. Returns whether all logs have an end.

        The submitting program waits itself; but it may look as seldom as every 40 s (sbatch), where the end of a log is
        seen at once, and a job that is queued again may outlive it.
        """
        told, looked, pause, waiting = "", time.monotonic(), 0.5, deque(logs)
        while not stopped and (process.poll() is None or self.scheduler.alive(job_id)):
            while waiting and has_end(waiting[0]):
                waiting.popleft()
            if not waiting:
                self._see_off(job_id)
                return True
            stopped = self._pause(pause, process if process.poll() is None else None)
            pause = min(1.2 * pause, 10 if process.returncode is not None else 2)
            if process.poll() is None and time.monotonic() > looked + LOOK_S:
                if not self.scheduler.alive(job_id):
                    return False
                looked, trouble = time.monotonic(), self.scheduler.trouble(job_id)
                if trouble not in ("", told):
                    say(f"job {job_id} does not begin: {trouble}")
                    told = trouble
        if stopped:
            say(f"stopped by {signal.Signals(stopped).name}, cancelling job {job_id}")
            self._cancel(job_id)
            raise Refused(f"job {job_id} is cancelled", 2)
        return False

    def _see_off(self, job_id: str) -> None:
        """Give the scheduler a moment to take leave of a job that has ended."""
        deadline = time.monotonic() + SEE_OFF_S
        while self.scheduler.alive(job_id) and time.monotonic() < deadline and not self._pause(0.3):
            pass

    def _pause(self, seconds: float, process: subprocess.Popen | None = None) -> int:
        """Wait so long, or until this process has ended. Returns the signal to stop that came meanwhile, or 0."""
        deadline = time.monotonic() + seconds
        stopped = 0  # a process that ends wakes us too, those of `ask` among them
        while not stopped and (left := deadline - time.monotonic()) > 0 and (not process or process.poll() is None):
            stopped = self.signals.stop_within(left)
        return stopped

    def _judge(self, request: Request, todo: list[int], job_id: str, patience: float) -> set[int]:
        """The jobs whose logs do not say that they succeeded; those without an end get some time, then a word."""
        deadline = time.monotonic() + patience
        open_ended = todo
        while open_ended := [job for job in open_ended if last_state(request.log_of(job)) == "incomplete"]:
            if time.monotonic() > deadline or self._pause(0.5):
                break
            os.listdir(request.log_of(open_ended[0]).parent)  # a network file system looks again then
        for job in open_ended[:3]:
            fate = self.scheduler.fate(job_id, job if len(todo) > 1 else None)
            say(f"{request.log_of(job)} has no end: the job was killed or deleted" + (f" ({fate})" if fate else ""))
        return {job for job in todo if last_state(request.log_of(job)) != "succeeded"}
