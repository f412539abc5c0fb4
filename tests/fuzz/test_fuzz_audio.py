# SPDX-License-Identifier: Apache-2.0
"""Audio files: any bytes give finite samples or a one-line error; memory is not allocated by the header's numbers."""

import io

import numpy as np
import pytest
import soundfile
from corpus import voice
from fuzzing import answer, damaged, fuzz
from hypothesis import given
from hypothesis import strategies as st

from rawnext.data import audio
from rawnext.data.audio import AudioError, can_resample, read_header
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.wav import Source, check_sources, load_wave

WAVE = voice(0, 0, 0.3)
FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"),
           ("OGG", "VORBIS"), ("AIFF", "PCM_16"), ("RF64", "PCM_16"), ("MP3", "MPEG_LAYER_III")]


def encode(kind, subtype, wave=WAVE, rate=SAMPLE_RATE):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


FILES = [encode(*kind) for kind in FORMATS] + [encode("WAV", "PCM_16", np.stack([WAVE, -WAVE], 1), 44100)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audio")


def front(raw: bytes, change: bytes) -> bytes:
    """Change the first bytes only, where most faults are."""
    return change + raw[len(change):]


def check_damaged(folder, data, number, name, end_s):
    path, raw = folder / name, FILES[number]
    path.write_bytes(front(raw, data.draw(damaged(raw[:120]))) if data.draw(st.booleans()) else data.draw(damaged(raw)))
    rate = 0
    try:
        samples, rate, channels = read_header(str(path))
        assert 0 < samples <= 1 << 40 and can_resample(rate) and channels > 0
    except AudioError as error:
        assert str(error) and "\n" not in str(error)
    source = Source("u", str(path), 0.0, end_s, str(folder / "wav.scp"), 7)

    def extract():
        check_sources([source], 1600)
        return load_wave(source)

    wave = answer(extract, f"{folder}/wav.scp:7: u: ", 60_000_000)
    if wave is not None:
        assert wave.dtype == np.float32 and wave.ndim == 1 and len(wave) >= 1599 and np.isfinite(wave).all()
        if len(wave) > 20 * SAMPLE_RATE:
            assert rate < 4000


INPUTS = {"data": st.data(), "number": st.integers(0, len(FILES) - 1), "end_s": st.sampled_from([-1.0, 0.2, 9.0]),
          "name": st.sampled_from(["a.wav", "a.flac", "a.raw", "a", "a.mp3"])}


@pytest.mark.slow
@fuzz(250)
@given(**INPUTS)
def test_damaged_audio(folder, data, number, name, end_s):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio.shutil, "which", lambda _: None)
        check_damaged(folder, data, number, name, end_s)


@pytest.mark.slow
@fuzz(20)
@given(**INPUTS)
def test_damaged_audio_with_ffmpeg(folder, data, number, name, end_s):
    check_damaged(folder, data, number, name, end_s)
