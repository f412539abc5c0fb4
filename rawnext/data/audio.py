# SPDX-License-Identifier: Apache-2.0
"""Samples of audio files: the one reader behind training, extraction, the command line, the page and Python.

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

from rawnext.data.archive import STREAMED, Member, open_member
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.pipes import last_line, memory_file, path_of, run_program

log = logging.getLogger(__name__)

BLOCK_SAMPLES = 1 << 20  # decoded at a time, over all channels
RESAMPLED = 1 << 21  # samples at a time
MOST_SAMPLES = 1 << 31  # that are read at once: 12 hours at 48 kHz
FFMPEG_BYTES = 1 << 34  # of ffmpeg's output, of which one channel is kept: 12 hours of stereo at 48 kHz
FFMPEG_MEMORY = 2 << 30  # of its address space; files of any length take 0.3 GB, and 0.1 GB for each thread
UNKNOWN_LENGTH = 1 << 40  # libsndfile reports more samples than this if the header has no length
FILTER_TAPS = 1 << 22  # limit for a resampler
HEAD = 512  # bytes within which the samples of most WAV files begin
PCM_16 = (1, SAMPLE_RATE, 16)  # format, rate and bits of files that are read without a decoder
# Formats of libsndfile in which a file that is cut off is noticed
FORMATS = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST", "VOC"}
# What libsndfile's log says of a chunk that is longer than the file. The whole of a RIFF file (RIFF, FORM) does not
# count: its size is often wrong, and the chunk with the samples has one of its own.
SIZES = re.compile(r"^\s*(?:data|SSND|riff|Riff size|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
# Demuxers (of `ffmpeg -demuxers`) that open only the file they are given. Playlists and concat scripts open other
# files, chosen by their author.
CONTAINERS = ("aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,gsm,iff,matroska,mov,mp3,mpc,mpc8,"
              "mpeg,mpegts,nistsphere,nut,ogg,oma,rm,shn,tak,tta,voc,w64,wav,wv,xwma")
SUFFIXES = {".aac", ".ac3", ".amr", ".ape", ".m4a", ".mka", ".mkv", ".mov", ".mp4", ".webm", ".wma", ".wv"}  # ffmpeg's
JOINED = "two files joined into one; join their samples, for example with sox"
AHEAD = 1 << 17  # bytes; a decoder does not read further ahead
# The start of a FLAC stream; a page of Ogg that starts a stream, after one that does not
STREAM = re.compile(rb"fLaC[\0\x80]\0\0\x22|OggS\0[\0\1\4\5].*OggS\0[\2\3\6\7]", re.DOTALL)
FFMPEG_CPU_S = 60, 0.2  # limit of ffmpeg's processor time: seconds, and seconds for each one of audio
LONGEST_S = 12 * 3600  # for this limit, where the length has none
# libsndfile's errors, and soundfile's for a .raw file, which has no header with its rate
UNDECODABLE = (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError)


class AudioError(Exception):
    """Why audio cannot be read, in one line without the path."""


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
    """(T,) samples at `rate` Hz -> (T',) at 16 kHz, by parts, because torchaudio takes several times the memory."""
    import torch
    from torchaudio.functional import resample as convert

    old, new, margin = blocks_of(rate)
    part = max(RESAMPLED // old, 16 * margin)  # blocks
    found = np.empty(-(-len(wave) * new // old), np.float32)
    for first in range(0, -(-len(wave) // old), part):
        begin = max(0, first - margin)
        samples = wave[begin * old:(first + part + margin) * old]
        converted = convert(torch.from_numpy(np.require(samples, requirements=["C", "W"])), rate, SAMPLE_RATE).numpy()
        target = found[first * new:(first + part) * new]
        target[:] = converted[(first - begin) * new:][:len(target)]
    return found


def blocks_of(rate: int) -> tuple[int, int, int]:
    """Samples of a resampler's block before and after it, and the number of blocks on each side that one depends on."""
    shared = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // shared, SAMPLE_RATE // shared
    return old, new, 2 + 7 * old // (min(old, new) * old)  # torchaudio's filter has 6 zero crossings on each side


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

def open_by_libsndfile(raw: IO[bytes]) -> soundfile.SoundFile | None:
    """The opened file if libsndfile reads it to its end, None if ffmpeg has to.   Raises: AudioError: it is cut off."""
    size = raw.seek(0, os.SEEK_END)
    raw.seek(0)
    head = raw.read(HEAD)
    if is_mp3(head):
        if not mp3_states_its_length(raw, size):
            return None
    elif (head[:4] == b"OggS" and not ogg_is_one_stream(raw, size, head)) or has_no_size(head):
        return None
    elif 0 < (end := stated_end(raw, head, size)) < size:
        raw.seek(end)
        if raw.read(16).lstrip(b"\0").startswith(head[:4]):
            raise AudioError(JOINED)
    raw.seek(0)
    try:
        file = soundfile.SoundFile(raw if isinstance(raw, Member) else raw.name)
    except UNDECODABLE:
        return None
    why = ""
    if file.format not in FORMATS:
        why = f"{file.format} files are not read, because one that is cut off would not be noticed; convert it to WAV"
    elif file.format == "NIST":
        why = cut_off(size, nist_size(head))
    elif file.format == "VOC":
        why = cut_off(size, voc_size(raw))
    for stated, actual in SIZES.findall(file.extra_info):
        if STREAMED[0] < int(stated) < STREAMED[1]:
            why = why or cut_off(size, size + int(stated) - int(actual))
    if why or file.frames > UNKNOWN_LENGTH:
        file.close()
        if why:
            raise AudioError(why)
        return None
    return file


def check_last_sample(raw: IO[bytes]) -> None:
    """Raises: AudioError: the last sample of a FLAC or Ogg file is missing, or another stream follows it."""
    raw.seek(0)
    try:
        with soundfile.SoundFile(raw) as file:
            file.seek(file.frames - 1)
            found = len(file.read(1))
    except UNDECODABLE:
        found = 0
    if not found:
        raise AudioError("cut off: its last sample is missing")
    raw.seek(max(1, raw.tell() - AHEAD))
    if STREAM.search(raw.read()):
        raise AudioError(JOINED)


def cut_off(size: int, promised: int) -> str:
    return f"cut off: it has {size} bytes, its header promises {promised}" if promised > size else ""


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


# --- lengths that libsndfile does not check

def is_mp3(head: bytes) -> bool:
    return head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2)  # MPEG layer III


def has_no_size(head: bytes) -> bool:
    """Whether the samples' chunk of a WAV or CAF file has the size that a program writes to a pipe."""
    if head[:4] == b"caff":
        return b"data" + b"\xff" * 8 in head
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE" and b"data" + bytes(4) in head


def mp3_states_its_length(raw: IO[bytes], size: int) -> bool:
    """Whether an MP3 file is one stream with a Xing or Info header that counts its bytes.

    Without one libsndfile estimates the length; with one it stops there, even if another file was appended.
    Raises: AudioError: it is cut off.
    """
    raw.seek(0)
    head = raw.read(10)
    start = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0))) if head[:3] == b"ID3" else 0
    raw.seek(start)
    frame = raw.read(HEAD)
    at = max(frame.find(b"Xing", 0, 44), frame.find(b"Info", 0, 44))
    if at < 0 or at + 16 > len(frame):
        return False
    flags = struct.unpack_from(">I", frame, at + 4)[0]
    if flags & 3 != 3:  # frames and bytes
        return False
    end = start + struct.unpack_from(">I", frame, at + 12)[0]
    if why := cut_off(size, end):
        raise AudioError(why)
    raw.seek(end)
    return end == size or raw.read(8)[:3] in (b"TAG", b"APE", b"LYR")


OGG_PAGE = struct.Struct("<4sBBqI8xB")  # magic, version, type, position, stream, number of segment lengths that follow


def ogg_is_one_stream(raw: IO[bytes], size: int, head: bytes) -> bool:
    """Whether the last page is of the same stream as the first.   Raises: AudioError: the last page ends no stream."""
    raw.seek(max(0, size - (1 << 17)))  # a page has at most 64 KiB
    tail = raw.read(1 << 17)
    last = tail.rfind(b"OggS")
    if last < 0 or last + OGG_PAGE.size > len(tail):
        raise AudioError("cut off: its last Ogg page is missing")
    _, _, kind, _, stream, num = OGG_PAGE.unpack_from(tail, last)
    body = last + OGG_PAGE.size
    if body + num + sum(tail[body: body + num]) > len(tail):
        raise AudioError("cut off: its last Ogg page is incomplete")
    if not kind & 4:
        raise AudioError("cut off: its last Ogg page is not the last of its stream")
    return stream == OGG_PAGE.unpack_from(head)[4]


def stated_end(raw: IO[bytes], head: bytes, size: int) -> int:
    """Bytes of the whole file by its header, where the header of a file that was appended would begin; 0 if unknown."""
    kind = head[:4]
    if kind in (b"RIFF", b"RIFX", b"FORM"):
        return 8 + int.from_bytes(head[4:8], "little" if kind == b"RIFF" else "big")
    if kind == b"RF64":
        return 8 + int.from_bytes(head[20:28], "little")
    if kind == b"riff":  # W64
        return int.from_bytes(head[16:24], "little")
    if kind in (b".snd", b"dns."):  # AU
        return sum(struct.unpack_from(">2I" if kind == b".snd" else "<2I", head.ljust(12, b"\0"), 4))
    if kind == b"caff":
        return caf_size(raw, size)
    return nist_size(head) if kind == b"NIST" else voc_size(raw) if head[:14] == b"Creative Voice" else 0


def caf_size(raw: IO[bytes], size: int) -> int:
    """Bytes of a CAF file: the end of its last chunk."""
    at = 8
    while at < size:
        raw.seek(at)
        chunk = raw.read(12)
        if chunk[:4] == b"caff":
            return at
        at += 12 + int.from_bytes(chunk[4:], "big")
    return at


def nist_size(head: bytes) -> int:
    """Bytes of a SPHERE file by its header; 0 if the header does not state all sizes or the samples are compressed."""
    fields = dict(re.findall(rb"^(\w+) -\w+ (\d+)", head, re.MULTILINE))
    sizes = [int(fields.get(name, b"0")) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    length = re.match(rb"NIST_1A\n\s*(\d+)", head)
    return 0 if b"shorten" in head or not length or not all(sizes) else int(length[1]) + math.prod(sizes)


def voc_size(raw: IO[bytes]) -> int:
    """Bytes of a VOC file: the end of its last block."""
    raw.seek(20)
    at = int.from_bytes(raw.read(2), "little")
    while True:
        raw.seek(at)
        block = raw.read(4)
        if len(block) < 1 or block[0] == 0:
            return at
        at += 4 + int.from_bytes(block[1:4], "little")


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
