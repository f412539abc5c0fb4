# SPDX-License-Identifier: Apache-2.0
"""The files that a call of slurm.py or sge.py keeps beside its logs, in `q/`.

NAME.sh: the command; `bash NAME.sh 3` runs job 3 by hand. NAME.out: what the scheduler says while it runs the jobs.
NAME.job: who waits for which job; locked while the launcher lives. NAME.3.again, NAME.3.restarts: see cluster_job.sh.
"""

import fcntl
import os
import re
import shlex
from pathlib import Path
from typing import IO

from jobs import PROGRAM, Refused, Request, say

KEPT = ("RAWNEXT_COMMAND",)  # variables that a job gets besides PATH


def files_of(request: Request) -> Path:
    """Where the call keeps its files: q/NAME in the first folder that is common to all logs; suffixes come to it."""
    parts = Path(os.path.normpath(request.log)).parts
    first = next((i for i, part in enumerate(parts) if request.for_job(part, "") != part), len(parts) - 1)
    return Path(os.getcwd(), *parts[:first], "q", ".".join(parts[first:]).removesuffix(".log"))


def job_name(base: Path, request: Request) -> str:
    """How the queue calls the jobs."""
    name = re.sub(r"[^\w.-]|\.(?=\.)", "", request.for_job(base.name, ""), flags=re.ASCII).strip(".-")
    return name if name[:1].isalpha() else f"job.{name}"  # Grid Engine takes no digit at its beginning


def write_script(request: Request, path: Path) -> None:
    """The command of every job as a script; its argument is the job's number."""
    variables = {name: os.environ[name] for name in KEPT if name in os.environ}
    if request.num_threads:
        variables["OMP_NUM_THREADS"] = str(request.num_threads)
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    replace = f"command=${{command//{request.name}/$1}}\n" if request.name else ""
    path.write_text(f"""#!/usr/bin/env bash
# What {PROGRAM} runs; `bash {path.name} 3` does job 3 by hand.
command={shlex.quote(request.command)}
{replace}[ "${{SLURM_PROCID:-0}}" != 0 ] || echo "# $command"
cd {shlex.quote(os.getcwd())} || exit 1
if [ -f path.sh ]; then . ./path.sh; fi
{exports}# Asked to end (TERM), the command that runs ends in its own way, none after it begins, and its code counts.
trap : TERM
eval "( trap 'code=\\$?; exit \\$(( code ? code : 143 ))' TERM
$command
) </dev/null"
code=$?
if [ $code = 75 ] && [ -n "${{RUN_AGAIN:-}}" ]; then touch "$RUN_AGAIN"; fi
exit $code
""", encoding="utf-8", errors="surrogateescape")


def job_file(path: Path) -> IO[str]:
    """Open a call's file, which says who waits for its jobs. Raises: Refused: it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise Refused(f"cannot write {error.filename}: {error.strerror}", 1) from None


def take_lock(file: IO[str]) -> None:
    """Lock a call's file, or say who holds it. Raises: Refused: another launcher does."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        host, pid = [*file.read().split(), "?", "?"][:2]
        raise Refused(f"another launcher waits for these jobs: process {pid} on {host} ({file.name})", 1) from None
    except OSError as error:
        say(f"warning: {file.name} cannot be locked ({error.strerror}): start only one launcher for these logs")
