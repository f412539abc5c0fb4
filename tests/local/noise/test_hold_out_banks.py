# SPDX-License-Identifier: Apache-2.0
"""local/noise/hold_out_banks.py divides noises by file and responses by room; nothing is in both halves."""

import subprocess

import numpy as np
import pytest
import soundfile


def write_bank(folder, utts):
    folder.mkdir(parents=True)
    for utt in utts:
        soundfile.write(folder / f"{utt}.wav", np.full(160, 0.1), 16000)
    (folder / "wav.scp").write_text("".join(f"{utt} {folder}/{utt}.wav\n" for utt in sorted(utts)))
    (folder / "cuts.jsonl").write_text("stale\n")


def utts_of(folder):
    assert "stale" not in (folder / "cuts.jsonl").read_text()
    return [line.split()[0] for line in (folder / "wav.scp").read_text().splitlines()]


def divide(root, data):
    return subprocess.run([root / "local/noise/hold_out_banks.py", data, data / "held"], capture_output=True, text=True)


@pytest.mark.parametrize(("rirs", "held"), [
    (["small-R1-1", "small-R1-2", "small-R2-1", "small-R2-2", "large-R1-1"], ["small-R1-1", "small-R1-2"]),
    (["rirs-000", "rirs-001", "rirs-002"], ["rirs-001"])])
def test_halves(root, tmp_path, rirs, held):
    write_bank(tmp_path / "musan_noise", ["a", "b", "c", "d", "e"])
    write_bank(tmp_path / "rirs", rirs)
    done = divide(root, tmp_path)
    assert done.returncode == 0, done.stderr
    assert utts_of(tmp_path / "held/musan_noise") == ["b", "d"] and utts_of(tmp_path / "musan_noise") == ["a", "c", "e"]
    assert utts_of(tmp_path / "held/rirs") == held
    assert utts_of(tmp_path / "rirs") == sorted(set(rirs) - set(held))


def test_one_file_cannot_be_divided(root, tmp_path):
    write_bank(tmp_path / "musan_noise", ["a"])
    done = divide(root, tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith(
        "musan_noise/wav.scp: one file cannot be divided between training and test")
