# SPDX-License-Identifier: Apache-2.0
"""Audio files of any format and rate, read by soundfile, or by ffmpeg if soundfile cannot."""

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.pipes import output_of
from rawnext.data.wav import LEAST_SAMPLES, UNDECODABLE, Source, check_sources, decode
from rawnext.errors import InputError
from rawnext.files import PathLike

FFMPEG_CPU_S = 60  # limit of ffmpeg's CPU time when the length is limited
# Demuxers (of `ffmpeg -demuxers`) that open only the file they are given. Playlists and concat scripts open other
# files, chosen by their author.
CONTAINERS = ("aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,gsm,iff,matroska,mov,mp3,mpc,mpc8,"
              "mpeg,mpegts,nistsphere,nut,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv,xwma")
SUFFIXES = {".aac", ".ac3", ".amr", ".ape", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma", ".wv"}  # ffmpeg's


def is_audio_name(path: Path) -> bool:
    """Whether the name ends like an audio file that soundfile or ffmpeg reads."""
    kinds = {f".{kind.lower()}" for kind in soundfile.available_formats()} | {".aif", ".oga", ".opus", ".sph"}
    return path.suffix.lower() in (kinds | SUFFIXES) - {".raw"}


def file_source(path: PathLike) -> Source:
    """A file that is not listed in a table."""
    name = os.fspath(path)
    return Source(name, name, 0.0, -1.0, name, None)


def read_audio(path: PathLike) -> tuple[np.ndarray, int]:
    """The first channel of an audio file of any format as (T,) float32 in [-1, 1], and its rate in Hz.

    Raises: InputError: missing, undecodable, cut off, shorter than 0.1 s, NaN or infinity, only zeros.
    """
    source = file_source(path)
    check_media([source])
    return read_media(source)


def read_bytes(data: bytes | bytearray, longest_s: float) -> tuple[np.ndarray, int]:
    """As read_audio, for a file in memory, which is never written to disk.

    Raises: InputError: see read_audio; it is longer than longest_s seconds.
    """
    with open(os.memfd_create("audio"), "wb") as file:  # has a name for soundfile and ffmpeg, and is not on disk
        file.write(data)
        file.flush()
        source = file_source(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        try:
            check_media([source])
            return read_media(source, longest_s)
        except InputError as error:
            why = error.why.replace(f"file:{source.path}", "it").replace(source.path, "it")
            raise InputError("audio", None, why) from None


def check_media(sources: Sequence[Source]) -> None:
    """Check every file before any work starts; files that only ffmpeg reads are decoded for a moment.

    Raises: InputError: for the first file that is missing, undecodable, cut off or too short.
    """
    for_ffmpeg = {source for source in sources if os.path.isfile(source.path) and not soundfile_reads(source.path)}
    check_sources(source for source in sources if source not in for_ffmpeg)
    for source in sources:
        if source in for_ffmpeg:
            decode_by_ffmpeg(source, 2 * LEAST_SAMPLES)


def read_media(source: Source, longest_s: float = math.inf) -> tuple[np.ndarray, int]:
    """As read_audio, for a file that check_media has accepted.

    Raises: InputError: it is longer than longest_s seconds; decoding stops there.
    """
    too_long = f"is longer than {longest_s:g} s"
    if soundfile_reads(source.path):
        if soundfile.info(source.path).duration > longest_s:
            raise source.fault(too_long)
        wave, rate = decode(source)
    else:
        limit = 0 if math.isinf(longest_s) else int(longest_s * SAMPLE_RATE)
        wave, rate = decode_by_ffmpeg(source, limit + (limit > 0)), SAMPLE_RATE
        if 0 < limit < len(wave):
            raise source.fault(too_long)
    if not wave.any():
        raise source.fault("all its samples are zero")
    return wave, rate


def soundfile_reads(path: str) -> bool:
    try:
        with soundfile.SoundFile(path):
            return True
    except UNDECODABLE:
        return False


def decode_by_ffmpeg(source: Source, max_samples: int = 0) -> np.ndarray:
    """(T,) float32 at 16 kHz, the first channel of a file's first audio stream; at most max_samples, if not 0.

    Raises: InputError: ffmpeg is not installed or cannot decode the file to its end, or the audio is below 0.1 s.
    """
    if not shutil.which("ffmpeg"):
        raise source.fault(f"soundfile cannot read {source.path}, and ffmpeg is not installed")
    # `file:` keeps ffmpeg from reading a name as an option or an address; -xerror makes a truncated file an error
    words = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file,pipe",
             "-format_whitelist", CONTAINERS, "-i", f"file:{source.path}", "-map", "0:a:0", "-af", "pan=mono|c0=c0",
             *(["-t", str(max_samples / SAMPLE_RATE), "-timelimit", str(FFMPEG_CPU_S)] if max_samples else []),
             "-ar", str(SAMPLE_RATE), "-f", "f32le", "pipe:1"]
    try:
        output = output_of(words, "ffmpeg", source.path)
    except OSError as error:
        raise source.fault(f"neither soundfile nor ffmpeg can read {source.path}: {error}") from None
    wave = np.frombuffer(output.getbuffer(), "<f4").astype(np.float32)
    if len(wave) < LEAST_SAMPLES:
        raise source.fault(f"{len(wave) / SAMPLE_RATE:.3f} s of audio in {source.path}; at least "
                           f"{LEAST_SAMPLES / SAMPLE_RATE} s")
    if not np.isfinite(wave).all():
        raise source.fault(f"{source.path} contains NaN or infinity")
    return wave
