# SPDX-License-Identifier: Apache-2.0
"""Samples of audio files: the one reader for training, extraction, the command line, the page and Python.

libsndfile reads a file if it can read it to its end: at any position, or from the start where a codec cannot seek.
ffmpeg reads all others: formats that libsndfile does not know, and files whose header does not state their length
(MP3 without a Xing header, streamed FLAC, WAV with a size of 0, several Ogg streams in one file). A file that ends
before its header says so is an error in every format.
"""

import contextlib
import io
import logging
import math
import os
import re
import shutil
import struct
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import soundfile

from rawnext.data.archive import Member, open_member
from rawnext.data.containers import HEAD, UNDECODABLE, check_last_sample, has_no_size, is_mp3, open_by_libsndfile
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.pipes import last_line, memory_file, path_of, run_program
from rawnext.errors import AudioError

log = logging.getLogger(__name__)

BLOCK_SAMPLES = 1 << 20  # decoded at a time, over all channels
MOST_SAMPLES = 1 << 31  # that are read at once: 12 hours at 48 kHz
FFMPEG_BYTES = 1 << 34  # of ffmpeg's output, of which one channel is kept: 12 hours of stereo at 48 kHz
FFMPEG_MEMORY = 2 << 30  # of its address space; files of any length take 0.3 GB, and 0.1 GB for each thread
FILTER_TAPS = 1 << 22  # limit for a resampler
PCM_16 = (1, SAMPLE_RATE, 16)  # format, rate and bits of files that are read without a decoder
# Demuxers (of `ffmpeg -demuxers`) that open only the file they are given. Playlists and concat scripts open other
# files, chosen by their author.
CONTAINERS = ("aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,gsm,iff,matroska,mov,mp3,mpc,mpc8,"
              "mpeg,mpegts,nistsphere,nut,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv,xwma")
