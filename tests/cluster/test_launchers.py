# SPDX-License-Identifier: Apache-2.0
"""slurm.py and sge.py on real schedulers: both must behave the same."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from itertools import accumulate
from pathlib import Path

import pytest
from cluster import eventually

DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"
# A long job. bash handles signals at once during `wait`. It is a loop because a scheduler may end `sleep` before bash.
WAIT = "touch began.$1; for _ in {1..300}; do sleep 1 & wait $!; done"


def test_an_array_and_its_logs(cluster):
    done = cluster.run("JOB=2:4", "new/log/x.JOB.log", "python3", "-c", "import sys; print(sys.argv[1:])", "two  words",
                       'a "b" c', "it's it", "JOB", "|", "tr", "a-z", "A-Z")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    logs = [cluster.read(f"new/log/x.{job}.log") for job in (2, 3, 4)]
    for job, log in zip((2, 3, 4), logs):
        assert f"['TWO  WORDS', 'A \"B\" C', \"IT'S IT\", '{job}']" in log
        assert re.match(rf"# Running on {socket.gethostname()}\n# Started at {DATE}\n", log)
        assert re.search(r"^# python3 -c .* \| tr a-z A-Z$", log, re.M)
        assert re.search(rf"\n# Accounting: time=\d+ threads=1\n# Finished at {DATE} with status 0\n$", log)
    ids = re.findall(r"^# (?:SLURM_ARRAY_JOB_ID|JOB_ID): (\d+)$", "".join(logs), re.M)
    assert len(ids) == 3 and len(set(ids)) == 1        # one array
    assert not cluster.queue()


def test_failed_jobs_are_shown_and_run_again(cluster):
    body = "echo the reason of $1; echo $1 >> ran; [ $1 != 1 ] && [ $1 != 3 ] || [ -e repaired ]"
    call = ["JOB=1:3", "log/x.JOB.log", *cluster.script(body)]
    done = cluster.run(*call)
    assert done.returncode == 1
    assert f"{cluster.name}.py: 2 / 3 failed, log is in log/x.*.log\n" in done.stderr
    assert "  the reason of 1\n" in done.stderr and "reason of 2" not in done.stderr
    assert "with status 1" in cluster.read("log/x.3.log")
    (cluster.folder / "repaired").touch()
    (cluster.folder / "ran").unlink()
    assert cluster.run("--pick", "failed", *call).returncode == 0
    assert sorted(cluster.read("ran").split()) == ["1", "3"]      # an array with a gap


def test_a_recipe_passes_any_word_to_its_jobs(cluster, root):
    """As `launch` of utils/stages.sh does, for folders with any name: nothing in a word is run or replaced."""
    words = ["d$(touch X)", "`touch X`", "a b", "it's", 'a "b" c', "x; touch X", "JOB", "~", "*", "#", "é", "a\\n", "&"]
    (cluster.folder / "show.py").write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    launch = '. "$0"; cmd=$1; shift; launch "$cmd" 2 "logs of JOB \\$(touch X)/x" python3 show.py "$@"'
    done = subprocess.run(["bash", "-euc", launch, root / "utils/stages.sh", " ".join(cluster.launcher), *words],
                          cwd=cluster.folder, env=cluster.environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    logs = sorted(path for path in cluster.folder.rglob("x.*.log"))
    assert [path.parent.name for path in logs] == ["logs of JOB $(touch X)"] * 2
    for job, log in enumerate(logs, 1):
        line, = (line for line in log.read_text().splitlines() if line.startswith("["))
        assert json.loads(line) == [*words, "--job", str(job), "--num-jobs", "2"]
    assert not list(cluster.folder.rglob("X"))


# Each job waits until a second one runs, so that the result does not depend on the scheduler's speed.
MEET = """echo begin >> now
for i in $(seq 300); do [ $(grep -c begin now) -lt 2 ] || break; sleep 0.2; done
sleep 1; echo end >> now"""


def test_max_jobs_run(cluster):
    assert cluster.run("--max-jobs-run", 2, "JOB=1:4", "x.JOB.log", *cluster.script(MEET)).returncode == 0
    steps = [1 if word == "begin" else -1 for word in cluster.read("now").split()]
    assert len(steps) == 8 and max(accumulate(steps)) == 2


def test_invalid_options(cluster):
    done = cluster.run("--foo", "3", "x.log", "touch", "ran")
    assert done.returncode == 255
    assert "Command line option foo not described in" in done.stderr and "(or value '3' not allowed)" in done.stderr
    queue = {"slurm": "-p", "sge": "-q"}[cluster.name]
    done = cluster.run(queue, "nowhere", "x.log", "touch", "ran")
    assert done.returncode == 1 and "refused" in done.stderr and done.stderr.count("\n") <= 2
    assert not cluster.queue() and not (cluster.folder / "ran").exists()


def test_task_cancelled_by_user(cluster):
    launcher = cluster.begin("JOB=1:2", "x.JOB.log", *cluster.script(f"[ $1 = 1 ] || {{ {WAIT}; }}"))
    assert eventually((cluster.folder / "began.2").exists)
    [job] = cluster.queue()
    cluster.cancel(job, task=2)
    done = cluster.end(launcher)
    assert done.returncode == 1 and "1 / 2 failed" in done.stderr and "x.2.log" in done.stderr
    assert not cluster.queue()


def children(pid: int) -> list[int]:
    try:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return []
    return [*found, *(pid for child in found for pid in children(child))]


def running(script: Path) -> list[int]:
    """The processes of the jobs that run this script, without their children."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_text(errors="replace").split("\0")
        except OSError:
            continue
        if str(script) in words and not {"--wait", "-sync"} & set(words):
            found.append(int(file.parent.name))
    return found


