# SPDX-License-Identifier: Apache-2.0
"""A launcher on a real scheduler, for the tests in this folder."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEDULERS = ("slurm", "sge")


def eventually(true: Callable[[], object], seconds: float = 60) -> bool:
    """Wait until `true()` holds. Returns: whether it did in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@dataclass
class Cluster:
    """`name`: slurm or sge. Launchers run in `folder`; `path` is a PATH that has the scheduler's programs."""

    name: str
    path: str
    folder: Path
    started: list[subprocess.Popen] = field(default_factory=list)

    @classmethod
    @contextmanager
    def at(cls, name: str, path: str, folder: Path) -> Iterator["Cluster"]:
        """A cluster whose launchers are killed and whose jobs are cancelled at the end of the test."""
        cluster = cls(name, path, folder)
        try:
            yield cluster
        finally:
            for launcher in cluster.started:
                if launcher.poll() is None:
                    launcher.kill()
                launcher.communicate()
            for job in cluster.queue():
                cluster.cancel(job)

    @property
    def launcher(self) -> list[str]:
        return [sys.executable, str(ROOT / f"utils/{self.name}.py")]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": self.path}

    def begin(self, *args) -> subprocess.Popen:
        """Start the launcher with these arguments in the background."""
        launcher = subprocess.Popen([*self.launcher, *map(str, args)], cwd=self.folder, env=self.environment,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(launcher)
        return launcher

    def end(self, launcher: subprocess.Popen, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        out, err = launcher.communicate(timeout=seconds)
        return subprocess.CompletedProcess(launcher.args, launcher.returncode, out, err)

    def run(self, *args) -> subprocess.CompletedProcess[str]:
        return self.end(self.begin(*args))

    def script(self, body: str, name: str = "job.sh") -> list[str]:
        """A command that runs these lines of bash; $1 is the job's number."""
        (self.folder / name).write_text(body)
        return ["bash", name, "JOB"]

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def query(self, *command: str) -> str:
        """The output of one of the scheduler's programs."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30).stdout

    def queue(self) -> list[str]:
        """Ids of the jobs in the queue that were submitted from `folder`."""
        if self.name == "slurm":
            lines = self.query("squeue", "--noheader", "--format", "%F %Z").splitlines()
            return sorted({line.split(" ", 1)[0] for line in lines if line.endswith(f" {self.folder}")})
        ids = sorted({line.split()[0] for line in self.query("qstat", "-u", "*").splitlines()[2:]})
        pattern = re.compile(rf"^(sge_o_workdir|cwd): +{self.folder}$", re.M)
        return [job for job in ids if pattern.search(self.query("qstat", "-j", job))]

    def cancel(self, job: str, task: int | None = None) -> None:
        """Cancel a job, or one of its tasks, as its user would."""
        if self.name == "slurm":
            self.query("scancel", f"{job}_{task}" if task else job)
        else:
            self.query("qdel", job, *(["-t", str(task)] if task else []))

    def kill(self, launcher: subprocess.Popen) -> None:
        launcher.send_signal(signal.SIGKILL)
        launcher.communicate()
