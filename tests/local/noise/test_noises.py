# SPDX-License-Identifier: Apache-2.0
"""MUSAN and RIRS_NOISES become data directories that the validator and the trainer's reader accept."""

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

REAL = "real_rirs_isotropic_noises"


@pytest.fixture
def prepare(root, tmp_path):
    def call(script, *arguments, rc=0):
        done = subprocess.run([sys.executable, root / "local/noise" / script, *map(str, arguments), tmp_path / "data"],
                              capture_output=True, text=True, env=forking({**os.environ, "PYTHONPATH": str(root)}))
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
    names = ["air_type1_air_binaural_1.wav", "RVB2014_type1_rir_1.wav"]
    for channels, name in zip((1, 8), names):
        write(root / REAL / name, channels)
    write(root / REAL / "RVB2014_type1_noise_1.wav")
    write(root / "pointsource_noises/noise-free-sound-0000.wav")
    (root / REAL / "rir_list").write_text("".join(
        f"--rir-id 0000{i} --room-id R{i} RIRS_NOISES/{REAL}/{name}\n" for i, name in enumerate(names)))
    return root


def test_musan(prepare, musan, tmp_path):
    prepare("prepare_musan.py", musan)
    assert [len(CutTable(tmp_path / f"data/musan_{kind}")) for kind in ("noise", "music", "speech")] == [3, 2, 1]
    table = CutTable(tmp_path / "data/musan_noise")
    assert table.utts[0] == table.speakers[0] == "noise-free-sound-0000"
    assert read_segment(table[2], 0, table[2].num_samples).shape == (1600,)


def test_simulated_rirs_alone_and_with_real_ones(prepare, rirs, tmp_path):
    prepare("prepare_rirs.py", rirs)
    simulated = [f"{size}room-Room001-00001" for size in ("large", "medium", "small")]
    assert list(CutTable(tmp_path / "data/rirs").utts) == simulated
    assert "1 of 5 files have several channels" in prepare("prepare_rirs.py", "--real", rirs)
    table, real = CutTable(tmp_path / "data/rirs"), ["real-RVB2014_type1_rir_1", "real-air_type1_air_binaural_1"]
    assert list(table.utts) == [*simulated[:2], *real, simulated[2]]
    first, _ = soundfile.read(rirs / REAL / "RVB2014_type1_rir_1.wav", dtype="float32")
    assert np.array_equal(read_segment(table[2], 0, len(first)), first[:, 0])


def test_missing_and_broken_corpora(prepare, musan, rirs, tmp_path):
    assert "no noise/*/*.wav; MUSAN is at https://www.openslr.org/17/" in prepare("prepare_musan.py", rirs, rc=1)
    assert "https://www.openslr.org/28/" in prepare("prepare_rirs.py", musan, rc=1)
    (rirs / REAL / "air_type1_air_binaural_1.wav").unlink()
    assert "rir_list:1: no such file" in prepare("prepare_rirs.py", "--real", rirs, rc=1)
    (musan / "music/fma/music-fma-0001.wav").write_bytes(b"")
    message = prepare("prepare_musan.py", musan, rc=1)
    assert "music-fma-0001.wav: empty file" in message and "1 of 2 audio files cannot be read" in message


def test_reference_corpora(prepare, shared, tmp_path):
    """Real noises and rooms in the layout of the two corpora."""
    if not (shared / "data/musan_like").is_dir():
        pytest.skip(f"no noises at {shared}/data")
    prepare("prepare_musan.py", shared / "data/musan_like")
    prepare("prepare_rirs.py", "--real", shared / "data/rir_like")
    num_files = len(list((shared / "data/musan_like").glob("*/*/*.wav")))
    assert sum(len(CutTable(folder)) for folder in (tmp_path / "data").glob("musan_*")) == num_files
