#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command, or N of them in parallel, on this machine, each with its own log. Kaldi's run.pl for Linux.

  run.py [options] [JOB=1:N] log/x.JOB.log command args...
  run.py --num-threads 2 JOB=1:4 exp/log/extract.JOB.log steps/extract.py --job JOB --num-jobs 4
  run.py log/count.log cat data/utt2spk \\| wc -l \\> count

  --max-jobs-run N  (-tc N)  run at most N jobs at a time (default: CPUs / threads per job, or GPUs / GPUs per job)
  --num-threads T            threads per job (sets OMP_NUM_THREADS)
  --gpu G                    GPUs per job (sets CUDA_VISIBLE_DEVICES); parallel jobs get different GPUs; 0: hide all
  --mem 4G, --time 24:00:00, --config F, -V, -sync y, -pe smp N, ...   used by slurm.py and sge.py; ignored here

On SIGINT, SIGTERM and SIGHUP run.py ends every process that its jobs started. If it is killed, a watchdog does so.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from jobs import LauncherError, Request, append_to_log, date, launcher_main, log_footer, log_header, print_message
from processes import SignalPipe, Watchdog, end_processes


@dataclass
class Job:
    number: int
    slot: int
    log: Path
    process: subprocess.Popen
    started: int


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as in CUDA_VISIBLE_DEVICES."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].replace(" ", "").split(",") if gpu not in ("", "-1")]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:  # not installed, as in many containers
        return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    return [str(i) for i in range(sum(line.startswith("GPU ") for line in listing.stdout.splitlines()))]


def slot_environments(request: Request) -> list[dict[str, str]]:
    """The variables to add to a job's environment, one set for each job that may run at the same time."""
    common = {"OMP_NUM_THREADS": str(request.num_threads)} if request.num_threads else {}
    if request.gpu:
        gpus = visible_gpus()
        if len(gpus) < request.gpu:
            raise LauncherError(f"--gpu {request.gpu}: only {len(gpus)} GPU(s) available ({','.join(gpus) or 'none'})")
        shares = [",".join(gpus[i:i + request.gpu]) for i in range(0, len(gpus) - request.gpu + 1, request.gpu)]
        num_slots = request.max_jobs_run or len(shares)
        return [{**common, "CUDA_VISIBLE_DEVICES": shares[i % len(shares)]} for i in range(num_slots)]
    if "gpu" in request.long_options:  # --gpu 0
        common["CUDA_VISIBLE_DEVICES"] = ""
    num_cpus = len(os.sched_getaffinity(0))
    return [common] * (request.max_jobs_run or max(1, num_cpus // (request.num_threads or 1)))


def start(request: Request, number: int, slot: int, environment: dict[str, str]) -> Job:
    """Start one job in its own session, so that all its processes can be found and ended."""
    command, log = request.job_command(number), request.log_path(number)
    # Bash reads the command from a file because Linux limits an argument to 128 KiB.
    append_to_log(log, log_header(command))
    try:
        with tempfile.TemporaryFile() as script, open(log, "ab") as output:
            script.write(os.fsencode(f"( {command}\n) </dev/null\n"))
            script.seek(0)
            process = subprocess.Popen(["bash"], stdin=script, stdout=output, stderr=output,
                                       start_new_session=True, env={**os.environ, **environment})
    except OSError as error:  # no memory or disk space
        raise LauncherError(f"cannot start the job for {log}: {error.strerror}", 1) from None
    return Job(number, slot, log, process, int(time.time()))


def finish(job: Job, request: Request) -> bool:
    """Write the last lines of a finished job's log. Returns: whether the job succeeded and the log could be written."""
    seconds = int(time.time()) - job.started
    try:
        append_to_log(job.log, log_footer(job.process.returncode, seconds, request.num_threads or 1))
    except LauncherError as error:  # such as a full disk
        print_message(str(error))
        return False
    return job.process.returncode == 0


def stop(running: dict[int, Job], signals: SignalPipe) -> None:
    """End every process of the running jobs and note it in their logs."""
    end_processes(set(running), signals.wait_for_stop)
    for job in running.values():
        try:
            append_to_log(job.log, f"# Stopped at {date()}\n".encode())
        except LauncherError as error:  # go on with the other logs
            print_message(str(error))


def run_jobs(request: Request, todo: list[int]) -> set[int]:
    """Run the jobs, as many at a time as there are slots. Returns: the numbers of those that failed."""
    environments = slot_environments(request)
    free, waiting = list(range(len(environments))), deque(todo)
    running: dict[int, Job] = {}
    failed: set[int] = set()
    watchdog = Watchdog()
    signals = SignalPipe()
    try:
        while waiting or running:
            while waiting and free:
                slot = free.pop(0)
                job = start(request, waiting.popleft(), slot, environments[slot])
                running[job.process.pid] = job
                watchdog.add(job.process.pid)
            if number := signals.wait_for_stop(None):
                raise LauncherError(f"stopped by {signal.Signals(number).name}; ended all jobs", 2)
            for pid in [pid for pid, job in running.items() if job.process.poll() is not None]:
                job = running.pop(pid)
                watchdog.remove(pid)
                free.append(job.slot)
                if not finish(job, request):
                    failed.add(job.number)
    except BaseException:
        stop(running, signals)
        raise
    finally:
        watchdog.close()
    return failed


if __name__ == "__main__":
    sys.exit(launcher_main(__doc__, run_jobs))
