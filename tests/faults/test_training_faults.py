# SPDX-License-Identifier: Apache-2.0
"""Training that is killed, stopped by SIGTERM or started twice, as by `steps/verification.sh`: no step is lost."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from corpus import write_corpus
from programs import forking, program

from rawnext.errors import InputError
from rawnext.training import checkpoint
from rawnext.training.lock import lock_folder

pytestmark = pytest.mark.slow

TINY = """
model: {name: rawnext, channels: [8, 8, 8, 8, 8, 8], blocks: [1, 1, 1, 1], cardinality: 8, embedding_dim: 8, dla: false,
  elastic: false, up: false, gate: false}
batch: {speakers: 4}
crop: {samples: 2500, short_from: 1600}
train: {epochs: 2, log_every: 1, save_every: 2, sync_batchnorm: false, timeout_minutes: 1}
"""
AGAIN = 75


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "train", num_speakers=6, num_utts=8)


class Training:
    """A training run under steps/torchrun.py; finds its processes."""

    def __init__(self, root: Path, corpus: Path, exp: Path, processes: int = 1, workers: int = 0, dev: bool = False,
                 elastic: bool = True, forked: bool = True, **environment: str):
        (exp.parent / "tiny.yaml").write_text(TINY)
        launcher = [str(root / "steps/torchrun.py"), "--nproc-per-node", str(processes)]
        launcher = launcher if elastic else []
        command = [sys.executable, *launcher, str(root / "steps/train.py"), "--config", str(exp.parent / "tiny.yaml"),
                   "--train", str(corpus), "--num-workers", str(workers), "--num-threads", "1", str(exp)]
        env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **environment}
        self.exp, self.text = exp, ""
        self.process = subprocess.Popen([*command, *(["--dev", str(corpus)] if dev else [])], text=True,
                                        env=forking(env) if forked else env, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)

    @property
    def pid(self) -> int:
        """The launcher's process, or that of the training without one."""
        return program(self.process.pid)

    def until(self, pattern: str, times: int = 1) -> None:
        """Read the log until a line matches for the n-th time."""
        for line in self.process.stderr:
            self.text += line
            times -= bool(re.search(pattern, line))
            if not times:
                return
        raise AssertionError(f"no {pattern} in\n{self.text}")

    def end(self) -> int:
        self.text += self.process.stderr.read()
        return self.process.wait(timeout=100)


