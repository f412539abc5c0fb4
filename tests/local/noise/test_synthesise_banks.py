# SPDX-License-Identifier: Apache-2.0
"""Synthetic noise, music and rooms: valid banks, the same in each run, at their levels."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus import RATE, voice
from programs import forking

from rawnext.data.cuts import CutTable
from rawnext.data.manifest import scan_audio, write_data_dir

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "local/noise"))
import synthesise_banks as synthesis  # noqa: E402

PROGRAM = ROOT / "local/noise/prepare_banks.py"


def run(data):
    return subprocess.run([sys.executable, PROGRAM, "--synthesise", data], text=True, capture_output=True,
                          env=forking({**os.environ, "PYTHONPATH": str(ROOT)}))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks")
    files = [(f"s{s}-{u}", f"s{s}", str(folder / f"s{s}-{u}.wav")) for s in range(2) for u in range(2)]
    for utt, _, path in files:
        soundfile.write(path, voice(int(utt[1]), int(utt[3]), 0.5), RATE)
    write_data_dir(scan_audio(files, 1)[0], folder / "train")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_banks_are_valid_and_the_same_in_each_run(data):
    sizes = {"musan_noise": 16, "musan_music": 6, "rirs": 42, "musan_speech": 4}
    for name, size in sizes.items():
        subprocess.run([sys.executable, ROOT / "utils/validate_data_dir.py", data / name], check=True)
        assert len(CutTable(data / name)) == size
    files = {path: path.read_bytes() for path in (data / "synthetic").iterdir()}
    assert len(files) == len(set(files.values())) == 16 + 6 + 42
    assert run(data).returncode == 0
    assert {path: path.read_bytes() for path in (data / "synthetic").iterdir()} == files


def test_no_noise_is_silent_or_clipped(data):
    for path in (data / "synthetic").glob("musan_*.wav"):
        wave, rate = soundfile.read(path)
        level = 20 * np.log10(np.sqrt(np.mean(wave ** 2)))
        assert rate == RATE and -40 < level < -24 and np.abs(wave).max() < 0.999


def test_the_training_set_must_exist(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "prepare DATA/train first" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("t60_s", [0.1, 0.3, 0.6])
def test_room_decays_in_its_time(t60_s):
    response = synthesis.make_room(t60_s, np.random.default_rng(3))
    assert np.abs(response).argmax() == 0 and len(response) <= 8000
    start = int(0.04 * 16000)  # the tail alone
    half = (len(response) - start) // 2
    first, second = (np.mean(part ** 2) for part in (response[start: start + half], response[start + half:]))
    assert 10 * np.log10(first / second) == pytest.approx(60 * half / 16000 / t60_s, rel=0.25)


def test_spectrum_is_shaped_by_its_gains():
    wave = np.random.default_rng(1).standard_normal(5000)
    flat = synthesis.shape_spectrum(wave, np.array([100.0, 7000.0]), np.array([6.0, 6.0]))
    np.testing.assert_allclose(flat[300:-300], 10 ** 0.3 * wave[300:-300], rtol=1e-3)
