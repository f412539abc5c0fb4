# SPDX-License-Identifier: Apache-2.0
"""Stage 0 (transcoding) killed at random moments and restarted: the same bytes, and no repeated work."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Copies its input slowly, to leave time for a kill.
FFMPEG = """#!/usr/bin/env bash
while [ $# -gt 1 ]; do if [ "$1" = -i ]; then in=$2; fi; shift; done
head -c 500 "$in" > "$1"; sleep 0.05; tail -c +501 "$in" >> "$1"
"""


def files(folder: Path) -> dict[Path, Path]:
    """Complete files: relative path -> path. Names of partial files begin with a dot."""
    return {path.relative_to(folder): path for path in folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")}


def kill(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def killed_and_finished(command: Sequence, growing: Path, made: Path, num_files: int, env: dict[str, str]) -> None:
    """Kill the command three times, each time after some new files, then let it finish."""
    rng = random.Random(1)
    for _ in range(3):
        before = {path: path.stat().st_mtime_ns for path in files(growing).values()}
        process = subprocess.Popen(list(map(str, command)), env=env, start_new_session=True, stderr=subprocess.DEVNULL)
        target = len(before) + rng.randint(1, num_files // 5)
        while len(files(growing)) < target:
            assert process.poll() is None, "the command ended before the kill"
            time.sleep(0.01)
        kill(process)
        assert {path: path.stat().st_mtime_ns for path in before} == before
    names = {name: path.stat().st_mtime_ns for name, path in files(growing).items()}
    assert len(names) >= 3
    subprocess.run(list(map(str, command)), env=env, check=True, capture_output=True, timeout=200)
    found = files(made)
    assert {name: found[name].stat().st_mtime_ns for name in names} == names


@pytest.fixture
def env(root):
    return {**os.environ, "PYTHONPATH": str(root)}


def test_transcoding(root, tmp_path, env):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ffmpeg").write_text(FFMPEG)
    (tmp_path / "bin/ffmpeg").chmod(0o755)
    rng = random.Random(2)
    for number in range(30):
        path = tmp_path / f"vox2/dev/aac/id{number % 5:05d}/video_{number:05d}/00001.m4a"
        path.parent.mkdir(parents=True)
        path.write_bytes(rng.randbytes(1000))
    command = [sys.executable, root / "local/voxceleb/transcode_vox2.py", tmp_path / "vox2", tmp_path / "flac"]
    env["PATH"] = f"{tmp_path}/bin:{env['PATH']}"
    (tmp_path / "flac").mkdir()
    killed_and_finished(command, tmp_path / "flac", tmp_path / "flac", 30, env)
    made = files(tmp_path / "flac")
    sources = files(tmp_path / "vox2/dev/aac")
    assert {name: path.read_bytes() for name, path in made.items()} == {
        name.with_suffix(".flac"): path.read_bytes() for name, path in sources.items()}
    assert not list((tmp_path / "flac").rglob(".*.tmp"))
