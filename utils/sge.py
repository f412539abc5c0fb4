#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command, or N of them, as jobs of Grid Engine, each with its log, and wait for them.

  sge.py [options] [JOB=1:N] log/x.JOB.log command args...
  sge.py --mem 4G JOB=1:20 exp/log/extract.JOB.log steps/extract.py --job JOB --num-jobs 20

The word JOB (any name: JOB, N, ...) becomes 1, 2, ..., N in the command and in the log's name.

  --mem 4G  --gpu G  --num-threads T  --time 24:00:00   what each job needs
  --max-jobs-run N  (-tc N)  at most N jobs at a time
  --pick all|failed|incomplete   by their old logs: run all jobs; those that failed or did not end; those that
                                 did not end
  --config conf/sge.conf     how these and other --options become options of qsub (this file is read if it exists)
  -q queue, -l x=y, -V, -pe smp N, ...   passed to qsub;  -sync y: always so

A job inherits PATH only, goes to this folder, sources path.sh and runs the command there. If the command exits with 75
(it was asked to end, and can go on from what it saved), the job is queued again, in the same log.
Exit code: 0; 1 if a job failed; 255 for a wrong command line; 2 on INT, TERM or HUP, after the jobs were deleted.
"""

import re
import sys
from pathlib import Path

from jobs import Request, front_door
from scheduler import Launcher, Scheduler, ask, squeeze

DEFAULT_CONF = """
command qsub -v PATH -S /bin/bash -notify
option mem=* -l mem_free=$0
option mem=0
option time=* -l s_rt=$0
option num_threads=* -pe smp $0
option num_threads=1
option gpu=0
option gpu=* -l gpu=$0
"""


class GridEngine(Scheduler):
    conf = "conf/sge.conf"
    default_conf = DEFAULT_CONF

    def __init__(self) -> None:
        self.tasks: dict[int, int] = {}  # job -> task, where they differ

    def submission(self, request: Request, todo: list[int], name: str, out: Path) -> tuple[list[str], str]:
        options = ["-terse", "-sync", "y", "-N", name, "-j", "y", "-o", str(out)]
        for option, *values in request.other:
            if option not in ("-sync", "-tc"):
                options += [option, *values]
        if len(todo) == 1:
            return options, str(todo[0])
        if request.max_jobs_run:
            options += ["-tc", str(request.max_jobs_run)]
        if todo == list(range(todo[0], todo[-1] + 1)):
            return [*options, "-t", f"{todo[0]}-{todo[-1]}"], "-"
        self.tasks = {job: task for task, job in enumerate(todo, 1)}  # qsub knows no gaps
        return [*options, "-t", f"1-{len(todo)}"], ",".join(map(str, todo))

    def job_id(self, text: str) -> str | None:
        match = re.search(r"^(\d+)(\.\d+-\d+:\d+)?$", text, re.M)
        return match[1] if match else None

    def alive(self, job_id: str) -> bool:
        return "do not exist" not in ask("qstat", "-j", job_id).stdout

    def trouble(self, job_id: str) -> str:
        match = re.search(r"^error reason.*?:\s*(.*)$", ask("qstat", "-j", job_id).stdout, re.M)
        return f"{match[1]} (qmod -cj {job_id} clears the error)" if match else ""

    def cancel(self, job_id: str) -> None:
        ask("qdel", job_id)

    def fate(self, job_id: str, job: int | None) -> str:
        shown = ask("qacct", "-j", job_id, *(["-t", str(self.tasks.get(job, job))] if job else [])).stdout
        lines = re.findall(r"^(hostname|failed|exit_status) +(.*\S)", shown, re.M)
        return squeeze("\n".join(" ".join(line) for line in lines[-3:]))


if __name__ == "__main__":
    launcher = Launcher(GridEngine())
    sys.exit(front_door(__doc__, launcher.run, launcher.claim))
