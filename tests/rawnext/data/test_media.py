# SPDX-License-Identifier: Apache-2.0
"""Files of any format are decoded, and no file makes ffmpeg open another."""

import os
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import soundfile
from corpus import by_ffmpeg, voice

from rawnext.data import audio
from rawnext.data.audio import is_audio_name
from rawnext.data.media import file_source, read_audio, read_bytes
from rawnext.data.wav import check_sources
from rawnext.errors import InputError

WAVE = voice(0, 0, 1.0)
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg")


@pytest.mark.parametrize(("kind", "rate"), [("wav", 16000), ("flac", 44100), ("ogg", 16000), ("aiff", 8000)])
def test_soundfile_formats_keep_their_rate(tmp_path, kind, rate):
    soundfile.write(tmp_path / f"a.{kind}", np.column_stack([WAVE, 0 * WAVE]), rate)
    wave, found = read_audio(tmp_path / f"a.{kind}")
    assert found == rate and wave.dtype == np.float32
    assert np.abs(wave - WAVE).max() < (0.1 if kind == "ogg" else 1e-4)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.mka", "-x.mka", "a b'c.mka", "concat:a|b.mka", "%d.mka", "http:x.mka"])
def test_ffmpeg_formats_are_read_whatever_the_file_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    stereo = np.column_stack([WAVE, -WAVE])  # a mix of the channels would be silent
    by_ffmpeg(stereo, 16000, name, "-c:a", "flac")
    wave, rate = read_audio(name)
    assert rate == 16000 and np.abs(wave - WAVE).max() < 1e-4
    check_sources([file_source(name)])


@needs_ffmpeg
def test_ffmpeg_formats_keep_their_rate(tmp_path):
    path = by_ffmpeg(np.repeat(WAVE, 3), 48000, tmp_path / "a.m4a")
    wave, rate = read_audio(path)
    assert rate == 48000 and abs(len(wave) - 3 * len(WAVE)) < 9000  # AAC's frames
    assert np.abs(wave[6000:36000]).std() > 0.5 * np.abs(WAVE[2000:12000]).std()


@pytest.mark.parametrize("kind", ["flac", pytest.param("m4a", marks=needs_ffmpeg)])
def test_bytes_are_decoded_like_a_file(tmp_path, kind):
    """MP4 has its index at the end, so a pipe would not do."""
    path = tmp_path / f"a.{kind}"
    by_ffmpeg(WAVE, 16000, path) if kind == "m4a" else soundfile.write(path, WAVE, 16000)
    wave, rate = read_bytes(path.read_bytes(), longest_s=1.1)
    assert rate == 16000 and np.array_equal(wave, read_audio(path)[0])
    with pytest.raises(InputError, match="^audio: is longer than 0.9 s$"):
        read_bytes(path.read_bytes(), longest_s=0.9)


@needs_ffmpeg
def test_errors_of_bytes_name_no_file():
    with pytest.raises(InputError, match=r"^audio: neither soundfile nor ffmpeg can read it: .* it: ") as caught:
        read_bytes(b"no audio", 1)
    assert "/proc" not in str(caught.value)


@needs_ffmpeg
def test_playlists_open_no_other_file(tmp_path):
    """References to other files are not followed."""
    soundfile.write(tmp_path / "secret.wav", WAVE, 16000)
    (tmp_path / "a.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{tmp_path}/secret.wav\n"
                                     "#EXT-X-ENDLIST\n")
    (tmp_path / "b.txt").write_text("ffconcat version 1.0\nfile 'secret.wav'\n")
    for name in ("a.m3u8", "b.txt"):
        with pytest.raises(InputError, match=f"{name}: neither soundfile nor ffmpeg can read"):
            read_audio(tmp_path / name)


def png(side):
    """A picture of side x side pixels of 8 bytes, all black: small when compressed."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj()
    rows = b"".join(pack.compress(bytes(1 + 8 * side)) for _ in range(side)) + pack.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0))
            + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["m4a", "mkv", "mp3"])
def test_pictures_are_not_decoded(tmp_path, ending):
    """A picture of 128 MB in a small file; ffmpeg alone takes 60 MB."""
    (tmp_path / "cover.png").write_bytes(png(4000))
    path = by_ffmpeg(WAVE, 16000, tmp_path / f"a.{ending}", "-i", tmp_path / "cover.png", "-map", "0:a", "-map", "1:v",
                     "-c:v", "copy", *(["-write_xing", "0"] if ending == "mp3" else ["-disposition:v", "attached_pic"]))
    assert path.stat().st_size < 1_000_000
    program = """