def children(pid: int) -> list[int]:
    """Its child processes: programs themselves, not those that wait for a fork."""
    return [program(int(child)) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family(pid: int) -> list[int]:
    return [pid, *(p for child in children(pid) for p in family(child))]


def alive(pids: list[int]) -> list[int]:
    def state(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "gone"
    return [pid for pid in pids if state(pid) not in ("Z", "gone")]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def outcome(exp: Path):
    """Results of a training run: its table without times, and its weights."""
    lines = [line.split("\t") for line in (exp / "train.tsv").read_text().splitlines()]
    keep = [i for i, name in enumerate(lines[0]) if name not in ("seconds", "utts_per_s", "data_wait")]
    return [[line[i] for i in keep] for line in lines], checkpoint.load(exp / "model.pt")["model"]


def assert_same(exp: Path, unbroken: Path) -> None:
    (table, weights), (wanted_table, wanted) = outcome(exp), outcome(unbroken)
    assert table == wanted_table
    assert weights.keys() == wanted.keys() and all(torch.equal(weights[key], wanted[key]) for key in wanted)
    assert not list(exp.rglob("*.tmp"))


@pytest.fixture(scope="module")
def unbroken(root, corpus, tmp_path_factory):
    """unbroken(processes) -> the folder of an uninterrupted run."""
    folder, made = tmp_path_factory.mktemp("unbroken"), {}

    def train(processes: int) -> Path:
        if processes not in made:
            made[processes] = folder / str(processes)
            training = Training(root, corpus, made[processes], processes, workers=1, dev=True)
            assert training.end() == 0, training.text
        return made[processes]

    return train


@pytest.fixture
def temporary():
    """For TMPDIR; with a short path, because data workers have sockets in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("victim", ["data worker", "process"])
def test_killed_process_restarts_all_from_the_newest_checkpoint(root, corpus, tmp_path, unbroken, victim):
    training = Training(root, corpus, tmp_path / "exp", processes=2, workers=1, dev=True)
    training.until("step=3/.* loss=")
    rank = children(training.pid)[1]
    os.kill(rank if victim == "process" else children(rank)[0], signal.SIGKILL)
    assert training.end() == 0, training.text
    again = re.findall(r"continuing from \S*step-0*(\d+)\.pt", training.text)
    assert len(again) >= 2 and min(map(int, again)) >= 2  # a checkpoint is written every second step
    assert_same(tmp_path / "exp", unbroken(2))


def test_process_killed_on_one_machine_restarts_both(root, corpus, tmp_path, unbroken):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    nodes = {"PET_NNODES": "2", "PET_RDZV_BACKEND": "c10d", "PET_RDZV_ENDPOINT": place, "PET_RDZV_ID": "job"}
    pair = [Training(root, corpus, tmp_path / "exp", workers=1, dev=True, **nodes) for _ in range(2)]
    wait_for(lambda: checkpoint.checkpoints(tmp_path / "exp/checkpoints"))
    os.kill(children(pair[1].pid)[0], signal.SIGKILL)
    assert [training.end() for training in pair] == [0, 0], pair[0].text + pair[1].text
    assert all("continuing from" in training.text for training in pair)
    assert_same(tmp_path / "exp", unbroken(2))


@pytest.mark.parametrize("target", ["the launcher", "every process", "one process"])
def test_sigterm_saves_the_current_step_and_exits_with_75(root, corpus, tmp_path, temporary, unbroken, target):
    """As Slurm sends it: to all processes of the job, 30 s before it kills them."""
    exp = tmp_path / "exp"
    training = Training(root, corpus, exp, processes=2, workers=1, dev=True, TMPDIR=str(temporary))
    training.until(r"epoch=1 step=1/.* loss=")    # before validation, when a worker may report a lost connection
    pids = family(training.pid)
    one = children(training.pid)[1]
    started = time.monotonic()
    for pid in {"the launcher": pids[:1], "every process": pids, "one process": [one]}[target]:
        os.kill(pid, signal.SIGTERM)
    if target == "one process":    # torchrun restarts all processes from the saved step
        assert training.end() == 0 and "stopped by SIGTERM" in training.text, training.text
        assert_same(exp, unbroken(2))
        return
    assert training.end() == AGAIN, training.text
    assert time.monotonic() - started < 25
    assert "stopped by SIGTERM" in training.text and "Traceback" not in training.text
    assert not list(temporary.iterdir()), "folders of torchrun"
    saved = int(re.search(r"SIGTERM: saved epoch=1 step=(\d+)", training.text)[1])
    newest = checkpoint.load(checkpoint.checkpoints(exp / "checkpoints")[0])
    assert (newest["epoch"], newest["step_in_epoch"]) == (0, saved)
    assert not alive(pids)
    assert not (exp / "model.pt").exists()
    again = Training(root, corpus, exp, processes=2, workers=1, dev=True)
    assert again.end() == 0, again.text
    assert f"at epoch=1 step={saved}" in again.text
    assert_same(exp, unbroken(2))


def test_sigterm_without_torchrun_during_validation(root, corpus, tmp_path, unbroken):
    exp = tmp_path / "exp"
    training = Training(root, corpus, exp, dev=True, elastic=False)
    training.until("epoch=1 .* loss=", times=6)     # the last step of the first epoch, before validation
    os.kill(training.pid, signal.SIGTERM)
    assert training.end() == AGAIN and "Traceback" not in training.text
    assert "stopped by SIGTERM: saved epoch=1 step=6" in training.text
    again = Training(root, corpus, exp, dev=True, elastic=False)
    assert again.end() == 0, again.text
    assert_same(exp, unbroken(1))


def test_processes_do_not_outlive_torchrun(root, corpus, tmp_path, unbroken):
    exp = tmp_path / "exp"
    training = Training(root, corpus, exp, processes=2, workers=1, dev=True, forked=False)
    training.until("step=3/.* loss=")
    pids = family(training.pid)
    os.kill(training.pid, signal.SIGKILL)
    assert training.end() == -signal.SIGKILL
    wait_for(lambda: not alive(pids))
    assert "stopped by SIGTERM" in training.text, "they trained to the end"
    assert Training(root, corpus, exp, processes=2, workers=1, dev=True).end() == 0
    assert_same(exp, unbroken(2))


def test_truncated_newest_checkpoint_loses_only_its_steps(root, corpus, tmp_path, unbroken):
    exp = tmp_path / "exp"
    training = Training(root, corpus, exp, dev=True, elastic=False)
    training.until("epoch=1 step=5/")
    wait_for(lambda: len(checkpoint.checkpoints(exp / "checkpoints")) > 1)  # they are written by a thread
    os.kill(training.pid, signal.SIGKILL)
    training.end()
    newest = checkpoint.checkpoints(exp / "checkpoints")[0]
    os.truncate(newest, newest.stat().st_size // 2)
    again = Training(root, corpus, exp, dev=True, elastic=False)
    assert again.end() == 0, again.text
    assert newest.name in again.text and "trying the previous checkpoint" in again.text
    assert_same(exp, unbroken(1))


def test_second_training_in_one_folder_is_refused(root, corpus, tmp_path):
    exp = tmp_path / "exp"
    first = Training(root, corpus, exp, elastic=False)
    first.until("step=1/")
    os.kill(first.pid, signal.SIGSTOP)    # pause, so that it does not end before the second starts
    second = Training(root, corpus, exp, elastic=False)
    assert second.end() == 1
    assert re.search(rf"train.py: \S+checkpoints: is in use by process {first.pid} on \S+ since", second.text)
    assert "Traceback" not in second.text
    os.kill(first.pid, signal.SIGCONT)
    assert first.end() == 0, first.text


def test_a_stale_lock_does_not_block(tmp_path):
    holder = ("from rawnext.training.lock import lock_folder\n"
              f"with lock_folder('{tmp_path}'): print('held', flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(InputError, match=f"in use by process {process.pid}"), lock_folder(tmp_path):
            pass
        process.kill()
    assert (tmp_path / ".lock").read_text()     # left by the killed process
    with lock_folder(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock").read_text()


def test_complete_training_is_not_changed(root, corpus, tmp_path, unbroken):
    files = ("model.pt", "train.tsv", "train_info.json")
    exp = unbroken(1)
    before = [(exp / name).stat().st_mtime_ns for name in files]
    again = Training(root, corpus, exp, dev=True, elastic=False)
    # the configuration has another path and the same content
    assert again.end() == 0 and "already trained" in again.text, again.text
    assert [(exp / name).stat().st_mtime_ns for name in files] == before


def test_data_error_is_reported_once(root, corpus, tmp_path, temporary):
    training = Training(root, tmp_path / "nowhere", tmp_path / "exp", TMPDIR=str(temporary))
    assert training.end() == 1
    assert not list(temporary.iterdir()), "folders of torchrun"
    assert training.text.count("nowhere/cuts.jsonl: no such manifest") == 1
