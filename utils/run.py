#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command, or N of them side by side, on this machine, each with its log.

  run.py [options] [JOB=1:N] log/x.JOB.log command args...
  run.py --num-threads 2 JOB=1:4 exp/log/extract.JOB.log steps/extract.py --job JOB --num-jobs 4
  run.py log/count.log cat data/utt2spk \\| wc -l \\> count

The word JOB (any name: JOB, N, ...) becomes 1, 2, ..., N in the command and in the log's name.

  --max-jobs-run N  (-tc N)  at most N jobs at a time; otherwise as many as there are CPUs / threads, or GPUs
  --num-threads T            each job uses T threads (OMP_NUM_THREADS is set to T)
  --gpu G                    each job gets G GPUs of its own (CUDA_VISIBLE_DEVICES)
  --pick all|failed|incomplete   by their old logs: run all jobs; those that failed or did not end; those that
                                 did not end
  --mem 4G, --time 24:00:00, --config F, -V, -sync y, -pe smp N, ...   for launchers with a scheduler; ignored here

Exit code: 0; 1 if a job failed; 255 for a wrong command line; 2 on INT, TERM or HUP, after every process that the
jobs started was ended. If run.py itself is killed (KILL), a watchdog ends them. Kaldi's run.pl, for Linux.
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

from jobs import Refused, Request, append, date, foot, front_door, head, say
from processes import SignalPipe, Watchdog, end


@dataclass
class Job:
    number: int
    slot: int
    log: Path
    process: subprocess.Popen
    started: int


def visible_gpus() -> list[str]:
    """The GPUs that we may use, as CUDA_VISIBLE_DEVICES would name them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].replace(" ", "").split(",") if gpu not in ("", "-1")]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    except OSError:
        return []
    return [str(i) for i, _ in enumerate(line for line in listing.stdout.splitlines() if line.startswith("GPU "))]


def slot_environments(request: Request) -> list[dict[str, str]]:
    """What to add to a job's environment, for each of the jobs that may run at a time."""
    common = {"OMP_NUM_THREADS": str(request.num_threads)} if request.num_threads else {}
    gpus = visible_gpus() if request.gpu else []
    if gpus and len(gpus) < request.gpu:
        raise Refused(f"--gpu {request.gpu}: only {len(gpus)} GPU(s) here ({','.join(gpus)})")
    if gpus:
        shares = [",".join(gpus[i:i + request.gpu]) for i in range(0, len(gpus) - request.gpu + 1, request.gpu)]
        num_slots = request.max_jobs_run or len(shares)
        return [{**common, "CUDA_VISIBLE_DEVICES": shares[i % len(shares)]} for i in range(num_slots)]
    if request.gpu:
        say("warning: no GPU found, one job runs at a time")
    num_cpus = 1 if request.gpu else len(os.sched_getaffinity(0))
    return [common] * (request.max_jobs_run or max(1, num_cpus // (request.num_threads or 1)))


def start(request: Request, number: int, slot: int, environment: dict[str, str]) -> Job:
    """Start one job in a session of its own, so that all it starts can be found and ended."""
    command, log = request.command_of(number), request.log_of(number)
    # Bash reads the command as its script, not as an argument: arguments have a limit of 128 KiB.
    append(log, head(command))
    try:
        with tempfile.TemporaryFile() as script, open(log, "ab") as output:
            script.write(os.fsencode(f"( {command}\n) </dev/null\n"))
            script.seek(0)
            process = subprocess.Popen(["bash"], stdin=script, stdout=output, stderr=output,
                                       start_new_session=True, env={**os.environ, **environment})
    except OSError as error:  # no memory or space for it
        raise Refused(f"cannot start the job of {log}: {error.strerror}", 1) from None
    return Job(number, slot, log, process, int(time.time()))


def finish(job: Job, request: Request) -> bool:
    """Close the log of a job that ended; returns whether it succeeded and its log says so."""
    try:
        append(job.log, foot(job.process.returncode, int(time.time()) - job.started, request.num_threads or 1))
    except Refused as why:  # the disk is full, perhaps
        say(str(why))
        return False
    return job.process.returncode == 0


def stop(running: dict[int, Job], signals: SignalPipe) -> None:
    """End every process of the running jobs, and say so in their logs."""
    end(set(running), signals.stop_within)
    for job in running.values():
        try:
            append(job.log, f"# Stopped at {date()}\n".encode())
        except Refused as why:  # the other logs have their turn
            say(str(why))


def run_here(request: Request, todo: list[int]) -> set[int]:
    """Run the jobs, as many at a time as there are slots; returns those that failed."""
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
                watchdog.began(job.process.pid)
            if number := signals.stop_within(None):
                raise Refused(f"stopped by {signal.Signals(number).name}, and the jobs with it", 2)
            for pid in [pid for pid, job in running.items() if job.process.poll() is not None]:
                job = running.pop(pid)
                watchdog.ended(pid)
                free.append(job.slot)
                if not finish(job, request):
                    failed.add(job.number)
    except BaseException:
        stop(running, signals)
        raise
    finally:
        watchdog.goodbye()
    return failed


if __name__ == "__main__":
    sys.exit(front_door(__doc__, run_here))
