# SPDX-License-Identifier: Apache-2.0
"""The programs that read audio: training, extraction, the command line and the page, for tests of any format."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus import voice

from rawnext.data.audio import resample
from rawnext.data.cuts import CutTable
from rawnext.data.manifest import scan_audio, write_data_dir
from rawnext.data.media import read_audio, read_bytes
from rawnext.data.segment import AudioFault, read_segment
from rawnext.data.wav import check_sources, load_wave, read_sources
from rawnext.errors import InputError

WAVE = voice(0, 0, 1.3)
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg")


def by_libsndfile(path: Path, form: str, subtype: str, wave: np.ndarray = WAVE) -> Path:
    soundfile.write(path, wave, 16000, format=form, subtype=subtype)
    return path


def training(path: Path) -> np.ndarray:
    found, bad = scan_audio([("a", "a", str(path))], 1)
    if bad:
        raise AudioFault(bad[0][1])
    data = path.parent / "data"
    write_data_dir(found, data)
    cut = CutTable(data)[0]
    seconds = float((data / "utt2dur").read_text().split()[1])
    assert abs(seconds * 16000 - cut.num_samples) < 1e-3
    third = cut.num_samples // 3
    parts = [read_segment(cut, start, num) for start, num in ((0, third), (third, cut.num_samples - third))]
    return np.concatenate(parts)


def extraction(path: Path) -> np.ndarray:
    data = path.parent / "listed"
    data.mkdir(exist_ok=True)
    (data / "wav.scp").write_text(f"a {path}\n")
    sources = read_sources(data)
    check_sources(sources)
    return load_wave(sources[0])


def at_16k(found: tuple[np.ndarray, int]) -> np.ndarray:
    return found[0] if found[1] == 16000 else resample(*found)


def command_line(path: Path) -> np.ndarray:
    return at_16k(read_audio(path))


def page(path: Path) -> np.ndarray:
    return at_16k(read_bytes(path.read_bytes(), 60))


PROGRAMS = [training, extraction, command_line, page]


def check_programs(path: Path, expected: np.ndarray, near: float) -> None:
    """All programs get the same samples, near the expected ones (0: of a codec with a delay, not compared)."""
    waves = [program(path) for program in PROGRAMS]
    for wave, program in zip(waves, PROGRAMS):
        num = min(len(wave), len(waves[1]))
        assert abs(len(wave) - len(waves[1])) <= 1, program.__name__
        assert np.abs(wave[:num] - waves[1][:num]).max() < 1e-6, program.__name__
    assert len(expected) - 400 <= len(waves[0]) <= len(expected) + 4000  # a codec's frames
    if near:
        assert np.abs(waves[1][: len(expected)] - expected).max() <= near


def check_cut_off(path: Path, *shares: float) -> None:
    raw = path.read_bytes()
    for share in shares:
        path.write_bytes(raw[: int(share * len(raw))])
        for program in PROGRAMS:
            with pytest.raises((InputError, AudioFault)) as caught:
                program(path)
            assert str(caught.value).isprintable(), program.__name__
