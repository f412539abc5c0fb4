# SPDX-License-Identifier: Apache-2.0
"""Every format in training, extraction, the command line and the page: the same samples, or an error."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from audio_programs import (
    PROGRAMS,
    WAVE,
    by_libsndfile,
    check_cut_off,
    check_programs,
    command_line,
    extraction,
    needs_ffmpeg,
    page,
)
from corpus import by_ffmpeg, voice

from rawnext.data import audio, pipes
from rawnext.data.audio import read_16k, read_header, read_samples, resample
from rawnext.data.media import read_audio
from rawnext.data.wav import check_sources, load_wave, read_sources
from rawnext.errors import AudioError, InputError

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


def test_big_endian_wav(tmp_path):
    soundfile.write(tmp_path / "a.wav", WAVE, 16000, endian="BIG")
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFX"
    check_programs(tmp_path / "a.wav", WAVE, 1e-4)
    check_cut_off(tmp_path / "a.wav", 0.6)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 44100, 48000, 96000])
@pytest.mark.parametrize("num", [1, 160, 20000])
def test_resampling_is_that_of_torchaudio(rate, num):
    functional = pytest.importorskip("torchaudio.functional")
    wave = np.resize(WAVE, num)
    theirs = functional.resample(torch.from_numpy(wave).double(), rate, 16000).numpy()
    ours = resample(wave, rate)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape and np.abs(ours - theirs).max() < 1e-6


def test_memory_of_a_long_recording(tmp_path):
    """Ten minutes of 44.1 kHz stereo: 106 MB for a channel and 38 MB at 16 kHz."""
    path, program = tmp_path / "a.wav", """
import resource, sys
from rawnext.data.media import file_source
from rawnext.data.wav import load_wave
import scipy.signal, torch
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
    (tmp_path / "segments").write_text("a-1 a 0 1.3 1\na-2 a 0.5 -1 0\n")
    first, second = (load_wave(source) for source in read_sources(tmp_path))
    assert np.abs(first - WAVE).max() < 1e-4 and np.abs(second - stereo[8000:, 0]).max() < 1e-4
    for column, why in ((" 2", "has no channel 2"), ("", "has 2 channels; add which one to segments, as a fifth")):
        (tmp_path / "segments").write_text(f"a-1 a 0 -1{column}\n")
        for read in (load_wave, lambda source: check_sources([source])):
            with pytest.raises(InputError, match=f"segments:1: a-1: .*a.flac: {why}"):
                read(read_sources(tmp_path)[0])


@pytest.mark.parametrize(("wave", "why"), [
    (0 * WAVE, "has only zeros"), (1e-12 * WAVE, "has only zeros, or samples that round to them in 32 bits"),
    (32768 * WAVE, r"has samples up to \d+; they must be in \[-1, 1\]"),
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
