# SPDX-License-Identifier: Apache-2.0
"""TERM or HUP to a script alone, which ends what they started (utils/stages.sh)."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

UTILS = Path(__file__).parents[2] / "utils"
HEAD = f"#!/usr/bin/env bash\nset -euo pipefail\nstage=0\n. {UTILS}/parse_options.sh\n"
SAVES = """import pathlib, signal, sys, time
def save(*_):
    time.sleep(0.5)
    pathlib.Path("saved").write_text("1")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path("ready").touch()
time.sleep(60)
"""
DIRECT = "python3 saves.py"
LAUNCHED = f"{UTILS}/run.py x.log python3 saves.py"


@pytest.fixture
def start(tmp_path):
    """start(BODY) runs ./run.sh with this body in a folder, in its own session, up to the start of saves.py."""
    (tmp_path / "saves.py").write_text(SAVES)
    started = []

    def begin(body, inner="true", **options):
        for name, text in (("run.sh", body), ("verification.sh", inner)):
            (tmp_path / name).write_text(f"{HEAD}{text}\ntouch went_on\n")
            (tmp_path / name).chmod(0o755)
        process = subprocess.Popen(["./run.sh"], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, **options)
        started.append(process)
        for _ in range(400):
            if (tmp_path / "ready").exists():
                return process
            time.sleep(0.05)
        raise AssertionError("saves.py did not start")

    yield begin
    for pid in living(tmp_path):
        os.kill(pid, signal.SIGKILL)
    for process in started:
        process.communicate()


def living(folder: Path) -> list[int]:
    """Processes whose working directory this is."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            if (proc / "cwd").readlink() == folder:
                found.append(int(proc.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("body", "inner"), [
    (DIRECT, ""), (LAUNCHED, ""), ("./verification.sh", LAUNCHED), ("./verification.sh", DIRECT),
    ("bash ./verification.sh | cat", LAUNCHED), ("python3 -c 'import os; os.system(\"./verification.sh\")'", LAUNCHED),
    ("echo ./verification.sh | xargs -P 2 -I SCRIPT bash SCRIPT", DIRECT),
    (f"for i in 1 2; do {DIRECT} || true; done", "")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_script_alone_ends_all_and_lets_training_save(tmp_path, start, body, inner, number):
    process = start(body, inner)
    process.send_signal(number)
    assert process.wait(30) == -number and living(tmp_path) == []
    assert (tmp_path / "saved").exists() and not (tmp_path / "went_on").exists()
    output = process.stdout.read()
    assert "Traceback" not in output, output


def test_signal_to_the_whole_group_lets_training_save(tmp_path, start):
    process = start("./verification.sh", LAUNCHED)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM and (tmp_path / "saved").exists() and living(tmp_path) == []


def test_interrupt_of_the_group_ends_all(tmp_path, start):
    process = start("./verification.sh", LAUNCHED)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C of a terminal
    process.communicate(timeout=30)
    assert process.returncode == 2 and not (tmp_path / "went_on").exists() and living(tmp_path) == []


def test_signal_to_an_inner_script_alone_ends_its_jobs(tmp_path, start):
    process = start("./verification.sh", LAUNCHED)
    pid = next(pid for pid in living(tmp_path)
               if b"./verification.sh" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    os.kill(pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143 and (tmp_path / "saved").exists() and living(tmp_path) == []


def test_nohup(tmp_path, start):
    process = start(DIRECT, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize(("end", "code"), [("true", 0), ("exit 7", 7), ("false", 1)])
def test_a_script_that_ends_by_itself_leaves_background_jobs_alone(tmp_path, end, code):
    (tmp_path / "run.sh").write_text(f"{HEAD}exec > >(sleep 0.3; tee log)\n{DIRECT} &\necho last\n{end}\n")
    (tmp_path / "saves.py").write_text("import time; time.sleep(1); open('done', 'w')")
    assert subprocess.run(["bash", "run.sh"], cwd=tmp_path, stderr=subprocess.DEVNULL).returncode == code
    for _ in range(100):
        if (tmp_path / "done").exists():
            break
        time.sleep(0.05)
    assert (tmp_path / "done").exists() and (tmp_path / "log").read_text() == "last\n"


def test_the_shell_of_a_user_is_left_alone(tmp_path):
    text = f". {UTILS}/stages.sh; trap -p EXIT; echo sourced"
    done = subprocess.run(["bash", "--norc", "-i"], input=text, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["sourced"]
