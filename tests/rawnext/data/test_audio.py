# SPDX-License-Identifier: Apache-2.0
"""Every format in training, extraction, the command line and the page: the same samples, or an error."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus import by_ffmpeg, voice

from rawnext.data import audio, pipes
from rawnext.data.audio import AudioError, read_16k, read_header, read_samples, resample
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


def patched(path: Path, at: int | bytes, new: bytes) -> Path:
    """Overwrite bytes at a position, or after a word."""
    raw = bytearray(path.read_bytes())
    at = raw.index(at) + len(at) if isinstance(at, bytes) else at
    raw[at: at + len(new)] = new
    path.write_bytes(raw)
    return path


def joined(path: Path, make: Callable[[Path], Path]) -> Path:
    """Twice the same recording, one file after the other; Ogg streams have different numbers."""
    one, other = make(path.with_name(f"one{path.suffix}")), make(path.with_name(f"other{path.suffix}"))
    path.write_bytes(one.read_bytes() + other.read_bytes())
    return path


# name: format, subtype, largest difference from WAVE
LIBSNDFILE = {f"{form}-{subtype}": (form, subtype, near) for form, subtype, near in [
    ("WAV", "PCM_16", 1e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "FLOAT", 1e-9), ("WAV", "ULAW", 0.02),
    ("WAV", "GSM610", 0.3), ("WAV", "IMA_ADPCM", 0.2), ("WAVEX", "PCM_16", 1e-4), ("RF64", "PCM_16", 1e-4),
    ("W64", "PCM_16", 1e-4), ("AIFF", "PCM_16", 1e-4), ("AU", "PCM_16", 1e-4), ("AU", "G721_32", 0.2),
    ("CAF", "PCM_16", 1e-4), ("CAF", "ALAC_16", 1e-4), ("FLAC", "PCM_16", 1e-4), ("OGG", "VORBIS", 0.1),
    ("OGG", "OPUS", 0.2), ("MP3", "MPEG_LAYER_III", 0.1), ("NIST", "PCM_16", 1e-4), ("VOC", "PCM_16", 1e-4)]}
FFMPEG = {  # ending: options, largest difference
    "mka": (["-c:a", "flac"], 1e-4), "webm": (["-c:a", "libopus"], 0.2), "m4a": (["-c:a", "aac"], 0.2),
    "wv": (["-c:a", "wavpack"], 1e-4), "tta": (["-c:a", "tta"], 1e-4), "wma": (["-c:a", "wmav2"], 0.3)}
NO_LENGTH = {  # headers that do not state the length, or not that of all the file has; repeats
    "wav with a size of 0": (lambda p: patched(by_libsndfile(p, "WAV", "PCM_16"), b"data", bytes(4)), 1),
    "wav with the largest size": (lambda p: patched(by_libsndfile(p, "WAV", "PCM_16"), b"data", b"\xff" * 4), 1),
    "streamed flac": (lambda p: patched(by_libsndfile(p, "FLAC", "PCM_16"), 21, b"\xf0" + bytes(4)), 1),
    "mp3 without a Xing header": (lambda p: by_ffmpeg(WAVE, 16000, p.with_suffix(".mp3"), "-write_xing", "0"), 1),
    "mp3 of variable rate": (
        lambda p: by_ffmpeg(WAVE, 16000, p.with_suffix(".mp3"), "-write_xing", "0", "-q:a", "4"), 1),
    "joined mp3": (lambda p: joined(p.with_suffix(".mp3"), lambda q: by_ffmpeg(WAVE, 16000, q)), 2),
    "joined ogg": (lambda p: joined(p, lambda q: by_libsndfile(q, "OGG", "VORBIS")), 2)}


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


@pytest.mark.parametrize("name", LIBSNDFILE)
def test_formats_of_libsndfile(tmp_path, name):
    form, subtype, near = LIBSNDFILE[name]
    path = by_libsndfile(tmp_path / "a", form, subtype)
    check_programs(path, WAVE, near)
    check_cut_off(path, 0.6, 0.97)


@needs_ffmpeg
@pytest.mark.slow
@pytest.mark.parametrize("kind", FFMPEG)
def test_formats_of_ffmpeg(tmp_path, kind):
    options, near = FFMPEG[kind]
    path = by_ffmpeg(WAVE, 16000, tmp_path / f"a.{kind}", *options)
    check_programs(path, WAVE, near if near < 0.1 else 0)
    check_cut_off(path, 0.6)


@needs_ffmpeg
@pytest.mark.slow
@pytest.mark.parametrize("name", NO_LENGTH)
def test_files_that_do_not_state_their_length_are_read_to_their_end(tmp_path, name):
    make, repeats = NO_LENGTH[name]
    path = make(tmp_path / "a.audio")
    check_programs(path, np.tile(WAVE, repeats), 1e-4 if "wav" in name or "flac" in name else 0)


def test_big_endian_wav(tmp_path):
    soundfile.write(tmp_path / "a.wav", WAVE, 16000, endian="BIG")
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFX"
    check_programs(tmp_path / "a.wav", WAVE, 1e-4)
    check_cut_off(tmp_path / "a.wav", 0.6)


@pytest.mark.parametrize(("form", "subtype"), [("IRCAM", "PCM_16"), ("AVR", "PCM_16"), ("PAF", "PCM_16")])
def test_formats_in_which_a_cut_off_file_cannot_be_noticed_are_refused(tmp_path, form, subtype):
    path = by_libsndfile(tmp_path / "a", form, subtype)
    for program in PROGRAMS:
        with pytest.raises((InputError, AudioFault), match=f"{form} files are not read, .*; convert it to WAV"):
            program(path)


JOINED = [("WAV", "PCM_16", "FILE"), ("WAV", "PCM_16", "BIG"), ("WAVEX", "PCM_16", "FILE"), ("RF64", "PCM_16", "FILE"),
          ("W64", "PCM_16", "FILE"), ("AIFF", "PCM_16", "FILE"), ("AU", "PCM_16", "BIG"), ("AU", "PCM_16", "LITTLE"),
          ("CAF", "PCM_16", "FILE"), ("NIST", "PCM_16", "FILE"), ("VOC", "PCM_16", "FILE"), ("FLAC", "PCM_16", "FILE"),
          ("OGG", "VORBIS", "FILE")]


@pytest.mark.parametrize(("form", "subtype", "endian"), JOINED)
def test_joined_files_are_refused(tmp_path, form, subtype, endian):
    """They were read to the end of the first one, or the second header was read as samples."""
    path = tmp_path / "a"
    soundfile.write(path, WAVE, 16000, format=form, subtype=subtype, endian=endian)
    check_programs(path, WAVE, 0.2)
    path.write_bytes(2 * path.read_bytes())   # Ogg: with the same number of the stream
    for program in PROGRAMS:
        with pytest.raises((InputError, AudioFault), match="two files joined into one"):
            program(path)


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("size", [1, 20000])
def test_resampling_by_parts_equals_the_whole(monkeypatch, rate, size):
    wave = np.tile(WAVE, 5)
    whole = resample(wave, rate)
    monkeypatch.setattr(audio, "RESAMPLED", size)
    parts = resample(wave, rate)
    assert parts.shape == whole.shape and np.abs(parts - whole).max() < 1e-6


def test_memory_of_a_long_recording(tmp_path):
    """Ten minutes of 44.1 kHz stereo: 106 MB for a channel, 38 MB at 16 kHz and 60 MB at a time."""
    path, program = tmp_path / "a.wav", """
