# SPDX-License-Identifier: Apache-2.0
"""`launch` and `literal` of utils/stages.sh: file names reach a job as they are, by any launcher."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fake_cluster
import pytest

UTILS = Path(__file__).parents[2] / "utils"
NAMES = ["d$(touch X)", "exp/JOBX", "JOB", "JOB_", "a (b) & c", "it's \"two\"", "x;touch X", "`touch X`", "~", "*",
         "\\n", "", "tab\there", "new\nline", "né", "a|b>c", "#", "--set", "{a,b}", "!x", "$'\\x41'"]
SHOW = "import json, sys; print(json.dumps(sys.argv[1:]), file=open(f'argv{sys.argv[-3]}', 'w'))"


@pytest.fixture(params=["run.py", "slurm.py", "sge.py"])
def bash(request, tmp_path):
    """bash(script, *words) runs a script with these arguments after it has sourced stages.sh; $cmd is the launcher."""
    fake_cluster.install(tmp_path / "bin")
    (tmp_path / "show.py").write_text(SHOW)
    env = {**os.environ, "PATH": f"{tmp_path}/bin:{UTILS}:{os.environ['PATH']}", "cmd": request.param}

    def call(script: str, *words: str) -> None:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", f". {UTILS}/stages.sh; {script}", "bash", *words],
                              cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr + "".join(path.read_text() for path in tmp_path.rglob("*.log"))
        assert not (tmp_path / "X").exists()
    return call


def test_words_and_log_are_taken_as_they_are(bash, tmp_path):
    bash(f'launch "$cmd --mem 1G" 2 "e JOB/JOBX\\$(touch X)&(\'/x" {sys.executable} show.py "$@"', *NAMES)
    for job in "12":
        assert json.loads((tmp_path / f"argv{job}").read_text()) == [*NAMES, "--job", job, "--num-jobs", "2"]
    logs = {path.name for path in (tmp_path / "e JOB/JOBX$(touch X)&('").glob("*.log")}
    assert logs == {"x.1.log", "x.2.log"}


def test_one_job_without_a_number(bash, tmp_path):
    bash(f'literal "$@"; $cmd "exp/JOBX/x.log" {sys.executable} show.py "${{words[@]}}" 7 x y', *NAMES)
    assert json.loads((tmp_path / "argv7").read_text()) == [*NAMES, "7", "x", "y"]
    assert (tmp_path / "exp/JOBX/x.log").exists()


def test_plain_words_stay_readable(bash, tmp_path):
    bash(f'launch "$cmd" 1 log/x {sys.executable} show.py data/a-b_c=1,2:3@4+5%')
    assert "show.py data/a-b_c=1,2:3@4+5% --job 1 --num-jobs 1\n" in (tmp_path / "log/x.1.log").read_text()
