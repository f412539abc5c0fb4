# SPDX-License-Identifier: Apache-2.0
"""The files that slurm.py and sge.py keep in the folder `q/` next to the logs.

NAME.sh has the command; `bash NAME.sh 3` runs job 3 by hand. NAME.out has the scheduler's own output.
NAME.job has the launcher's host, process id and job id; the launcher holds a lock on it while it runs.
For NAME.3.again and NAME.3.restarts see cluster_job.sh.
"""

import fcntl
import os
import re
import shlex
from pathlib import Path
from typing import IO

from jobs import PROGRAM, LauncherError, Request, print_message

EXPORTED = ("RAWNEXT_COMMAND",)  # variables that a job gets in addition to PATH


def base_path(request: Request) -> Path:
    """The path of these files without suffix: q/NAME in the deepest folder that all logs share."""
    parts = Path(os.path.normpath(request.log)).parts
    first = next((i for i, part in enumerate(parts) if request.substitute(part, "") != part), len(parts) - 1)
    return Path(os.getcwd(), *parts[:first], "q", ".".join(parts[first:]).removesuffix(".log"))


def job_name(base: Path, request: Request) -> str:
    """The name of the jobs in the queue."""
    name = re.sub(r"[^\w.-]|\.(?=\.)", "", request.substitute(base.name, ""), flags=re.ASCII).strip(".-")
    return name if name[:1].isalpha() else f"job.{name}"  # Grid Engine: no leading digit


def write_script(request: Request, path: Path) -> None:
    """Write the script that runs one job; its argument is the number of the job."""
    variables = {name: os.environ[name] for name in EXPORTED if name in os.environ}
    if request.num_threads:
        variables["OMP_NUM_THREADS"] = str(request.num_threads)
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    replace = f"command=${{command//{request.name}/$1}}\n" if request.name else ""
    path.write_text(f"""#!/usr/bin/env bash
# Written by {PROGRAM}; `bash {path.name} 3` runs job 3 by hand.
command={shlex.quote(request.command)}
{replace}[ "${{SLURM_PROCID:-0}}" != 0 ] || echo "# $command"
cd {shlex.quote(os.getcwd())} || exit 1
if [ -f path.sh ]; then . ./path.sh; fi
{exports}# On SIGTERM the running command shuts down by itself; then this script exits with the command's exit code.
trap : TERM
eval "( trap 'code=\\$?; exit \\$(( code ? code : 143 ))' TERM
$command
) </dev/null"
code=$?
if [ $code = 75 ] && [ -n "${{RUN_AGAIN:-}}" ]; then touch "$RUN_AGAIN"; fi
exit $code
""", encoding="utf-8", errors="surrogateescape")


def open_job_file(path: Path) -> IO[str]:
    """Open NAME.job without emptying it. Raises: LauncherError: it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise LauncherError(f"cannot write {error.filename}: {error.strerror}", 1) from None


def lock_job_file(file: IO[str]) -> None:
    """Lock NAME.job. Raises: LauncherError: another launcher holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        host, pid = [*file.read().split(), "?", "?"][:2]
        raise LauncherError(f"another launcher waits for these jobs: process {pid} on {host} ({file.name})",
                            1) from None
    except OSError as error:
        print_message(f"warning: cannot lock {file.name} ({error.strerror}); start only one launcher for these logs")
