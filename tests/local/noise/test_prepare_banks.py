# SPDX-License-Identifier: Apache-2.0
"""MUSAN and RIRS_NOISES become data directories that the validator and the trainer's reader accept; noises are divided
by file and responses by room for a noisy test set."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import forking

from rawnext.data.cuts import CutTable
from rawnext.data.segment import read_segment


@pytest.fixture
def prepare(root, tmp_path):
    def call(*arguments, rc=0):
        command = [sys.executable, root / "local/noise/prepare_banks.py", *map(str, arguments), tmp_path / "data"]
        done = subprocess.run(command, capture_output=True, text=True,
                              env=forking({**os.environ, "PYTHONPATH": str(root)}))
        assert done.returncode == rc, done.stderr
        assert "Traceback" not in done.stderr
        for folder in (path for path in (tmp_path / "data").glob("*") if path.is_dir()):
            subprocess.run([sys.executable, root / "utils/validate_data_dir.py", folder], check=True)
        return done.stderr
    return call


def write(path: Path, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, (1600, channels)), 16000)
    return path


@pytest.fixture
def musan(tmp_path):
    root = tmp_path / "musan"
    for kind, source, num in (("noise", "free-sound", 3), ("music", "fma", 2), ("speech", "librivox", 1)):
        for number in range(num):
            write(root / kind / source / f"{kind}-{source}-{number:04d}.wav")
        (root / kind / source / "ANNOTATIONS").write_text("words\n")
    (root / "README").write_text("words\n")
    return root


@pytest.fixture
def rirs(tmp_path):
    root = tmp_path / "RIRS_NOISES"
    for size in ("small", "medium", "large"):
        write(root / f"simulated_rirs/{size}room/Room001/Room001-00001.wav")
    write(root / "pointsource_noises/noise-free-sound-0000.wav")
    return root


def test_musan(prepare, musan, tmp_path):
    prepare("--musan", musan)
    assert [len(CutTable(tmp_path / f"data/musan_{kind}")) for kind in ("noise", "music", "speech")] == [3, 2, 1]
    table = CutTable(tmp_path / "data/musan_noise")
    assert table.utts[0] == table.speakers[0] == "noise-free-sound-0000"
    assert read_segment(table[2], 0, table[2].num_samples).shape == (1600,)


def test_simulated_rirs(prepare, rirs, tmp_path):
    prepare("--rirs", rirs)
    assert list(CutTable(tmp_path / "data/rirs").utts) == [
        f"{size}room-Room001-00001" for size in ("large", "medium", "small")]


def test_missing_and_broken_corpora(prepare, musan, rirs, tmp_path):
    assert "no noise/*/*.wav; MUSAN is at https://www.openslr.org/17/" in prepare("--musan", rirs, rc=1)
    assert "https://www.openslr.org/28/" in prepare("--rirs", musan, rc=1)
    (musan / "music/fma/music-fma-0001.wav").write_bytes(b"")
    message = prepare("--musan", musan, rc=1)
    assert "music-fma-0001.wav: empty file" in message and "1 of 2 audio files cannot be read" in message


def test_reference_corpora(prepare, shared, tmp_path):
    """Real noises and rooms in the layout of the two corpora."""
    if not (shared / "data/musan_like").is_dir():
        pytest.skip(f"no noises at {shared}/data")
    prepare("--musan", shared / "data/musan_like", "--rirs", shared / "data/rir_like")
    num_files = len(list((shared / "data/musan_like").glob("*/*/*.wav")))
    assert sum(len(CutTable(folder)) for folder in (tmp_path / "data").glob("musan_*")) == num_files


@pytest.mark.parametrize(("responses", "held"), [
    (["small/R1/R1-1", "small/R1/R1-2", "small/R2/R2-1", "small/R2/R2-2", "large/R1/R1-1"],
     ["small-R1-1", "small-R1-2"]),
    (["small/R1/R1-1", "small/R1/R1-2", "small/R1/R1-3"], ["small-R1-2"])])
def test_half_of_the_noises_and_rooms_are_held_out(prepare, tmp_path, responses, held):
    for name in ("noise/x/a", "noise/x/b", "noise/x/c", "noise/x/d", "noise/x/e", "music/x/m", "speech/x/s"):
        write(tmp_path / f"musan/{name}.wav")
    for name in responses:
        write(tmp_path / f"rirs/simulated_rirs/{name}.wav")
    prepare("--musan", tmp_path / "musan", "--rirs", tmp_path / "rirs", "--held-out", tmp_path / "held")
    assert list(CutTable(tmp_path / "held/musan_noise").utts) == ["b", "d"]
    assert list(CutTable(tmp_path / "data/musan_noise").utts) == ["a", "c", "e"]
    assert list(CutTable(tmp_path / "data/musan_music").utts) == ["m"]
    assert list(CutTable(tmp_path / "held/rirs").utts) == held
    every = {name.replace("/R1/", "-").replace("/R2/", "-") for name in responses}
    assert set(CutTable(tmp_path / "data/rirs").utts) == every - set(held)


def test_one_file_cannot_be_divided(prepare, tmp_path):
    for kind in ("noise", "music", "speech"):
        write(tmp_path / f"musan/{kind}/x/a.wav")
    message = prepare("--musan", tmp_path / "musan", "--held-out", tmp_path / "held", rc=1)
    assert message.splitlines()[-1].endswith("musan_noise: one file cannot be divided between training and test")
