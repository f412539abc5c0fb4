#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fake programs of Slurm and Grid Engine to test the launchers. Jobs run at once on this machine.

`install(folder)` puts them into `folder`, which the test adds to PATH; each is a copy of this file under another name.
Their state is in `folder/state`: `submitted` (the last command line), `alive.ID` (a job's state, empty after its end)
and `group.ID.TASK` (a task's process group). A test may create `refusal` (the error that submission fails with), `fate`
(output of scontrol or qacct for a dead job), `early` (sbatch and qsub do not wait) and `kill` (jobs get SIGKILL).
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

NAMES = ("sbatch", "scancel", "scontrol", "squeue", "srun", "qsub", "qdel", "qstat", "qacct")
STATE = Path(sys.argv[0]).absolute().parent / "state"
SLURM = Path(sys.argv[0]).name not in ("qsub", "qdel", "qstat", "qacct")


def install(folder: Path) -> Path:
    """Write the programs to `folder`. Returns: the folder with their state."""
    (folder / "state").mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).write_text(f"#!{sys.executable} -SE\n" + Path(__file__).read_text())
        (folder / name).chmod(0o755)
    return folder / "state"


def submitted(launcher: Path, folder: Path, *args: object) -> tuple[list[str], str]:
    """Run a launcher; its jobs must succeed. Returns: the options passed to sbatch or qsub, and the job numbers."""
    state = install(folder / "bin")
    done = subprocess.run([sys.executable, launcher, *map(str, args)], cwd=folder, text=True, capture_output=True,
                          timeout=60, env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"})
    assert done.returncode == 0, done.stderr
    words = (state / "submitted").read_text().splitlines()
    return words[:next(i for i, word in enumerate(words) if word.endswith("cluster_job.sh"))], words[-1]


def tasks_of(words: list[str]) -> list[str]:
    """The task ids of an array, or one empty string."""
    array = next((word[8:] for word in words if word.startswith("--array=")), None)
    if "-t" in words:
        array = words[words.index("-t") + 1]
    tasks = []
    for part in (array or "").split("%")[0].split(","):
        first, _, last = part.partition("-")
        tasks += [str(i) for i in range(int(first), int(last or first) + 1)] if part else [""]
    return tasks


def start(job: str, task: str, command: list[str]) -> subprocess.Popen:
    """Start a job or a task with only the environment variables that a cluster sets."""
    variables = {"PATH": os.environ["PATH"]}
    if SLURM:
        variables |= {"SLURM_JOB_ID": job, "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_EXPORT_ENV": "PATH"}
        variables |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": task} if task else {}
    else:
        variables |= {"JOB_ID": job, "SGE_TASK_ID": task or "undefined"}
    process = subprocess.Popen(["bash", *command], env=variables, start_new_session=True)
    (STATE / f"group.{job}.{task}").write_text(str(process.pid))
    if (STATE / "kill").exists():
        os.killpg(process.pid, signal.SIGKILL)
    return process


def submit(words: list[str]) -> int:
    """sbatch, qsub: run the jobs, rerun those that are requeued, and wait for them."""
    (STATE / "submitted").write_text("\n".join(words))
    if (STATE / "refusal").exists():
        print((STATE / "refusal").read_text(), file=sys.stderr)
        return 1
    job = str(len(list(STATE.glob("alive.*"))) + 12)
    (STATE / f"alive.{job}").write_text("RUNNING")
    print(job, flush=SLURM or sys.stdout.isatty())  # qsub flushes only to a terminal
    if (STATE / "early").exists() and os.fork():
        return 0
    command = words[next(i for i, word in enumerate(words) if word.endswith("cluster_job.sh")):]
    running = {task: start(job, task, command) for task in tasks_of(words)}
    worst = 0
    while running:
        task, process = running.popitem()
        code = process.wait()
        if code == 99 or (STATE / f"requeue.{job}.{task}").exists():
            (STATE / f"requeue.{job}.{task}").unlink(missing_ok=True)
            running[task] = start(job, task, command)
        else:
            worst = max(worst, abs(code))
    (STATE / f"alive.{job}").write_text("")
    return worst


def cancel(job: str) -> None:
    """scancel, qdel: send the signal that these programs send to a job's processes."""
    (STATE / f"alive.{job}").write_text("CANCELLED")
    for file in STATE.glob(f"group.{job}.*"):
        os.killpg(int(file.read_text()), signal.SIGTERM if SLURM else signal.SIGUSR2)


def step(words: list[str]) -> int:
    """srun: run the command once per node."""
    (STATE / "step").write_text("\n".join(words))
    nodes = int(next(word[8:] for word in words if word.startswith("--nodes=")))
    command = words[words.index("bash"):]
    processes = [subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(i)}) for i in range(nodes)]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the step's processes get it too
    return max(abs(process.wait()) for process in processes)


def control(words: list[str]) -> None:
    """scontrol: requeue a job, or show nodes or a job."""
    if words[0] == "requeue":
        job, _, task = words[1].partition("_")
        (STATE / f"requeue.{job}.{task}").touch()
        os.killpg(int((STATE / f"group.{job}.{task}").read_text()), signal.SIGKILL)
    elif "hostnames" in words:
        print("n1\nn2")
    elif "node" in words:
        print(f"NodeName={words[-1]} NodeAddr=10.0.0.7 NodeHostName=vm")
    elif (STATE / "fate").exists():
        print((STATE / "fate").read_text())
    else:
        state = (STATE / f"alive.{re.split('_', words[-1])[0]}").read_text()
        print(f"JobId={words[-1]} JobState={state} Reason=None")


def listing(job: str) -> None:
    """squeue, qstat: show a job if it has not ended."""
    file = STATE / f"alive.{job}"
    living = file.exists() and file.read_text()
    if SLURM:
        print(living or "slurm_load_jobs error: Invalid job id specified")
    else:
        print(f"job_number: {job}" if living else f"Following jobs do not exist:\n{job}")


def main(name: str, words: list[str]) -> int:
    if name in ("sbatch", "qsub"):
        return submit(words)
    if name in ("scancel", "qdel"):
        cancel(words[0])
    elif name == "srun":
        return step(words)
    elif name == "scontrol":
        control([word for word in words if not word.startswith("-")])
    elif name in ("squeue", "qstat"):
        if "PENDING" not in words:
            listing(words[words.index("--jobs" if SLURM else "-j") + 1])
    elif (STATE / "fate").exists():
        print((STATE / "fate").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