SUFFIXES = {".aac", ".ac3", ".amr", ".ape", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma", ".wv"}  # ffmpeg's
FFMPEG_CPU_S = 60, 0.2  # limit of ffmpeg's processor time: seconds, and seconds for each one of audio
LONGEST_S = 12 * 3600  # for this limit, where the length has none


class Header(NamedTuple):
    """num_samples: of each channel.   rate: in Hz.   channels: their number."""

    num_samples: int
    rate: int
    channels: int


class Samples(NamedTuple):
    """wave: (T,) float32 of one channel.   rate: in Hz.   quieter_db: how far it is below the channel `loudest`."""

    wave: np.ndarray
    rate: int
    quieter_db: float = 0.0
    loudest: int = 0


def is_audio_name(path: Path) -> bool:
    """Whether the name ends like an audio file that soundfile or ffmpeg reads; `._a.wav` is macOS's note on a.wav."""
    kinds = {f".{kind.lower()}" for kind in soundfile.available_formats()} | {".aif", ".oga", ".opus", ".sph"}
    return path.suffix.lower() in (kinds | SUFFIXES) - {".raw"} and not path.name.startswith("._")


def can_resample(rate: int) -> bool:
    """Whether audio at this rate in Hz can be resampled to 16 kHz with a filter of reasonable size (16001 Hz: 1 GB)."""
    shared = math.gcd(rate, SAMPLE_RATE)
    return 2000 <= rate <= 768000 and (rate // shared) * (SAMPLE_RATE // shared) <= FILTER_TAPS


def read_header(path: str) -> Header:
    """Length, rate and channels. A file that only ffmpeg reads is decoded for them.

    Raises: AudioError: it is missing, empty, undecodable or cut off, or cannot be resampled to 16 kHz.
    """
    with open_file(path) as raw:
        file = open_by_libsndfile(raw)
        if file is None:
            wave, rate, energies = decode_by_ffmpeg(path)
            header = Header(len(wave), rate, len(energies))
        else:
            with file:
                header = Header(file.frames, file.samplerate, file.channels)
                if file.format in ("FLAC", "OGG"):
                    check_last_sample(raw)
    if header.num_samples == 0:
        raise AudioError("no samples")
    if not can_resample(header.rate):
        raise AudioError(f"{header.rate} Hz cannot be resampled to {SAMPLE_RATE} Hz")
    return header


def is_read_in_parts(path: str) -> bool:
    """Whether parts of a file can be read without what is before them.   Raises: AudioError: see read_header."""
    with open_file(path) as raw:
        file = open_by_libsndfile(raw)
        if file is None:
            return False
        with file:
            return file.seekable()


def read_samples(path: str, start: int = 0, stop: int | None = None, channel: int = 0,
                 longest_s: float = math.inf) -> Samples:
    """Samples start...stop of a channel at the file's own rate, fewer if the file ends earlier by its header.

    Args: stop: none: to the end.   longest_s: limit for the whole file, in seconds.
    Raises: AudioError: it is missing, undecodable, cut off or longer than longest_s, or has no such channel.
    """
    with open_file(path) as raw:
        if stop is not None and (wave := read_pcm(raw, start, stop, channel)) is not None:
            return Samples(wave, SAMPLE_RATE)
        size, whole = raw.seek(0, os.SEEK_END), stop is None
        file = open_by_libsndfile(raw)
        if file is None:
            wave, rate, energies = decode_by_ffmpeg(path, start, stop, channel, longest_s)
        else:
            with file:
                rate, stop = file.samplerate, min(file.frames, file.frames if stop is None else stop)
                if file.frames > longest_s * rate:
                    raise AudioError(f"is longer than {longest_s:g} s")
                if stop - start > MOST_SAMPLES:
                    raise AudioError(f"has more than {MOST_SAMPLES} samples; name parts of it in segments")
                columns = Columns(file.channels, channel, min(stop - start, 64 * size))
                read_blocks(file, start, stop, columns)
            wave, energies = columns.wave(), columns.energies
            if len(wave) < stop - start:
                raise AudioError(f"cut off: {len(wave)} of {stop - start} samples")
            if whole and file.format in ("FLAC", "OGG"):
                check_last_sample(raw)
    if channel >= len(energies):
        raise AudioError(f"has no channel {channel}; channels are counted from 0, and it has {len(energies)}")
    quieter_db = 10 * math.log10(max(energies.max(), 1e-30) / max(energies[channel], 1e-30))
    return Samples(wave, rate, quieter_db, int(energies.argmax()))


def read_16k(path: str, start: int, num: int, channel: int = 0, rate: int = SAMPLE_RATE, begin: int = 0,
             end: int | None = None) -> np.ndarray:
    """Samples start...start + num, at 16 kHz, of a segment: the same values as in the whole segment.

    Args: begin, end: the segment, in samples of the file.   rate: that of the file.
    Returns: (T,), T at most num.   Raises: AudioError: see read_samples; the file has another rate.
    """
    if rate == SAMPLE_RATE:
        stop = begin + start + num
        found = read_samples(path, begin + start, stop if end is None else min(stop, end), channel)
    else:
        old, new, margin = blocks_of(rate)
        first, last = max(0, start // new - margin), -(-(start + num) // new) + margin
        stop = begin + last * old
        found = read_samples(path, begin + first * old, stop if end is None else min(stop, end), channel)
        found = found._replace(wave=resample(found.wave, found.rate)[start - first * new:][:num])
    if found.rate != rate:
        raise AudioError(f"{found.rate} Hz instead of {rate} Hz")
    return found.wave


def resample(wave: np.ndarray, rate: int) -> np.ndarray:
    """(T,) float32 samples at `rate` Hz -> (T',) at 16 kHz, T' = T 16000 / rate, rounded up.

    The filter is torchaudio's default: a sinc at 0.99 of the lower rate, with a Hann window over 6 zero crossings.
    """
    if rate == SAMPLE_RATE:
        return wave
    from scipy.signal import upfirdn

    old, new, _ = blocks_of(rate)
    taps = resampling_filter(rate)
    delay, num = len(taps) // 2 // old, -(-len(wave) * new // old)
    return upfirdn(taps, wave, new, old)[delay : delay + num]


@lru_cache(maxsize=4)
def resampling_filter(rate: int) -> np.ndarray:
    """Taps at the least common multiple of both rates, symmetric about one at a multiple of the decimation."""
    old, new, _ = blocks_of(rate)
    step = 0.99 * min(old, new) / (old * new)  # zero crossings from one tap to the next
    half = math.ceil(6 / step / old) * old
    t = np.arange(-half, half + 1) * step
    return (np.sinc(t) * np.cos(np.clip(t, -6, 6) * np.pi / 12) ** 2 * step * new).astype(np.float32)


def blocks_of(rate: int) -> tuple[int, int, int]:
    """Samples of a resampler's block before and after it, and the number of blocks on each side that one depends on."""
    shared = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // shared, SAMPLE_RATE // shared
    return old, new, 2 + 7 * old // (min(old, new) * old)  # 6 zero crossings on each side


def open_file(path: str) -> IO[bytes]:
    """Open a file, or FILE:OFFSET, for reading.   Raises: AudioError: missing, unreadable, empty, or not a file."""
    try:
        if member := open_member(path):
            return member  # type: ignore[return-value]
        if not os.path.isfile(path):
            raise AudioError("no such file" if not os.path.exists(path) else "not a file")
        raw = open(path, "rb", buffering=0)  # noqa: SIM115 (the caller closes it)
    except OSError as error:
        raise AudioError(f"{error.strerror or error}") from None
    if os.fstat(raw.fileno()).st_size == 0:
        raw.close()
        raise AudioError("empty file")
    return raw


@contextlib.contextmanager
def as_file(path: str) -> Iterator[str]:
    """The path of a file for another program; audio inside an archive is copied to memory."""
    with open_file(path) as raw:
        if not isinstance(raw, Member):
            yield path
            return
        with memory_file() as copy:
            shutil.copyfileobj(raw, copy)
            copy.flush()
            yield path_of(copy)


# --- libsndfile

def read_blocks(file: soundfile.SoundFile, start: int, stop: int, columns: "Columns") -> None:
    """Give samples start...stop, or up to the end, to `columns`.

    Reads block by block: memory is allocated for samples that exist, not for those that a header promises.
    """
    try:
        at = 0
        if file.seekable():
            at = file.seek(start)
        while at < stop:
            block = file.read(min(max(1, BLOCK_SAMPLES // file.channels), stop - at), dtype="float32", always_2d=True)
            if len(block) == 0:
                return
            columns.add(block[max(0, start - at):])
            at += len(block)
    except UNDECODABLE as error:
        raise AudioError(" ".join(str(error).split()).removesuffix(".")) from None


class Columns:
    """One channel of blocks (T, C), and the energy of each channel.

    Args: room: samples for which memory is reserved; only those that come take any.
    """

    def __init__(self, channels: int, channel: int, room: int = 0):
        self.room, self.filled = np.empty(max(room, 0), np.float32), 0
        self.parts: list[np.ndarray] = []
        self.energies = np.zeros(channels)
        self.channel = min(channel, channels - 1)

    def add(self, block: np.ndarray) -> None:
        end = self.filled + len(block)
        if end <= len(self.room):
            self.room[self.filled:end] = block[:, self.channel]
            self.filled = end
        else:
            self.parts.append(np.ascontiguousarray(block[:, self.channel]))
        if len(self.energies) > 1:
            centred = block - block.mean(0, keepdims=True) if len(block) else block
            self.energies += np.einsum("tc,tc->c", centred, centred, dtype=np.float64)

    def wave(self) -> np.ndarray:
        filled = self.room[:self.filled]
        return np.concatenate([filled, *self.parts]) if self.parts else filled


def read_pcm(raw: IO[bytes], start: int, stop: int, channel: int) -> np.ndarray | None:
    """Samples of a 16-bit WAV file at 16 kHz, the format of VoxCeleb1, MUSAN and RIRS_NOISES; None for other files.

    Takes a tenth of a decoder's time, that of a copy out of the page cache. All data workers share the page cache, so
    keeping the noises in memory would gain nothing.
    """
    found = find_pcm(raw.read(HEAD))
    if found is None or channel >= found[0]:
        raw.seek(0)
        return None
    channels, offset, size = found
    num = min(stop, size // (2 * channels)) - start
    samples = np.empty((max(num, 0), channels), "<i2")
    raw.seek(offset + 2 * channels * start)
    got = raw.readinto(samples.data) // (2 * channels)  # type: ignore[attr-defined]
    return np.multiply(samples[:got, channel], np.float32(2**-15), dtype=np.float32)


def find_pcm(head: bytes) -> tuple[int, int, int] | None:
    """(channels, offset, bytes) of the samples in a WAV file that begins with `head`; None if it is not PCM_16."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    channels, at = 0, 12
    while at + 8 <= len(head):
        kind, size = struct.unpack_from("<4sI", head, at)
        at += 8
        if kind == b"fmt " and at + 16 <= len(head):
            form, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at)
            if (form, rate, bits) != PCM_16:
                return None
        if kind == b"data":
            return (channels, at, size) if channels and size else None
        at += size + size % 2
    return None


# --- ffmpeg

def decode_by_ffmpeg(path: str, start: int = 0, stop: int | None = None, channel: int = 0,
                     longest_s: float = math.inf) -> tuple[np.ndarray, int, np.ndarray]:
    """(T,) samples start...stop of a channel, the rate in Hz, and the energy of each channel.

    A whole file is kept for the next call: programs read a header first, then the samples.
    Raises: AudioError: ffmpeg is not installed, or cannot decode the file to its end.
    """
    with as_file(path) as path:
        if start or stop is not None:
            end = "" if stop is None else f":end_sample={stop}"
            return run_ffmpeg(path, channel, f"atrim=start_sample={start}{end}")
        status = os.stat(path)
        return whole_by_ffmpeg(path, channel, longest_s,
                               (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1)
def whole_by_ffmpeg(path: str, channel: int, longest_s: float, _version: tuple) -> tuple[np.ndarray, int, np.ndarray]:
    wave, rate, energies = run_ffmpeg(path, channel, "anull", longest_s)
    if len(wave) > longest_s * rate:
        raise AudioError(f"is longer than {longest_s:g} s")
    wave.flags.writeable = False
    return wave, rate, energies


def run_ffmpeg(path: str, channel: int, audio_filter: str,
               longest_s: float = math.inf) -> tuple[np.ndarray, int, np.ndarray]:
    if not shutil.which("ffmpeg"):
        raise AudioError("soundfile cannot read it to its end, and ffmpeg is not installed")
    with open(path, "rb") as file:
        head = file.read(HEAD)
    # -xerror makes damage an error, and the end of a file that states no length too
    strict = not (is_mp3(head) or has_no_size(head))
    # `file:` keeps ffmpeg from reading a name as an option or an address
    words = ["ffmpeg", "-nostdin", "-v", "level+error", *(["-xerror"] if strict else []),
             "-protocol_whitelist", "file,pipe", "-format_whitelist", CONTAINERS,
             "-codec_whitelist", audio_decoders(), "-vn", "-sn", "-dn",
             "-filter_threads", "1", "-i", f"file:{path}", "-map", "0:a:0", "-af", audio_filter,
             *(["-t", f"{longest_s + 0.1:.3f}"] if math.isfinite(longest_s) else []),
             "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    output, (cpu_s, of_length) = AuStream(channel), FFMPEG_CPU_S
    try:
        messages = run_program(words, "ffmpeg", output.write, FFMPEG_BYTES,
                               round(cpu_s + of_length * min(longest_s, LONGEST_S)), FFMPEG_MEMORY)
    except OSError as error:
        why = str(error).replace(f"file:{path}", "it").replace(path, "it").replace("[error] ", "")
        raise AudioError(f"neither soundfile nor ffmpeg can read it: {why}") from None
    messages = re.sub(r".* not on whitelist .*", "", messages).strip()  # of pictures and subtitles
    if strict and (damage := re.search(r"^\[matroska.*?\[error\] (.*)", messages, re.MULTILINE)):
        raise AudioError(f"cut off or damaged: {damage[1]}")  # -xerror does not cover Matroska and WebM
    if messages:
        log.warning("%s: %s", path, last_line(messages).replace("[error] ", ""))
    return output.columns.wave(), output.rate, output.columns.energies


@cache
def audio_decoders() -> str:
    """Names of ffmpeg's audio decoders. Without this list it decodes pictures and videos to learn their sizes."""
    output = io.BytesIO()
    run_program(["ffmpeg", "-v", "error", "-decoders"], "ffmpeg", output.write)
    return ",".join(re.findall(r"^ A\S* (\w+)", output.getvalue().decode(), re.MULTILINE))


class AuStream:
    """Takes bytes of an AU file of 32-bit floats, and keeps one channel."""

    def __init__(self, channel: int):
        self.columns, self.channel, self.rest = Columns(1, channel), channel, b""
        self.rate = self.width = 0

    def write(self, block: bytes) -> None:
        data = self.rest + block
        if not self.rate:
            if len(data) < 24 or len(data) < (offset := struct.unpack_from(">I", data, 4)[0]):
                self.rest = data
                return
            _, _, _, _, self.rate, channels = struct.unpack_from(">4s5I", data)
            self.columns, self.width, data = Columns(channels, self.channel), 4 * channels, data[offset:]
        whole = len(data) // self.width * self.width
        samples = np.frombuffer(data, ">f4", whole // 4).astype(np.float32)
        self.columns.add(samples.reshape(-1, self.width // 4))
        self.rest = data[whole:]
