# SPDX-License-Identifier: Apache-2.0
"""Headers without a length, or not that of all the file has; files that were joined."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_programs import PROGRAMS, WAVE, by_libsndfile, check_cut_off, check_programs, needs_ffmpeg
from corpus import by_ffmpeg

from rawnext.data.segment import AudioFault
from rawnext.errors import InputError


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


NO_LENGTH = {  # headers that do not state the length, or not that of all the file has; repeats
    "wav with a size of 0": (lambda p: patched(by_libsndfile(p, "WAV", "PCM_16"), b"data", bytes(4)), 1),
    "wav with the largest size": (lambda p: patched(by_libsndfile(p, "WAV", "PCM_16"), b"data", b"\xff" * 4), 1),
    "streamed flac": (lambda p: patched(by_libsndfile(p, "FLAC", "PCM_16"), 21, b"\xf0" + bytes(4)), 1),
    "mp3 without a Xing header": (lambda p: by_ffmpeg(WAVE, 16000, p.with_suffix(".mp3"), "-write_xing", "0"), 1),
    "mp3 of variable rate": (
        lambda p: by_ffmpeg(WAVE, 16000, p.with_suffix(".mp3"), "-write_xing", "0", "-q:a", "4"), 1),
    "joined mp3": (lambda p: joined(p.with_suffix(".mp3"), lambda q: by_ffmpeg(WAVE, 16000, q)), 2),
    "joined ogg": (lambda p: joined(p, lambda q: by_libsndfile(q, "OGG", "VORBIS")), 2)}


@needs_ffmpeg
@pytest.mark.slow
@pytest.mark.parametrize("name", NO_LENGTH)
def test_files_that_do_not_state_their_length_are_read_to_their_end(tmp_path, name):
    make, repeats = NO_LENGTH[name]
    path = make(tmp_path / "a.audio")
    check_programs(path, np.tile(WAVE, repeats), 1e-4 if "wav" in name or "flac" in name else 0)


@needs_ffmpeg
@pytest.mark.slow
def test_mp3_in_other_places_is_read_to_its_end(tmp_path):
    """After zeros, the length depended on the file's name; in WAV, healthy files were refused as cut off."""
    path = by_ffmpeg(WAVE, 16000, tmp_path / "a.mp3", "-write_xing", "0")
    path.write_bytes(bytes(700) + path.read_bytes())
    check_programs(path, WAVE, 0)
    path = by_ffmpeg(WAVE, 16000, tmp_path / "a.wav", "-c:a", "libmp3lame")
    check_programs(path, WAVE, 0)
    check_cut_off(path, 0.6)


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