import resource, sys
from rawnext.data.media import file_source
from rawnext.data.wav import load_wave
import torch, torchaudio
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
print(len(load_wave(file_source(sys.argv[1]))), (peak() - before) // 1024)"""
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        for _ in range(60):
            file.write(np.resize(WAVE, (441000, 2)))
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    num, megabytes = map(int, done.stdout.split())
    assert num == 9600000 and megabytes < 250


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_parts_equal_the_whole_at_any_rate(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", WAVE, rate, subtype="FLOAT")
    path = str(tmp_path / "a.wav")
    for begin, end in ((0, len(WAVE)), (1234, 15001)):
        whole = resample(WAVE[begin:end], rate)
        for start, num in ((0, 1), (0, 5000), (1, 2), (777, 1600), (len(whole) - 300, 900), (0, 1 << 40)):
            part = read_16k(path, start, num, 0, rate, begin, end)
            assert len(part) == min(num, len(whole) - start)
            assert np.abs(part - whole[start: start + num]).max() < 1e-6
    with pytest.raises(AudioError, match=f"{rate} Hz instead of 32000 Hz"):
        read_16k(path, 0, 100, 0, 32000)


def test_channels(tmp_path, caplog):
    stereo = np.stack([0.001 * voice(1, 0, 1.3), WAVE], 1)
    soundfile.write(tmp_path / "a.flac", stereo, 16000)
    assert np.abs(read_audio(tmp_path / "a.flac", channel=1)[0] - WAVE).max() < 1e-4 and not caplog.text
    read_audio(tmp_path / "a.flac")
    assert "a.flac: channel 0, which is used, is 60" in caplog.text
    assert "dB below the loudest one, channel 1" in caplog.text
    with pytest.raises(InputError, match="has no channel 2; channels are counted from 0, and it has 2"):
        read_audio(tmp_path / "a.flac", channel=2)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.flac\n")
    (tmp_path / "segments").write_text("a-1 a 0 1.3 1\na-2 a 0.5 -1\n")
    first, second = (load_wave(source) for source in read_sources(tmp_path))
    assert np.abs(first - WAVE).max() < 1e-4 and np.abs(second - stereo[8000:, 0]).max() < 1e-4
    (tmp_path / "segments").write_text("a-1 a 0 1.3 2\n")
    with pytest.raises(InputError, match="segments:1: a-1: .*a.flac: has no channel 2"):
        check_sources(read_sources(tmp_path))


@pytest.mark.parametrize(("wave", "why"), [
    (0 * WAVE, "has only zeros"), (32768 * WAVE, r"has samples up to \d+; they must be in \[-1, 1\]"),
    (np.random.default_rng(0).integers(3, 5, 20000) / 32768, "has only 2 different values: no speech"),
    (np.full(20000, 0.25), "has only 1 different value: no speech"),
    (np.where(WAVE.max() == WAVE, np.inf, WAVE), "contains NaN or infinity")])
def test_audio_that_cannot_be_speech_is_refused(tmp_path, wave, why):
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    for program in (extraction, command_line, page):
        with pytest.raises(InputError, match=why):
            program(tmp_path / "a.wav")


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_quiet_and_loud_speech_is_read(tmp_path, subtype):
    for gain_db in (-60, -40, 0, 6):
        soundfile.write(tmp_path / "a.wav", 10 ** (gain_db / 20) * WAVE, 16000, subtype=subtype)
        for program in PROGRAMS:
            assert program(tmp_path / "a.wav").any()


@needs_ffmpeg
def test_limit_of_commands_does_not_hold_for_ffmpeg(tmp_path, monkeypatch):
    """Hours of stereo at 48 kHz are more bytes than a command may write, but one channel is kept."""
    path = by_ffmpeg(np.stack([WAVE, WAVE], 1), 16000, tmp_path / "a.mka", "-c:a", "flac")
    monkeypatch.setattr(pipes, "MAX_BYTES", 4 * len(WAVE))
    assert len(read_audio(path)[0]) == len(WAVE)
    monkeypatch.setattr(audio, "FFMPEG_BYTES", 4 * len(WAVE))
    audio.whole_by_ffmpeg.cache_clear()
    with pytest.raises(InputError, match="ffmpeg writes more than"):
        read_audio(path)


def test_header_and_samples_agree(tmp_path):
    path = str(by_libsndfile(tmp_path / "a.ogg", "OGG", "OPUS"))
    assert read_header(path) == (len(WAVE), 16000, 1)
    whole = read_samples(path)
    assert len(whole.wave) == len(WAVE) and (whole.rate, whole.quieter_db) == (16000, 0)
    assert len(read_samples(path, 100, 1 << 40).wave) == len(WAVE) - 100