import resource, sys
from rawnext.data.audio import read_samples
print(len(read_samples(sys.argv[1]).wave), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    num, megabytes = map(int, done.stdout.split())
    assert num >= len(WAVE) and megabytes < 120 and not done.stderr


@needs_ffmpeg
@pytest.mark.parametrize("ending", ["m4a", "wv"])
def test_hours_of_silence_are_decoded_up_to_the_limit(tmp_path, monkeypatch, ending):
    path = by_ffmpeg(np.zeros(16000 * 600), 16000, tmp_path / f"a.{ending}")
    monkeypatch.setattr(audio, "FFMPEG_BYTES", 5 * 4 * 16000)
    with pytest.raises(InputError, match="audio: is longer than 4 s"):
        read_bytes(path.read_bytes(), 4)
    with pytest.raises(InputError, match="ffmpeg writes more than"):
        read_audio(path)


def test_more_samples_than_fit_in_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "MOST_SAMPLES", 16000)
    soundfile.write(tmp_path / "a.flac", np.resize(WAVE, 16001), 16000)
    with pytest.raises(InputError, match=r"a.flac: has more than 16000 samples; name parts of it in segments"):
        read_audio(tmp_path / "a.flac")
    assert len(audio.read_samples(str(tmp_path / "a.flac"), 1, 16001).wave) == 16000


def faulty(folder, name):
    path = folder / "a.wav"
    if name == "a folder":
        path.mkdir()
    elif name == "text":
        path.write_text("no audio")
    elif name == "short":
        soundfile.write(path, WAVE[:1599], 16000)
    elif name == "silent":
        soundfile.write(path, 0 * WAVE, 16000)
    elif name == "nan":
        soundfile.write(path, np.where(WAVE.max() == WAVE, np.nan, WAVE), 16000, subtype="FLOAT")
    elif name == "cut off":
        soundfile.write(path, WAVE, 16000)
        path.write_bytes(path.read_bytes()[:9000])
    return path


@pytest.mark.parametrize(("name", "why"), [
    ("missing", "no such file$"), ("a folder", "not a file$"), ("text", "soundfile .*ffmpeg "),
    ("short", "0.100 s of audio; at least 0.1 s"), ("silent", "has only zeros"),
    ("nan", "NaN or infinity"), ("cut off", "cut off: it has 9000 bytes, its header promises 32044")])
def test_invalid_audio_is_reported_in_one_line(tmp_path, name, why):
    path = faulty(tmp_path, name)
    with pytest.raises(InputError, match=rf"^{path}: .*{why}") as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)


@needs_ffmpeg
def test_invalid_audio_in_ffmpeg_formats_is_reported(tmp_path, caplog):
    short = by_ffmpeg(WAVE[:800], 16000, tmp_path / "short.mka", "-c:a", "flac")
    cut = by_ffmpeg(WAVE, 16000, tmp_path / "cut.m4a")
    cut.write_bytes(cut.read_bytes()[:2000])
    broken = by_ffmpeg(np.tile(WAVE, 9), 16000, tmp_path / "broken.mka", "-c:a", "flac")
    broken.write_bytes(broken.read_bytes()[:30000] + b"\xff" * 9000)
    with pytest.raises(InputError, match="short.mka: 0.050 s of audio"):
        check_sources([file_source(short)])
    with pytest.raises(InputError, match=r"cut.m4a: neither soundfile nor ffmpeg can read .*: ffmpeg failed"):
        check_sources([file_source(cut)])
    damaged = by_ffmpeg(np.tile(WAVE, 9), 16000, tmp_path / "damaged.m4a")
    content = damaged.read_bytes()
    damaged.write_bytes(content[:30000] + b"\xff" * 9000 + content[39000:])
    with pytest.raises(InputError, match=r"damaged.m4a: neither soundfile nor ffmpeg can read .*: ffmpeg failed"):
        read_audio(damaged)
    with pytest.raises(InputError, match=r"broken.mka: cut off or damaged: "):
        read_audio(broken)
    assert not caplog.text


def test_missing_ffmpeg_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(audio.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="ffmpeg is not installed"):
        read_audio(faulty(tmp_path, "text"))


@pytest.mark.parametrize(("name", "is_audio"), [
    ("a.wav", True), ("a.FLAC", True), ("a.m4a", True), ("a.opus", True), ("a.txt", False), ("a", False),
    ("wav", False), ("a.wav.lab", False), ("a.raw", False)])
def test_audio_is_recognised_by_its_suffix(tmp_path, name, is_audio):
    assert is_audio_name(tmp_path / name) == is_audio
