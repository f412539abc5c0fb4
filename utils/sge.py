#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run a command, or N of them, as Grid Engine jobs, each with its own log, and wait for them.

  sge.py [options] [JOB=1:N] log/x.JOB.log command args...
  sge.py --mem 4G JOB=1:20 exp/log/extract.JOB.log steps/extract.py --job JOB --num-jobs 20

  --mem 4G  --gpu G  --num-threads T  --time 24:00:00   resources and time limit per job
  --max-jobs-run N  (-tc N)  run at most N jobs at a time
  --config conf/sge.conf     maps these and other --options to options of qsub (default: this file here or, without
                             one, that of the project)
  -q queue, -l x=y, -V, -pe smp N, ...   passed to qsub;  -sync y: ignored, always on

A job inherits only PATH, changes to the current folder, sources path.sh and runs the command. If the command exits with
75 (stopped by a signal after it saved its state), the job is requeued and appends to the same log.
On SIGINT, SIGTERM and SIGHUP sge.py deletes the jobs.
"""

import re
import sys
from pathlib import Path

from jobs import Request, launcher_main
from scheduler import Launcher, Scheduler, run_program


class GridEngine(Scheduler):
    conf = "conf/sge.conf"

    def __init__(self) -> None:
        self.tasks: dict[int, int] = {}  # job -> task, if they differ

    def submit_options(self, request: Request, todo: list[int], name: str, out: Path) -> tuple[list[str], str]:
        options = ["-terse", "-sync", "y", "-N", name, "-j", "y", "-o", str(out)]
        for option, *values in request.short_options:
            if option not in ("-sync", "-tc"):
                options += [option, *values]
        if len(todo) == 1:
            return options, str(todo[0])
        if request.max_jobs_run:
            options += ["-tc", str(request.max_jobs_run)]
        if todo == list(range(todo[0], todo[-1] + 1)):
            return [*options, "-t", f"{todo[0]}-{todo[-1]}"], "-"
        self.tasks = {job: task for task, job in enumerate(todo, 1)}  # qsub -t takes no list of numbers
        return [*options, "-t", f"1-{len(todo)}"], ",".join(map(str, todo))

    def job_id(self, text: str) -> str | None:
        match = re.search(r"^(\d+)(\.\d+-\d+:\d+)?$", text, re.M)
        return match[1] if match else None

    def is_active(self, job_id: str) -> bool:
        return "do not exist" not in run_program("qstat", "-j", job_id).stdout

    def problem(self, job_id: str) -> str:
        match = re.search(r"^error reason.*?:\s*(.*)$", run_program("qstat", "-j", job_id).stdout, re.M)
        return f"{match[1]} (qmod -cj {job_id} clears the error)" if match else ""

    def cancel(self, job_id: str) -> None:
        run_program("qdel", job_id)

    def exit_info(self, job_id: str, job: int | None) -> str:
        shown = run_program("qacct", "-j", job_id, *(["-t", str(self.tasks.get(job, job))] if job else [])).stdout
        lines = re.findall(r"^(hostname|failed|exit_status) +(.*\S)", shown, re.M)
        return "; ".join(" ".join(line) for line in lines[-3:])


if __name__ == "__main__":
    launcher = Launcher(GridEngine())
    sys.exit(launcher_main(__doc__, launcher.run, launcher.claim))
