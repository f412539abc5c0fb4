# SPDX-License-Identifier: Apache-2.0
"""run.py with real jobs: logs, exit codes, number of parallel jobs, GPUs, --pick, no processes left after a signal."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "utils/run.py"
DATE = r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \d{4}"


@pytest.fixture
def run(tmp_path):
    """run(*args, **environment) in an empty folder."""
    def call(*args, **environment):
        env = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        return subprocess.run([sys.executable, RUN, *map(str, args)], cwd=tmp_path, env={**env, **environment},
                              capture_output=True, text=True, timeout=60)
    return call


@pytest.fixture
def script(tmp_path):
    """script(body) -> a command that runs these lines of bash; $1 is the job's number."""
    def write(body: str) -> list[str]:
        (tmp_path / "job.sh").write_text(body)
        return ["bash", "job.sh", "JOB"]
    return write


def meet(num_jobs: int) -> str:
    """A script that succeeds only if this many jobs run at the same time."""
    return ("touch met.$1\n"
            f"for i in $(seq 200); do [ $(ls met.* | wc -l) -ge {num_jobs} ] && exit 0; sleep 0.05; done; exit 1")


ALONE = "mkdir lock && sleep 0.05 && rmdir lock"  # fails if two jobs run it at the same time


def test_log_frame(run, tmp_path):
    done = run("new/folder/a.log", "echo", "out;", "echo", "err", ">&2;", "sleep", 1.1)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = (tmp_path / "new/folder/a.log").read_text()
    match = re.fullmatch(rf"# echo out; echo err >&2; sleep 1\.1\n# Started at {DATE}\n#\nout\nerr\n"
                         rf"# Accounting: time=([12]) threads=1\n"
                         rf"# Ended \(code 0\) at {DATE}, elapsed time \1 seconds\n", log)
    assert match, log


def test_arguments(run, tmp_path):
    run("a.log", sys.executable, "-c", "import sys; print(sys.argv[1:])", "two  words", 'a "b" c', "", "it's it",
        "|", "tr", "a-z", "A-Z")
    assert "['TWO  WORDS', 'A \"B\" C', '', \"IT'S IT\"]" in (tmp_path / "a.log").read_text()


def test_job_number_in_command_and_log(run, tmp_path):
    assert run("JOB=2:4", "log/x.JOB.log", "echo", "I am JOB").returncode == 0
    assert sorted(path.name for path in tmp_path.glob("log/*")) == ["x.2.log", "x.3.log", "x.4.log"]
    assert "\nI am 3\n" in (tmp_path / "log/x.3.log").read_text()


def test_one_failed_job_of_three(run, script, tmp_path):
    done = run("JOB=1:3", "log/x.JOB.log", *script("echo the reason of $1; [ $1 != 2 ] || exit 5"))
    assert done.returncode == 1
    assert "run.py: 1 / 3 failed, log is in log/x.*.log\n" in done.stderr
    assert "  the reason of 2\n" in done.stderr                   # the end of the failed log
    assert "reason of 1" not in done.stderr and "reason of 3" not in done.stderr
    assert [f"(code {code})" in (tmp_path / f"log/x.{job}.log").read_text() for job, code in ((1, 0), (2, 5), (3, 0))]


def test_first_failed_log_is_printed(run, script):
    done = run("JOB=1:4", "x.JOB.log", *script("echo the reason of $1; [ $1 != 2 ] && [ $1 != 4 ]"))
    assert "2 / 4 failed" in done.stderr and "reason of 2" in done.stderr and "reason of 4" not in done.stderr


def test_single_failed_job(run):
    assert "run.py: job failed, log is in x.log\n" in run("x.log", "false").stderr
    assert "job failed, log is in x.7.log\n" in run("JOB=7", "x.JOB.log", "false").stderr
    forgot = run("x.JOB.log", "false")
    assert forgot.returncode == 1 and "probably you forgot to put JOB=1:$nj in your script." in forgot.stderr


def test_killed_job(run, tmp_path):
    assert run("x.log", "kill", "-9", "$$").returncode == 1
    assert "# Ended (code 0; signal 9) at" in (tmp_path / "x.log").read_text()
    assert run("x.log", "bash", "-c", "kill -9 \\$\\$").returncode == 1
    assert "# Ended (code 137) at" in (tmp_path / "x.log").read_text()   # bash's code for a killed child


