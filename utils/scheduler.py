# SPDX-License-Identifier: Apache-2.0
"""Shared by slurm.py and sge.py: submit jobs, wait for them, cancel them, and read their results from their logs."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from job_files import base_path, job_name, lock_job_file, open_job_file, write_script
from jobs import PROGRAM, LauncherError, Request, has_ended, job_state, print_message
from launcher_conf import read_conf, submit_command
from processes import SignalPipe

JOB_SCRIPT = Path(__file__).resolve().with_name("cluster_job.sh")
POLL_S = 30         # interval between queries of the queue
CANCEL_S = 120      # timeout for cancelled jobs to end
LEAVE_S = 10        # timeout for a finished job to leave the queue
LOG_S = 60          # timeout for a log's last line to arrive through a network file system after a success
FAILED_LOG_S = 10   # the same after a failure, when the last line may never come
NO_PROGRAM = "no program {} on PATH; is this machine part of the cluster?"


class Scheduler(Protocol):
    """The commands of one scheduler."""

    conf: str  # path of the config file

    def submit_options(self, request: Request, todo: list[int], name: str, out: Path) -> tuple[list[str], str]:
        """The options of sbatch or qsub, and the job numbers as cluster_job.sh expects them."""

    def job_id(self, text: str) -> str | None:
        """The job's id in the output of sbatch or qsub, or None if it is not there yet."""

    def is_active(self, job_id: str) -> bool:
        """Whether the job is in the queue or running. True if the scheduler does not answer."""

    def problem(self, job_id: str) -> str:
        """The reason why the job cannot start without intervention; empty if there is none."""

    def cancel(self, job_id: str) -> None:
        """Cancel the job with all its tasks."""

    def exit_info(self, job_id: str, job: int | None) -> str:
        """How the scheduler reports the end of task `job` of an array, or of a single job (None); may be empty."""


