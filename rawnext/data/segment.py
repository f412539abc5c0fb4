# SPDX-License-Identifier: Apache-2.0
"""Segments of recordings; only the requested samples of a file are read."""

import math
import struct

import numpy as np
import soundfile

from rawnext.data.cuts import SAMPLE_RATE, Cut, tile

HEAD = 512  # bytes within which the samples of most WAV files begin
PCM_16 = (1, SAMPLE_RATE, 16)  # format, rate and bits of files that are read without a decoder


class AudioFault(Exception):
    """Audio that is in the manifest and cannot be read from disk."""


def read_segment(cut: Cut, start: int, num_samples: int) -> np.ndarray:
    """Samples start...start + num_samples of a cut, float32; a cut that ends earlier is repeated from `start`.

    Raises: AudioFault: the audio cannot be decoded or is not finite.
    """
    num_read = min(num_samples, cut.num_samples - start)
    if num_read < 1:
        raise AudioFault(f"{cut.utt}: no samples from sample {start} on")
    try:
        wave = load(cut, start, num_read)
    except Exception as error:  # decoders and lhotse raise many types; the reason is reported
        why = " ".join(str(error).split())[:200]
        raise AudioFault(f"{cut.utt}: {type(error).__name__}: {why}") from error
    if len(wave) < num_read:
        raise AudioFault(f"{cut.utt}: {len(wave)} samples instead of {num_read}")
    if not np.isfinite(wave).all():
        raise AudioFault(f"{cut.utt}: contains NaN or infinity")
    return tile(wave, num_samples)


def load(cut: Cut, start: int, num: int) -> np.ndarray:
    """`num` samples from `start` on; fewer if the file ends earlier."""
    if cut.lhotse is not None:
        part = cut.lhotse.truncate(offset=start / SAMPLE_RATE, duration=num / SAMPLE_RATE, preserve_id=True)
        return part.load_audio()[0][:num]
    first = math.floor(cut.start_s * SAMPLE_RATE + start + 0.5)
    wave = read_pcm(cut.path, cut.row, first, num)
    return decode(cut.path, cut.row, first, num) if wave is None else wave


def read_pcm(path: str, row: int, first: int, num: int) -> np.ndarray | None:
    """Samples of a 16-bit WAV file at 16 kHz, the format of VoxCeleb1, MUSAN and RIRS_NOISES; None for other files.

    Takes a tenth of a decoder's time, that of a copy out of the page cache. All data workers share the page cache, so
    keeping the noises in memory would gain nothing.
    """
    with open(path, "rb", buffering=0) as file:
        head = file.read(HEAD)
        if (found := find_pcm(head)) is None:
            return None
        channels, offset, size = found
        num = min(num, size // (2 * channels) - first)
        samples = np.empty((max(num, 0), channels), "<i2")
        file.seek(offset + 2 * channels * first)
        got = file.readinto(samples.data) // (2 * channels)
    return np.multiply(samples[:got, row], np.float32(2**-15), dtype=np.float32)


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


def decode(path: str, row: int, first: int, num: int) -> np.ndarray:
    """Samples of any other audio file at 16 kHz."""
    with soundfile.SoundFile(path) as file:
        if file.samplerate != SAMPLE_RATE:
            raise ValueError(f"{file.samplerate} Hz instead of {SAMPLE_RATE} Hz")
        file.seek(first)
        return file.read(num, dtype="float32", always_2d=True)[:, row]