def test_parallel_jobs_cannot_share_a_log(run, tmp_path):
    done = run("JOB=1:3", "x.log", "touch", "ran")
    assert done.returncode == 1 and "just one log file (x.log)" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_wrong_command_line(run):
    assert run().returncode == run("x.log").returncode == run("JOB=0:3", "x.JOB.log", "true").returncode == 255


def test_help_with_closed_stdout():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as closed:
        done = subprocess.run([sys.executable, RUN, "--help"], stdout=closed, stderr=subprocess.PIPE, timeout=60)
    assert done.stderr == b""


def test_unwritable_log(run, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "x.2.log").mkdir()
    for log in ("file/x.JOB.log", "x.JOB.log"):
        done = run("JOB=1:2", log, "touch", "ran")
        assert done.returncode == 1 and done.stderr.startswith("run.py: cannot write ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()


def test_bash_syntax_error(run, tmp_path):
    assert run("x.log", "echo", "hi", ")").returncode == 1
    assert "syntax error" in (tmp_path / "x.log").read_text()


def test_jobs_do_not_read_stdin(tmp_path):
    with subprocess.Popen([sys.executable, RUN, "x.log", "cat"], cwd=tmp_path, stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=60) == 0           # while its stdin is still open
    subprocess.run([sys.executable, RUN, "y.log", "readlink", "/proc/self/fd/0"], cwd=tmp_path, check=True)
    assert "\n/dev/null\n" in (tmp_path / "y.log").read_text()


def test_command_longer_than_128_kib(run, tmp_path):
    words = [f"word{i:06}" for i in range(20_000)]     # 220 kB; the limit of bash -c is 128
    assert run("x.log", "echo", *words, "|", "wc", "-w").returncode == 0
    assert "\n20000\n" in (tmp_path / "x.log").read_text()


def test_jobs_run_in_parallel(run, script):
    assert run("--max-jobs-run", 3, "JOB=1:3", "x.JOB.log", *script(meet(3))).returncode == 0


@pytest.mark.parametrize("options", [["--max-jobs-run", 1], ["--num-threads", len(os.sched_getaffinity(0))]])
def test_jobs_run_one_by_one(run, script, options):
    assert run(*options, "JOB=1:4", "x.JOB.log", *script(ALONE)).returncode == 0


def test_default_number_of_parallel_jobs(run, script):
    cpus = os.sched_getaffinity(0)
    assert run(f"JOB=1:{len(cpus)}", "x.JOB.log", *script(meet(len(cpus)))).returncode == 0
    try:
        os.sched_setaffinity(0, {min(cpus)})           # inherited by children
        assert run("JOB=1:4", "x.JOB.log", *script(ALONE)).returncode == 0
    finally:
        os.sched_setaffinity(0, cpus)


def test_num_threads(run, tmp_path):
    run("--num-threads", 2, "x.log", "echo", "threads:$OMP_NUM_THREADS", OMP_NUM_THREADS="1")
    log = (tmp_path / "x.log").read_text()
    assert "\nthreads:2\n" in log and "# Accounting: time=0 threads=2\n" in log


@pytest.fixture
def smi(tmp_path):
    """A PATH on which nvidia-smi lists four GPUs."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nfor i in 0 1 2 3; do echo \"GPU $i: H\"; echo '  MIG part'; done\n")
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def devices(tmp_path):
    return [re.findall(r"^devices=(.*)$", path.read_text(), re.M)[0] for path in sorted(tmp_path.glob("x.*.log"))]


SHOW = "echo devices=$CUDA_VISIBLE_DEVICES; "


def test_parallel_jobs_get_different_gpus(run, script, tmp_path, smi):
    assert run("--gpu", 2, "JOB=1:2", "x.JOB.log", *script(SHOW + meet(2)), PATH=smi).returncode == 0
    assert sorted(devices(tmp_path)) == ["0,1", "2,3"]


def test_cuda_visible_devices_is_respected(run, script, tmp_path, smi):
    run("--gpu", 1, "JOB=1:3", "x.JOB.log", *script(SHOW), PATH=smi, CUDA_VISIBLE_DEVICES="5")
    assert devices(tmp_path) == ["5", "5", "5"]
    run("JOB=1:3", "x.JOB.log", *script(SHOW), PATH=smi, CUDA_VISIBLE_DEVICES="5,6")
    assert devices(tmp_path) == ["5,6"] * 3            # without --gpu, unchanged


def test_gpus_are_reused(run, script, tmp_path):
    own = script(SHOW + "mkdir lock.$CUDA_VISIBLE_DEVICES && sleep 0.1 && rmdir lock.$CUDA_VISIBLE_DEVICES")
    assert run("--gpu", 1, "JOB=1:6", "x.JOB.log", *own, CUDA_VISIBLE_DEVICES="3,7").returncode == 0
    assert set(devices(tmp_path)) == {"3", "7"}


def test_max_jobs_run_above_number_of_gpus(run, script, tmp_path):
    done = run("--gpu", 1, "--max-jobs-run", 4, "JOB=1:4", "x.JOB.log", *script(SHOW + meet(4)),
               CUDA_VISIBLE_DEVICES="3,7")
    assert done.returncode == 0 and sorted(devices(tmp_path)) == ["3", "3", "7", "7"]


def test_too_few_gpus(run, smi):
    done = run("--gpu", 8, "x.log", "true", PATH=smi)
    assert done.returncode == 255 and "--gpu 8: only 4 GPU(s) available" in done.stderr


def test_no_gpu_is_an_error_before_any_job_starts(run, tmp_path):
    done = run("--gpu", 1, "JOB=1:3", "x.JOB.log", "touch", "started", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 255 and "--gpu 1: only 0 GPU(s) available (none)" in done.stderr
    assert not (tmp_path / "started").exists()


def test_gpu_0_hides_all_gpus(run, script, tmp_path, smi):
    for environment in ({"CUDA_VISIBLE_DEVICES": "5,6"}, {}):
        assert run("--gpu", 0, "JOB=1:2", "x.JOB.log", *script(SHOW), PATH=smi, **environment).returncode == 0
        assert devices(tmp_path) == ["", ""]


@pytest.mark.parametrize("pick, ran, code", [("all", "1234", 0), ("failed", "234", 0), ("incomplete", "34", 1)])
def test_pick(run, tmp_path, pick, ran, code):
    (tmp_path / "x.1.log").write_text("# Ended (code 0) at x\n")
    (tmp_path / "x.2.log").write_text("# Ended (code 1) at x\n")
    (tmp_path / "x.3.log").write_text("# Started at x\n#\nhalf a li")
    done = run("--pick", pick, "JOB=1:4", "x.JOB.log", "touch", "ran.JOB")
    assert "".join(sorted(path.suffix[1:] for path in tmp_path.glob("ran.*"))) == ran
    assert done.returncode == code                     # a failed job that is not rerun still counts
    assert ("1 / 4 failed" in done.stderr) == bool(code)


def living(token: str) -> list[int]:
    """Processes with this argument in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if token.encode() in words:
            found.append(int(path.parent.name))
    return found


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def sleepers(tmp_path):
    """sleepers(command, token, number) -> run.py with two parallel jobs, after `number` processes have the token."""
    tokens = []

    def begin(command: list[str], token: str, number: int) -> subprocess.Popen:
        tokens.append(token)
        process = subprocess.Popen([sys.executable, RUN, "--max-jobs-run", "2", "JOB=1:3", "x.JOB.log", *command],
                                   cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: len(living(token)) >= number)
        return process

    yield begin
    for pid in [pid for token in tokens for pid in living(token)]:  # left by a failed test
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_every_process(tmp_path, script, sleepers, number):
    token = f"98{os.getpid()}{number:02}"
    # a child process, one in its own session, and a nested launcher
    command = script(f"sleep {token} & setsid sleep {token} & {sys.executable} {RUN} y.$1.log sleep {token} & wait\n"
                     "touch on.$1")
    (tmp_path / "x.3.log").write_text("# Ended (code 0) at an earlier run\n")
    process = sleepers(command, token, 8)       # per job: 3 times sleep, and the nested launcher's command line
    process.send_signal(number)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert f"run.py: stopped by {number.name}" in message and "Traceback" not in message
    assert living(token) == []
    assert not list(tmp_path.glob("on.*")) and not (tmp_path / "x.3.log").read_text()  # nothing went on
    log = (tmp_path / "x.1.log").read_text()
    assert "\n# Stopped at" in log and "\n# Ended" not in log      # so that --pick incomplete runs it again


def test_second_signal_skips_the_grace_time(script, sleepers):
    token = f"97{os.getpid()}"
    # they are in their own session and ignore SIGTERM; their parent ends on it
    process = sleepers(script(f"(trap '' TERM; exec setsid sleep {token}) & wait"), token, 2)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.5)                          # a signal within a second of the first would be the same one
    assert process.poll() is None and len(living(token)) == 2      # still in the grace time
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)          # shorter than the grace time
    assert process.returncode == 2 and living(token) == []


