#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command, or N of them, as jobs of Slurm, each with its log, and wait for them.

  slurm.py [options] [JOB=1:N] log/x.JOB.log command args...
  slurm.py --mem 4G JOB=1:20 exp/log/extract.JOB.log steps/extract.py --job JOB --num-jobs 20

The word JOB (any name: JOB, N, ...) becomes 1, 2, ..., N in the command and in the log's name.

  --mem 4G  --gpu G  --num-threads T  --time 24:00:00   what each job needs
  --num-nodes N              the command runs once on each of N nodes, in an environment that tells torchrun about them
  --max-jobs-run N           at most N jobs at a time
  --pick all|failed|incomplete   by their old logs: run all jobs; those that failed or did not end; those that
                                 did not end
  --config conf/slurm.conf   how these and other --options become options of sbatch (this file is read if it exists)
  -p partition, -C x, ...    passed to sbatch;  -V: jobs get the whole environment;  -sync y: always so

A job inherits PATH only, goes to this folder, sources path.sh and runs the command there. If the command exits with 75
(it was asked to end, and can go on from what it saved), the job is queued again, in the same log.
Exit code: 0; 1 if a job failed; 255 for a wrong command line; 2 on INT, TERM or HUP, after the jobs were cancelled.
"""

import re
import sys
from itertools import groupby
from pathlib import Path

from jobs import Request, front_door
from scheduler import Launcher, Scheduler, ask, squeeze

DEFAULT_CONF = """
command sbatch --export=PATH --requeue --signal=TERM@60
option mem=* --mem=$0
option mem=0
option time=* --time=$0
option num_threads=* --cpus-per-task=$0
option gpu=0
option gpu=* --gres=gpu:$0
"""
# Reasons to wait in the queue that do not pass by themselves.
STUCK = re.compile("[Hh]eld|BadConstraints|Partition(Down|Inactive|NodeLimit|TimeLimit)|Invalid|launch failed")


def ranges(numbers: list[int]) -> str:
    """Numbers in sbatch's words: 1-3,7"""
    groups = [[number for _, number in group]
              for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{group[0]}-{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in groups)


class Slurm(Scheduler):
    conf = "conf/slurm.conf"
    default_conf = DEFAULT_CONF

    def submission(self, request: Request, todo: list[int], name: str, out: Path) -> tuple[list[str], str]:
        options = ["--parsable", "--wait", f"--job-name={name}", "--open-mode=append",
                   "--output=" + str(out).replace("%", "%%"),
                   f"--nodes={request.num_nodes}", "--ntasks-per-node=1"]
        for option, *values in request.other:
            if option == "-V":
                options.append("--export=ALL")
            elif option == "-pe":
                options.append(f"--cpus-per-task={values[1]}")
            elif option not in ("-sync", "-tc"):
                options += [option, *values]
        if len(todo) == 1:
            return options, str(todo[0])
        limit = f"%{request.max_jobs_run}" if request.max_jobs_run else ""
        return [*options, f"--array={ranges(todo)}{limit}"], "-"

    def job_id(self, text: str) -> str | None:
        match = re.search(r"^(\d+)(;\S+)?$", text, re.M)
        return match[1] if match else None

    def alive(self, job_id: str) -> bool:
        answer = ask("squeue", "--noheader", "--jobs", job_id, "--format", "%T")
        return bool(answer.stdout.strip()) and "Invalid job id" not in answer.stdout

    def trouble(self, job_id: str) -> str:
        reasons = ask("squeue", "--noheader", "--jobs", job_id, "--states", "PENDING", "--format", "%r").stdout
        return next((line for line in reasons.splitlines() if STUCK.search(line)), "")

    def cancel(self, job_id: str) -> None:
        ask("scancel", job_id)

    def fate(self, job_id: str, job: int | None) -> str:
        shown = ask("scontrol", "--oneliner", "show", "job", job_id + (f"_{job}" if job else "")).stdout
        words = [re.search(rf" {key}=(\S+)", shown) for key in ("JobState", "Reason", "NodeList", "RunTime")]
        return squeeze("\n".join(word[0] for word in words if word and word[1] != "None"))


if __name__ == "__main__":
    launcher = Launcher(Slurm())
    sys.exit(front_door(__doc__, launcher.run, launcher.claim, several_nodes=True))
