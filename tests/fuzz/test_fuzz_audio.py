# SPDX-License-Identifier: Apache-2.0
"""Audio files: any bytes give finite samples or a one-line error; memory is not allocated by the header's numbers."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile
from corpus import voice
from fuzzing import answer, damaged, fuzz
from hypothesis import given
from hypothesis import strategies as st

from rawnext.data import audio
from rawnext.data.audio import can_resample, read_header
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.shar import read_manifest, read_members
from rawnext.data.wav import Source, check_sources, load_wave
from rawnext.errors import AudioError

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


def in_archive(kind, raw):
    """An archive in which `raw` begins at byte 512."""
    if kind == "tar":
        member = tarfile.TarInfo("u.audio")
        member.size = len(raw)
        return member.tobuf(tarfile.USTAR_FORMAT) + raw + bytes(-len(raw) % 512 + 1024)
    size = b"AUDIO\x04" + len(raw).to_bytes(4, "little") if kind == "kaldiio" else b""
    return b"u" * 511 + b" " + size + raw


def check_damaged(folder, data, number, name, end_s):
    path, raw = folder / name, FILES[number]
    path.write_bytes(front(raw, data.draw(damaged(raw[:120]))) if data.draw(st.booleans()) else data.draw(damaged(raw)))
    check_answers(folder, path, end_s)


def check_answers(folder, path, end_s):
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
@fuzz(150)
@given(data=st.data(), number=INPUTS["number"], end_s=INPUTS["end_s"],
       kind=st.sampled_from(["tar", "kaldi", "kaldiio"]))
def test_damaged_archives(folder, data, number, kind, end_s):
    whole, path = in_archive(kind, FILES[number]), folder / "x.archive"
    path.write_bytes(data.draw(st.sampled_from([
        front(whole, data.draw(damaged(whole[:540]))), data.draw(damaged(whole)),
        in_archive(kind, data.draw(damaged(FILES[number])))])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio.shutil, "which", lambda _: None)
        check_answers(folder, f"{path}:512", end_s)
    answer(lambda: list(read_members(path)), path)


CUT = {"id": "cut-1", "start": 0, "duration": 0.3, "channel": 0, "type": "MonoCut",
       "supervisions": [{"id": "s", "recording_id": "r", "start": 0, "duration": 0.3, "speaker": "a", "gender": "f"}]}


@fuzz(300)
@given(raw=damaged(json.dumps(CUT).encode() + b"\n"))
def test_damaged_manifests_of_shar(folder, raw):
    (folder / "cuts.jsonl").write_bytes(raw)
    for row in answer(lambda: list(read_manifest(folder / "cuts.jsonl")), folder / "cuts.jsonl") or ():
        assert isinstance(row.utt, str) and isinstance(row.spk, str) and row.gender in ("m", "f", "")


@pytest.mark.slow
@fuzz(20)
@given(**INPUTS)
def test_damaged_audio_with_ffmpeg(folder, data, number, name, end_s):
    check_damaged(folder, data, number, name, end_s)
