#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command, or N of them, as Slurm jobs, each with its own log, and wait for them.

  slurm.py [options] [JOB=1:N] log/x.JOB.log command args...
  slurm.py --mem 4G JOB=1:20 exp/log/extract.JOB.log steps/extract.py --job JOB --num-jobs 20

  --mem 4G  --gpu G  --num-threads T  --time 24:00:00   resources and time limit per job
  --num-nodes N              run the command once on each of N nodes, with the environment variables that torchrun reads
  --max-jobs-run N           run at most N jobs at a time
  --config conf/slurm.conf   maps these and other --options to options of sbatch (default: this file here or, without
                             one, that of the project)
  -p partition, -C x, ...    passed to sbatch;  -V: jobs inherit the whole environment;  -sync y: ignored, always on

A job inherits only PATH, changes to the current folder, sources path.sh and runs the command. If the command exits with
75 (stopped by a signal after it saved its state), the job is requeued and appends to the same log.
On SIGINT, SIGTERM and SIGHUP slurm.py cancels the jobs.
"""

import re
import sys
from itertools import groupby
from pathlib import Path

from jobs import Request, launcher_main
from scheduler import Launcher, Scheduler, run_program

# Reasons to wait in the queue that do not resolve themselves.
STUCK = re.compile("[Hh]eld|BadConstraints|Partition(Down|Inactive|NodeLimit|TimeLimit)|Invalid|launch failed")


def ranges(numbers: list[int]) -> str:
    """Sorted numbers in the format of sbatch --array, such as 1-3,7."""
    groups = [[number for _, number in group]
              for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{group[0]}-{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in groups)


class Slurm(Scheduler):
    conf = "conf/slurm.conf"

    def submit_options(self, request: Request, todo: list[int], name: str, out: Path) -> tuple[list[str], str]:
        options = ["--parsable", "--wait", f"--job-name={name}", "--open-mode=append",
                   "--output=" + str(out).replace("%", "%%"),
                   f"--nodes={request.num_nodes}", "--ntasks-per-node=1"]
        for option, *values in request.short_options:
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

    def is_active(self, job_id: str) -> bool:
        answer = run_program("squeue", "--noheader", "--jobs", job_id, "--format", "%T")
        return bool(answer.stdout.strip()) and "Invalid job id" not in answer.stdout

    def problem(self, job_id: str) -> str:
        reasons = run_program("squeue", "--noheader", "--jobs", job_id, "--states", "PENDING", "--format", "%r").stdout
        return next((line for line in reasons.splitlines() if STUCK.search(line)), "")

    def cancel(self, job_id: str) -> None:
        run_program("scancel", job_id)

    def exit_info(self, job_id: str, job: int | None) -> str:
        shown = run_program("scontrol", "--oneliner", "show", "job", job_id + (f"_{job}" if job else "")).stdout
        fields = [re.search(rf" ({key}=\S+)", shown) for key in ("JobState", "Reason", "NodeList", "RunTime")]
        return "; ".join(field[1] for field in fields if field and not field[1].endswith("=None"))


if __name__ == "__main__":
    launcher = Launcher(Slurm())
    sys.exit(launcher_main(__doc__, launcher.run, launcher.claim, several_nodes=True))