def test_nohup_ignores_sighup(tmp_path):
    token = f"96{os.getpid()}"
    process = subprocess.Popen(["nohup", sys.executable, RUN, "x.log", "sleep", "1", ";", "echo", token], cwd=tmp_path,
                               stderr=subprocess.DEVNULL)
    wait_for((tmp_path / "x.log").exists)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0


def test_jobs_of_killed_launcher_end(script, sleepers):
    token = f"95{os.getpid()}"
    process = sleepers(script(f"setsid sleep {token} & sleep {token}; touch on.$1"), token, 4)
    process.kill()
    process.communicate(timeout=60)                     # no other process keeps its stderr open
    wait_for(lambda: not living(token))


def watchdogs(folder: Path) -> list[int]:
    """Processes with run.py's command line: the launcher and its watchdog."""
    return living(str(folder / "mark.log"))


def test_watchdog_ends_with_the_launcher(tmp_path):
    """It does not end a background process that a job has left running."""
    token = f"94{os.getpid()}"
    command = f"{sys.executable} {RUN} {tmp_path}/mark.log sleep {token} '&' | cat"
    assert subprocess.run(command, shell=True, timeout=60).returncode == 0
    wait_for(lambda: not watchdogs(tmp_path))
    (left,) = living(token)
    os.kill(left, signal.SIGKILL)


