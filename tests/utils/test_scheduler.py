# SPDX-License-Identifier: Apache-2.0
"""slurm.py and sge.py with fake schedulers: logs, exit codes, locking, cancelling."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_cluster import install

UTILS = Path(__file__).parents[2] / "utils"
BOTH = pytest.mark.parametrize("launcher", ["slurm", "sge"])
SLURM = pytest.mark.parametrize("launcher", ["slurm"])  # enough if the launchers cannot differ
SGE = pytest.mark.parametrize("launcher", ["sge"])


@pytest.fixture
def state(tmp_path, monkeypatch):
    """Put the fake programs on PATH. Returns: the folder with their state."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return install(tmp_path / "bin")


# Runs a launcher with shorter timeouts for network file systems.
START = """import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
import scheduler
scheduler.LOG_S = scheduler.FAILED_LOG_S = 0.5
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def begin(folder: Path, launcher: str, *args: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", START, UTILS / f"{launcher}.py", *map(str, args)], cwd=folder,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def call(tmp_path, state):
    """call(launcher, *args) in an empty folder -> (exit code, stderr)."""
    def run(launcher: str, *args: object) -> tuple[int, str]:
        process = begin(tmp_path, launcher, *args)
        output, errors = process.communicate(timeout=60)
        assert output == "" and "Traceback" not in errors, errors
        return process.returncode, errors
    return run


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@SLURM
def test_folder_name_contains_the_job_identifier(call, tmp_path, monkeypatch, launcher):
    (tmp_path / "JOBS").mkdir()
    monkeypatch.chdir(tmp_path / "JOBS")
    process = begin(tmp_path / "JOBS", launcher, "JOB=1:2", "x.JOB.log", "pwd")
    assert process.communicate(timeout=60) == ("", "")
    assert f"\n{tmp_path}/JOBS\n" in (tmp_path / "JOBS/x.2.log").read_text()


@BOTH
def test_log_frame(call, tmp_path, launcher):
    command = ["echo", "out;", "echo", "err", ">&2;", "sleep", 1.1]
    started = time.monotonic()
    assert call(launcher, "--num-threads", 2, "new/a.log", *command) == (0, "")
    elapsed = time.monotonic() - started
    date = r"\w{3} \w{3} +\d+ [\d:]{8} \S+ \d{4}"
    match = re.fullmatch(rf"# Running on \S+\n# Started at {date}\n(# (SLURM_)?JOB_\w+: \S+\n)+(# SGE_TASK_ID: \w+\n)?"
                         rf"# echo out; echo err >&2; sleep 1\.1\nout\nerr\n"
                         rf"# Accounting: time=(?P<seconds>\d+) threads=2\n"
                         rf"# Finished at {date} with status 0\n", (tmp_path / "new/a.log").read_text())
    assert match, (tmp_path / "new/a.log").read_text()
    assert 1 <= int(match["seconds"]) <= elapsed + 1


@BOTH
def test_arrays(call, tmp_path, launcher):
    code, errors = call(launcher, "K=2:4", "log/x.K.log", "echo", "I am K ", "K;", "[", "K", "!=", "3", "]")
    assert code == 1 and f"{launcher}.py: 1 / 3 failed, log is in log/x.*.log\n" in errors
    assert "log/x.3.log ends with:" in errors
    for job in (2, 3, 4):
        text = (tmp_path / f"log/x.{job}.log").read_text()
        assert f"\nI am {job}  {job}\n" in text and f"with status {int(job == 3)}\n" in text


@pytest.mark.parametrize("launcher, pick, ran, code", [
    ("slurm", "all", "1234", 0), ("sge", "failed", "124", 0), ("slurm", "failed", "124", 0),
    ("sge", "incomplete", "14", 1)])
def test_pick_with_gaps(call, tmp_path, launcher, pick, ran, code):
    (tmp_path / "x.1.log").write_text("# Finished at x with status 0\n# Started at y\n")
    (tmp_path / "x.2.log").write_text("# Finished at x with status 1\n")
    (tmp_path / "x.3.log").write_text("# Finished at x with status 0\n")
    assert call(launcher, "--pick", pick, "JOB=1:4", "x.JOB.log", "touch", "ran.JOB")[0] == code
    assert "".join(sorted(path.suffix[1:] for path in tmp_path.glob("ran.*"))) == ran
    assert call(launcher, "--pick", "incomplete", "JOB=1:4", "x.JOB.log", "touch", "again.JOB")[0] == code
    assert not list(tmp_path.glob("again.*"))


@BOTH
def test_environment_of_a_job(call, tmp_path, monkeypatch, launcher):
    monkeypatch.setenv("RAWNEXT_COMMAND", "./run.sh --set \"it's\" $HOME")
    monkeypatch.setenv("SECRET", "1")
    (tmp_path / "path.sh").write_text("export FROM_PATH=yes\nhere=$PWD\n")
    call(launcher, "--num-threads", 3, "x.log", "echo", "$RAWNEXT_COMMAND/$SECRET/$FROM_PATH/$OMP_NUM_THREADS/$here/")
    assert f"\n./run.sh --set \"it's\" $HOME//yes/3/{tmp_path}/\n" in (tmp_path / "x.log").read_text()


@SGE
def test_failing_path_sh(call, tmp_path, launcher):
    (tmp_path / "path.sh").write_text("echo no environment; exit 3\n")
    code, errors = call(launcher, "x.log", "true")
    assert code == 1 and "  no environment\n" in errors and "with status 3" in errors


@SLURM
@pytest.mark.parametrize("line, code, why", [
    ("", 255, "usage"),
    ("--foo 3 x.log true", 255, r"Command line option foo not described in \S+/conf/slurm.conf \(or value '3'"),
    ("--config none.conf x.log true", 1, "cannot read config file none.conf: No such file"),
    ("/dev/null true", 255, "not a regular file"),
])
def test_errors_before_submission(call, tmp_path, state, launcher, line, code, why):
    (tmp_path / "x.log").write_text("old")
    done, errors = call(launcher, *line.split())
    assert done == code and re.search(why, errors) and errors.count("\n") == 1
    assert (tmp_path / "x.log").read_text() == "old" and not (state / "submitted").exists()


@SGE
def test_submission_refused(call, state, launcher):
    (state / "refusal").write_text("error: Batch job submission failed:\n  Invalid account\n")
    code, errors = call(launcher, "x.log", "true")
    assert code == 1 and errors.endswith(" refused: error: Batch job submission failed:; Invalid account\n")
    assert errors.count("\n") == 1


@BOTH
def test_no_scheduler(tmp_path, launcher):
    for _ in range(2):  # the second must not report that the first was killed
        process = begin(tmp_path, launcher, "x.log", "true")
        errors = process.communicate(timeout=60)[1]
        assert "no program" in errors and errors.count("\n") == 1 and process.returncode == 1


@pytest.mark.parametrize("launcher, number", [("slurm", signal.SIGINT), ("sge", signal.SIGTERM),
                                              ("slurm", signal.SIGHUP)])
def test_signal_cancels_the_jobs(tmp_path, state, launcher, number):
    process = begin(tmp_path, launcher, "JOB=1:2", "x.JOB.log", "touch", "up.JOB;", "sleep", "300;", "touch", "on.JOB")
    wait_for(lambda: len(list(tmp_path.glob("up.*"))) == 2)
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and "cancel" in errors and "Traceback" not in errors
    assert not list(tmp_path.glob("on.*"))
    assert "with status 143\n" in (tmp_path / "x.1.log").read_text()


@pytest.mark.slow
@BOTH
def test_job_killed_by_sigkill(call, state, launcher):
    (state / "kill").touch()
    (state / "fate").write_text("JobId=12 JobState=OUT_OF_MEMORY Reason=OutOfMemory\nfailed       37  : no memory\n")
    code, errors = call(launcher, "x.log", "true")
    assert code == 1 and re.search(r"x\.log is incomplete: the job was killed or deleted \(.*memory", errors, re.I)


@SLURM
def test_job_outlives_the_submitting_program(call, tmp_path, state, launcher):
    """After a requeue, or if the submitting program was killed."""
    (state / "early").touch()
    assert call(launcher, "x.log", "sleep", "1;", "touch", "end") == (0, "")
    assert (tmp_path / "end").exists()


AGAIN = """n=$(cat count 2>/dev/null || echo 0); echo $((n + 1)) > count; echo turn $n
[ $n -lt {turns} ] || exit 0
exit {code}
"""


@BOTH
def test_exit_code_75_requeues(call, tmp_path, launcher):
    (tmp_path / "job.sh").write_text(AGAIN.format(turns=2, code=75))
    assert call(launcher, "x.log", "bash", "job.sh") == (0, "")
    log = (tmp_path / "x.log").read_text()
    assert re.findall(r"^turn .|with status .*$", log, re.M) == [
        "turn 0", "with status 75, to be run again", "turn 1", "with status 75, to be run again", "turn 2",
        "with status 0"]


@pytest.mark.parametrize("launcher, jobs", [("sge", ["x.log"]), ("slurm", ["JOB=3:4", "x.JOB.log"])])
def test_file_run_again_requeues(call, tmp_path, launcher, jobs):
    """For torchrun, which exits with 1 for any exit code of its workers."""
    command = ["[", "-e", "once.JOB", "]", "||", "(", "touch", "once.JOB", "$RUN_AGAIN;", "exit", "1", ")"]
    code, _ = call(launcher, *jobs, *command)
    assert code == 0 and "with status 1, to be run again" in (tmp_path / jobs[-1].replace("JOB", "4")).read_text()


@SLURM
def test_repeated_quick_requeues_stop(call, tmp_path, launcher):
    (tmp_path / "job.sh").write_text(AGAIN.format(turns=100, code=75))
    code, errors = call(launcher, "x.log", "bash", "job.sh")
    assert code == 1 and "Stopped after less than a minute 6 times in a row: not run again" in errors
    assert (tmp_path / "x.log").read_text().count("\nturn") == 6


@BOTH
def test_cancelled_job_is_not_requeued(tmp_path, state, launcher):
    (tmp_path / "job.py").write_text("import signal, sys, time\n"
                                     "signal.signal(signal.SIGTERM, lambda *_: (print('saved'), sys.exit(75)))\n"
                                     "open('up', 'a').write('x'); time.sleep(300)\n")
    process = begin(tmp_path, launcher, "x.log", sys.executable, "job.py")
    wait_for(lambda: (tmp_path / "up").exists())
    time.sleep(0.2)
    subprocess.run(["scancel" if launcher == "slurm" else "qdel", "12"], check=True)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "  saved\n" in errors and "with status 75\n" in errors
    assert (tmp_path / "up").read_text() == "x"


@SGE
def test_one_launcher_per_log(call, tmp_path, launcher):
    first = begin(tmp_path, launcher, "JOB=1:2", "x.JOB.log", "touch", "up.JOB;", "sleep", "300")
    try:
        wait_for(lambda: len(list(tmp_path.glob("up.*"))) == 2)
        log = (tmp_path / "x.1.log").read_text()
        code, errors = call(launcher, "JOB=1:2", "x.JOB.log", "true")
        assert code == 1 and f"process {first.pid} on " in errors and errors.count("\n") == 1
        assert (tmp_path / "x.1.log").read_text() == log           # the running job's log is unchanged
        assert call(launcher, "JOB=1:2", "y.JOB.log", "true") == (0, "")
    finally:
        first.terminate()
        first.communicate(timeout=60)


@BOTH
def test_job_of_killed_launcher_is_cancelled(call, tmp_path, state, launcher):
    first = begin(tmp_path, launcher, "x.log", "touch", "up;", "sleep", "300;", "touch", "on")
    wait_for(lambda: (tmp_path / "up").exists() and (tmp_path / "q/x.job").read_text().endswith(" 12\n"))
    first.kill()
    first.communicate(timeout=60)
    code, errors = call(launcher, "x.log", "echo", "second")
    assert code == 0 and "job 12 of an earlier" in errors and errors.count("\n") == 1
    assert (state / "alive.12").read_text() == ""                  # job 12 has ended
    log = (tmp_path / "x.log").read_text()
    assert "\nsecond\n" in log and log.count("# Finished") == 1 and not (tmp_path / "on").exists()
    assert call(launcher, "x.log", "true") == (0, "")              # nothing left to cancel


def test_job_of_other_launcher_is_not_cancelled(call, tmp_path):
    (tmp_path / "q").mkdir()
    (tmp_path / "q/x.job").write_text("host 1 slurm.py 77\n")
    code, errors = call("sge", "x.log", "true")
    assert code == 1 and "job 77 of slurm.py" in errors


def test_lock_is_released_on_exit(call, tmp_path):
    (tmp_path / "q").mkdir()
    with open(tmp_path / "q/x.job", "w") as file:
        file.write("host 1 slurm.py 77\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "process 1 on host" in call("slurm", "x.log", "true")[1]
    assert call("slurm", "x.log", "true") == (0, "")               # job 77 is no longer in the queue


@SLURM
def test_script_runs_by_hand(call, tmp_path, launcher):
    call(launcher, "JOB=1:2", "exp/JOB/x.log", "echo", "job JOB of", '"quoted"', "it is JOB")
    done = subprocess.run(["bash", tmp_path / "exp/q/JOB.x.sh", "2"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "job 2 of quoted it is 2"