def run_program(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scheduler's programs, with stderr merged into stdout.

    Raises: LauncherError: the program is not on PATH.
    """
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", start_new_session=True)
    except FileNotFoundError:
        raise LauncherError(NO_PROGRAM.format(command[0]), 1) from None


def start_in_terminal(command: list[str]) -> tuple[subprocess.Popen, Callable[[], str]]:
    """Start a program with a pseudo-terminal as its output, because qsub delays the job's id if it writes to a pipe.

    Returns: the process, and a function that returns all its output so far (all its output after it has ended).
    """
    controller, terminal = os.openpty()
    os.set_blocking(controller, False)
    output = bytearray()
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
                                   start_new_session=True)
    except FileNotFoundError:
        raise LauncherError(NO_PROGRAM.format(command[0]), 1) from None
    finally:
        os.close(terminal)

    def output_so_far() -> str:
        with contextlib.suppress(OSError):  # nothing to read, or the end
            while part := os.read(controller, 4096):
                output.extend(part)
        return output.decode(errors="replace").replace("\r", "")

    return process, output_so_far


class Launcher:
    """One call of slurm.py or sge.py."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.signals = SignalPipe()

    @contextlib.contextmanager
    def claim(self, request: Request) -> Iterator[None]:
        """Check the options, lock the jobs, and cancel those left by a launcher that was killed."""
        conf = read_conf(request.config, self.scheduler.conf)
        self.command = submit_command(conf, request)
        if Path(request.log).exists() and not Path(request.log).is_file():
            raise LauncherError(f"the log {request.log} is not a regular file; jobs on other machines need one")
        self.base = base_path(request)
        with open_job_file(Path(f"{self.base}.job")) as self.file:
            lock_job_file(self.file)
            self._cancel_orphans()
            self._record("")
            yield
            self.file.truncate(0)

    def _record(self, job_id: str) -> None:
        """Write this launcher's host, process id and job id to the locked file."""
        self.file.truncate(0)
        self.file.write(f"{socket.gethostname()} {os.getpid()} {PROGRAM} {job_id}\n")
        self.file.flush()

    def _cancel_orphans(self) -> None:
        """Cancel the jobs left by a launcher that was killed: they would write to the same files as the new jobs."""
        self.file.seek(0)
        words = self.file.read().split()
        if len(words) < 4:
            return
        program, job_id = words[2:4]
        if job_id == "?":
            print_message(f"warning: an earlier {program} was killed while submitting these jobs; check the queue")
        elif program != PROGRAM:
            raise LauncherError(f"job {job_id} of {program}, which was killed, may still write to these logs; "
                                f"cancel it, then remove {self.file.name}", 1)
        elif self.scheduler.is_active(job_id):
            print_message(f"cancelling job {job_id} of an earlier {program}, which was killed")
            self._cancel(job_id)

    def _cancel(self, job_id: str) -> None:
        """Cancel a job and wait until it has ended. Raises: LauncherError: timeout, or a signal arrives."""
        self.scheduler.cancel(job_id)
        deadline = time.monotonic() + CANCEL_S
        while self.scheduler.is_active(job_id):
            if time.monotonic() > deadline or self._pause(0.5):
                raise LauncherError(f"cancelled job {job_id}, but it has not ended yet", 2)
        self._record("")

    def run(self, request: Request, todo: list[int]) -> set[int]:
        """Submit the jobs and wait for them. Returns: the numbers of those that failed."""
        if not todo:
            return set()
        script, out = Path(f"{self.base}.sh"), Path(f"{self.base}.out")
        write_script(request, script)
        for old in [out, *script.parent.glob("*.again"), *script.parent.glob("*.restarts")]:
            if old == out or old.name.startswith(f"{script.stem}."):
                old.unlink(missing_ok=True)
        options, numbers = self.scheduler.submit_options(request, todo, job_name(self.base, request), out)
        arguments = [str(script), os.getcwd(), request.log, request.name or "-", str(request.num_threads or 1),
                     str(request.num_nodes), numbers]
        self._record("?")
        logs = [request.log_path(job) for job in todo]
        job_id, succeeded = self._submit_and_wait([*self.command, *options, str(JOB_SCRIPT), *arguments], logs)
        return self._failed_jobs(request, todo, job_id, LOG_S if succeeded else FAILED_LOG_S)

    def _submit_and_wait(self, command: list[str], logs: list[Path]) -> tuple[str, bool]:
        """Returns: the job's id, and whether all logs are complete or the scheduler reports success."""
        try:
            process, output = start_in_terminal(command)
        except LauncherError:
            self._record("")  # nothing was submitted, so a later run has nothing to warn of
            raise
        job_id, stopped = None, 0
        while job_id is None:
            ended = process.poll() is not None
            text = output()
            job_id = self.scheduler.job_id(text)
            if job_id is None and ended:
                self._record("")
                reason = "; ".join(filter(None, map(str.strip, text.splitlines())))
                raise LauncherError(f"{command[0]} refused: {reason or f'exit code {process.returncode}'}", 1)
            if job_id is None and (number := self._pause(0.05)):
                if stopped:
                    raise LauncherError(f"stopped before {command[0]} printed a job id; the job may be in the queue", 2)
                stopped = number
        self._record(job_id)
        try:
            ended = self._wait(process, output, job_id, stopped, logs)
        finally:
            process.kill()  # it may not have noticed that the job has ended
            process.wait()
        return job_id, ended or process.returncode == 0

    def _wait(self, process: subprocess.Popen, output: Callable[[], str], job_id: str, stopped: int,
              logs: list[Path]) -> bool:
        """Wait until the job has ended; cancel it on a signal. Returns: whether all logs are complete.

        sbatch and qsub also wait for the job. But sbatch polls as rarely as every 40 s, whereas the logs show at once
        that a job has ended; and sbatch may exit before a requeued job has ended.
        """
        reported, polled, pause, waiting = "", time.monotonic(), 0.5, deque(logs)
        while not stopped and (process.poll() is None or self.scheduler.is_active(job_id)):
            output()  # a full terminal would block sbatch or qsub
            while waiting and has_ended(waiting[0]):
                waiting.popleft()
            if not waiting:
                self._wait_until_gone(job_id)
                return True
            stopped = self._pause(pause, process if process.poll() is None else None)
            pause = min(1.2 * pause, 10 if process.returncode is not None else 2)
            if process.poll() is None and time.monotonic() > polled + POLL_S:
                if not self.scheduler.is_active(job_id):
                    return False
                polled, problem = time.monotonic(), self.scheduler.problem(job_id)
                if problem not in ("", reported):
                    print_message(f"job {job_id} does not start: {problem}")
                    reported = problem
        if stopped:
            print_message(f"stopped by {signal.Signals(stopped).name}, cancelling job {job_id}")
            self._cancel(job_id)
            raise LauncherError(f"cancelled job {job_id}", 2)
        return False

    def _wait_until_gone(self, job_id: str) -> None:
        """Wait until a finished job has left the queue, or LEAVE_S seconds."""
        deadline = time.monotonic() + LEAVE_S
        while self.scheduler.is_active(job_id) and time.monotonic() < deadline and not self._pause(0.3):
            pass

    def _pause(self, seconds: float, process: subprocess.Popen | None = None) -> int:
        """Wait this long, or until the process ends or a stop signal arrives. Returns: that signal, or 0."""
        deadline = time.monotonic() + seconds
        stopped = 0  # in a loop, because any child process that ends interrupts the wait
        while not stopped and (left := deadline - time.monotonic()) > 0 and (not process or process.poll() is None):
            stopped = self.signals.wait_for_stop(left)
        return stopped

    def _failed_jobs(self, request: Request, todo: list[int], job_id: str, timeout: float) -> set[int]:
        """The jobs that did not succeed, by their logs. Waits `timeout` seconds for incomplete logs, then reports them.

        Returns: the numbers of the jobs.
        """
        deadline = time.monotonic() + timeout
        incomplete = todo
        while incomplete := [job for job in incomplete if job_state(request.log_path(job)) == "incomplete"]:
            if time.monotonic() > deadline or self._pause(0.5):
                break
            os.listdir(request.log_path(incomplete[0]).parent)  # makes NFS update its cache
        for job in incomplete[:3]:
            info = self.scheduler.exit_info(job_id, job if len(todo) > 1 else None)
            print_message(f"{request.log_path(job)} is incomplete: the job was killed or deleted"
                          + (f" ({info})" if info else ""))
        return {job for job in todo if job_state(request.log_path(job)) != "succeeded"}