def test_watchdog_is_a_daemon(tmp_path):
    def settled() -> list[int]:
        """The watchdog, without the launcher and its other children."""
        return [pid for pid in watchdogs(tmp_path) if os.path.realpath(f"/proc/{pid}/cwd") == "/"]

    process = subprocess.Popen([sys.executable, RUN, tmp_path / "mark.log", "sleep", "300"], stderr=subprocess.PIPE,
                               cwd=tmp_path)
    try:
        wait_for(settled)
        time.sleep(0.3)
        (watchdog,) = settled()
        assert os.getsid(watchdog) not in (os.getsid(0), os.getsid(process.pid))
        files = {os.readlink(file) for file in Path(f"/proc/{watchdog}/fd").iterdir()}
        assert os.devnull in files and len(files) == 2 and os.readlink(f"/proc/{watchdog}/cwd") == "/"
        os.kill(watchdog, signal.SIGKILL)              # the jobs go on without it
        time.sleep(0.2)
        assert process.poll() is None
    finally:
        process.terminate()
        message = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 2 and "Traceback" not in message


def test_disk_full_at_the_end(run, tmp_path):
    done = run("JOB=1:2", "x.JOB.log", "[", "JOB", "=", "2", "]", "||", "ln", "-sf", "/dev/full", "x.JOB.log")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "run.py: cannot write x.1.log: No space left on device\n" in done.stderr
    assert "1 / 2 failed" in done.stderr and "(code 0)" in (tmp_path / "x.2.log").read_text()   # unaffected


def test_disk_full_at_the_start(run):
    done = run("/dev/full", "true")
    assert (done.returncode, done.stderr) == (1, "run.py: cannot write /dev/full: No space left on device\n")


def test_cluster_options_are_ignored(run, tmp_path):
    done = run("--mem", "4G", "--time", "1:00:00", "--num-nodes", 1, "-V", "-l", "a=b", "-q", "all.q", "-sync", "y",
               "x.log", "true")
    assert (done.returncode, done.stderr) == (0, "")
    done = run("--num-nodes", 2, "y.log", "true")
    assert done.returncode == 255 and "use slurm.py" in done.stderr and not (tmp_path / "y.log").exists()
