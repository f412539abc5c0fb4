# SPDX-License-Identifier: Apache-2.0
"""Lengths that the headers of audio files state: which files are cut off, joined, or have a header without a length.

libsndfile checks some of them only.
"""

import math
import os
import re
import struct
from typing import IO

import soundfile

from rawnext.data.archive import STREAMED, Member
from rawnext.errors import AudioError

HEAD = 512  # bytes within which the samples of most WAV files begin
UNKNOWN_LENGTH = 1 << 40  # libsndfile reports more samples than this if the header has no length
# Formats of libsndfile in which a file that is cut off is noticed
FORMATS = {"WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST", "VOC"}
# What libsndfile's log says of a chunk that is longer than the file. The whole of a RIFF file (RIFF, FORM) does not
# count: its size is often wrong, and the chunk with the samples has one of its own.
SIZES = re.compile(r"^\s*(?:data|SSND|riff|Riff size|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
JOINED = "two files joined into one; join their samples, for example with sox"
AHEAD = 1 << 17  # bytes; a decoder does not read further ahead
# The start of a FLAC stream; a page of Ogg that starts a stream, after one that does not
STREAM = re.compile(rb"fLaC[\0\x80]\0\0\x22|OggS\0[\0\1\4\5].*OggS\0[\2\3\6\7]", re.DOTALL)
OGG_PAGE = struct.Struct("<4sBBqI8xB")  # magic, version, type, position, stream, number of segment lengths that follow
# libsndfile's errors, and soundfile's for a .raw file, which has no header with its rate
UNDECODABLE = (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError)


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
    # libsndfile estimates the length of MP3 after other bytes, and takes that of MP3 in WAV from a rounded number
    is_estimate = file.subtype.startswith("MPEG") and not is_mp3(head)
    if why or is_estimate or file.frames > UNKNOWN_LENGTH:
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
