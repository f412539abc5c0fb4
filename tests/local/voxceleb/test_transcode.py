# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb2's m4a becomes FLAC once, whole, and what cannot be decoded is listed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import forking

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture
def transcode(root, tmp_path):
    def call(*options, rc=0, path=None):
        done = subprocess.run([sys.executable, root / "local/voxceleb/transcode_vox2.py", *map(str, options),
                               tmp_path / "vox2", tmp_path / "flac"], capture_output=True, text=True,
                              env=forking({**os.environ, "PYTHONPATH": str(root),
                                           **({"PATH": str(path)} if path else {})}))
        assert done.returncode == rc, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr
    return call


def tone(spk_rate: int) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(spk_rate) / spk_rate)


@pytest.fixture
def vox2(tmp_path) -> list[Path]:
    """Five speakers with one second each; the last one is stereo at 44.1 kHz."""
    paths = []
    for number in range(5):
        path = tmp_path / f"vox2/dev/aac/id0001{number}/-x_yz/00001.m4a"
        path.parent.mkdir(parents=True)
        rate = 44100 if number == 4 else 16000
        soundfile.write(tmp_path / "one.wav", np.stack([tone(rate)] * (1 + number // 4), axis=1), rate)
        subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "one.wav", "-c:a", "aac", "-b:a", "64k",
                        "-movflags", "+faststart", path], check=True)
        paths.append(path)
    return paths


def made(tmp_path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "flac")) for path in (tmp_path / "flac").rglob("*") if path.is_file())


@needs_ffmpeg
def test_all_jobs_together_make_all_files(transcode, vox2, tmp_path):
    for job in (1, 2, 3):
        transcode("--job", job, "--num-jobs", 3)
        assert len(made(tmp_path)) == (2, 4, 5)[job - 1]
    assert made(tmp_path) == [f"id0001{number}/-x_yz/00001.flac" for number in range(5)]
    for name in made(tmp_path):
        wave, rate = soundfile.read(tmp_path / "flac" / name)
        assert rate == 16000 and wave.ndim == 1 and 15900 < len(wave) < 18100
        spectrum = np.abs(np.fft.rfft(wave[:16000]))
        assert abs(int(np.argmax(spectrum)) - 440) <= 1
    transcode("--job", 5, "--num-jobs", 9)


@needs_ffmpeg
def test_finished_files_are_left_and_missing_ones_made(transcode, vox2, tmp_path):
    transcode()
    first, second = (tmp_path / "flac" / name for name in made(tmp_path)[:2])
    first.write_bytes(b"finished")
    second.unlink()
    second.with_name(f".{second.name}.999999999.tmp").write_bytes(b"half, of a killed job")
    transcode()
    assert first.read_bytes() == b"finished"
    assert soundfile.info(second).frames > 15900
    assert made(tmp_path) == [f"id0001{number}/-x_yz/00001.flac" for number in range(5)]


@needs_ffmpeg
def test_undecodable_files_are_listed(transcode, vox2, tmp_path):
    vox2[1].write_bytes(b"")
    vox2[2].write_bytes(vox2[2].read_bytes()[:-200])  # the index is first: all but the end can be decoded
    message = transcode(rc=1)
    assert f"{tmp_path}/flac/undecodable.1.tsv: 2 of 5 audio files cannot be read" in message
    rows = [line.split("\t") for line in (tmp_path / "flac/undecodable.1.tsv").read_text().splitlines()]
    assert [path for path, _ in rows] == [str(vox2[1]), str(vox2[2])] and all(why for _, why in rows)
    assert len(made(tmp_path)) == 4  # three FLAC and the list, nothing half made
    transcode("--max-bad-fraction", 0.4)
    shutil.copyfile(vox2[0], vox2[1])
    shutil.copyfile(vox2[0], vox2[2])
    transcode()
    assert len(made(tmp_path)) == 5  # no list any more


def test_wav_is_left_where_it_is(transcode, tmp_path):
    for suffix in ("wav", "flac"):
        path = tmp_path / f"vox2/dev/{suffix}/id00012/abc/0000{len(suffix)}.{suffix}"
        path.parent.mkdir(parents=True)
        soundfile.write(path, tone(16000), 16000)
    path.with_suffix(".txt").write_text("not audio")
    assert "no m4a to transcode" in transcode(path=tmp_path)
    assert not (tmp_path / "flac").exists()


def test_faults_are_one_line(transcode, tmp_path):
    assert "vox2: no such folder" in transcode(rc=1)
    (tmp_path / "vox2/dev").mkdir(parents=True)
    assert "contains no speaker folders" in transcode(rc=1)
    path = tmp_path / "vox2/dev/aac/id00012/abc/00001.m4a"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    message = transcode(rc=1, path=tmp_path)
    assert "ffmpeg: not found" in message and len(message.splitlines()) == 1
    assert "--job 4 is not in 1 ... 3" in transcode("--job", 4, "--num-jobs", 3, rc=2)