def kill_jobs(script: Path) -> None:
    """Kill the jobs that run this script by SIGKILL, as the kernel does when memory runs out.

    Their child processes are killed too: otherwise Slurm waits a minute for their output and starts no other job.
    """
    for parent in running(script):
        for pid in (parent, *children(parent)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_job_killed_by_sigkill(cluster):
    launcher = cluster.begin("JOB=1:2", "x.JOB.log", *cluster.script(f"[ $1 = 1 ] || {{ {WAIT}; }}"))
    assert eventually((cluster.folder / "began.2").exists)
    assert eventually(lambda: "# Finished at" in cluster.read("x.1.log"))
    kill_jobs(cluster.folder / "q/x.JOB.sh")
    done = cluster.end(launcher)
    assert done.returncode == 1 and "1 / 2 failed" in done.stderr
    assert "x.2.log is incomplete: the job was" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_launcher_cancels_jobs(cluster, number):
    launcher = cluster.begin("JOB=1:2", "x.JOB.log", *cluster.script(WAIT))
    assert eventually((cluster.folder / "began.2").exists)
    script = cluster.folder / "q/x.JOB.sh"
    assert running(script)
    launcher.send_signal(number)
    done = cluster.end(launcher)
    assert done.returncode == 2 and f"stopped by {number.name}" in done.stderr and "Traceback" not in done.stderr
    assert not cluster.queue() and eventually(lambda: not running(script), seconds=10)


def test_restart_after_launcher_was_killed(cluster):
    body = f"if [ -e second ]; then echo good; else {WAIT}; fi"
    call = ["JOB=1:2", "x.JOB.log", *cluster.script(body)]
    launcher = cluster.begin(*call)
    assert eventually((cluster.folder / "began.2").exists)
    [orphan] = cluster.queue()
    (cluster.folder / "second").touch()
    busy = cluster.run(*call)                          # while the first one waits
    assert busy.returncode == 1 and f"process {launcher.pid} on {socket.gethostname()}" in busy.stderr
    cluster.kill(launcher)
    assert cluster.queue() == [orphan]
    done = cluster.run(*call)
    assert done.returncode == 0, done.stderr
    assert f"job {orphan} of an earlier {cluster.name}.py" in done.stderr
    assert not cluster.queue() and "\ngood\n" in cluster.read("x.2.log")


# Exits with 75 on SIGTERM; succeeds when it is run again.
AGAIN = """trap "echo first run; touch second; exit 75" TERM
if [ -e second ]; then echo second run; exit 0; fi
""" + WAIT


def test_cancelled_job_is_not_requeued(cluster):
    launcher = cluster.begin("x.log", *cluster.script(AGAIN))
    assert eventually((cluster.folder / "began.JOB").exists)
    [job] = cluster.queue()
    cluster.cancel(job)
    done = cluster.end(launcher)
    assert done.returncode == 1 and not cluster.queue()
    log = cluster.read("x.log")
    assert "first run" in log and "second run" not in log


def test_shipped_config_files(cluster, root):
    """The scheduler accepts the options from conf/slurm.conf and conf/sge.conf."""
    (cluster.folder / "conf").symlink_to(root / "conf")
    assert cluster.run("--mem", "1G", "--num-threads", 2, "--time", "1:0:0", "x.log", "true").returncode == 0
