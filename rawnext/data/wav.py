# SPDX-License-Identifier: Apache-2.0
"""Whole utterances of a Kaldi data directory (`wav.scp`, and `segments` where there is one)."""

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.tables import InputError, PathLike, check_id, check_sorted, read_lines, read_table

log = logging.getLogger(__name__)


class Source(NamedTuple):
    """Where an utterance lies. end_s below 0 is the end of the file; table, line: who said so."""

    utt: str
    path: str
    start_s: float
    end_s: float
    table: str
    line: int


def read_sources(data_dir: PathLike) -> list[Source]:
    """All utterances of a data directory.

    Raises: InputError: a damaged or unsorted table, a command in wav.scp, a segment of an unknown recording.
    """
    scp = Path(data_dir) / "wav.scp"
    wavs = read_table(scp)
    check_sorted(scp, wavs)
    for line, (key, path) in enumerate(wavs.items(), 1):
        check_id(key, scp, line)
        if path.endswith("|"):
            raise InputError(scp, line, f"{key} is a command; write its output to a file first")
        if path.startswith("~"):
            raise InputError(scp, line, f"{key}: write {path} without '~', as Kaldi wants")
    segments = Path(data_dir) / "segments"
    if not segments.exists():
        return [Source(key, path, 0.0, -1.0, str(scp), line) for line, (key, path) in enumerate(wavs.items(), 1)]
    sources = list(read_segments(segments, wavs))
    check_sorted(segments, (source.utt for source in sources))
    return sources


def read_segments(path: Path, wavs: dict[str, str]) -> Iterator[Source]:
    """`<utt> <recording> <start> <end>`; an end of -1 is the end of the recording."""
    seen: set[str] = set()
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 4:
            raise InputError(path, number, f"expected 4 columns, got {len(columns)}")
        utt, recording = check_id(columns[0], path, number), columns[1]
        if utt in seen:
            raise InputError(path, number, f"{utt} stands twice")
        seen.add(utt)
        if recording not in wavs:
            raise InputError(path, number, f"recording {recording} is not in wav.scp")
        try:
            start, end = float(columns[2]), float(columns[3])
        except ValueError:
            raise InputError(path, number, f"not seconds: {columns[2]} {columns[3]}") from None
        if not (0 <= start < math.inf and (end == -1 or start < end < math.inf)):
            raise InputError(path, number, f"want 0 <= start < end, got {start:g} {end:g}")
        yield Source(utt, wavs[recording], start, end, str(path), number)


def check_sources(sources: Iterable[Source], least_samples: int) -> None:
    """Look at every file's header before any work starts.

    Raises: InputError: missing, undecodable or empty audio, or less than least_samples (at 16 kHz) of it.
    """
    odd_rate = odd_channels = 0
    for source in sources:
        if not Path(source.path).is_file():
            raise InputError(source.table, source.line, f"{source.utt}: no such file {source.path}")
        try:
            info = soundfile.info(source.path)
        except (soundfile.LibsndfileError, OSError) as error:
            raise InputError(source.table, source.line, f"{source.utt}: {one_line(error)}") from None
        end_s = info.duration if source.end_s < 0 else source.end_s
        if end_s > info.duration + 0.5 / info.samplerate:
            raise InputError(source.table, source.line,
                             f"{source.utt} ends at {end_s:g} s, its recording at {info.duration:g} s")
        if (end_s - source.start_s) * SAMPLE_RATE < least_samples - 0.5:
            raise InputError(source.table, source.line, f"{source.utt}: {end_s - source.start_s:.3f} s of audio in "
                                                        f"{source.path}; at least {least_samples / SAMPLE_RATE} s")
        odd_rate += info.samplerate != SAMPLE_RATE
        odd_channels += info.channels != 1
    if odd_rate:
        log.warning("%d utterances are not sampled at %d Hz: they are resampled", odd_rate, SAMPLE_RATE)
    if odd_channels:
        log.warning("%d utterances have several channels: the first is taken", odd_channels)


def load_wave(source: Source) -> np.ndarray:
    """An utterance as (T,) float32 at 16 kHz, first channel.

    Raises: InputError: it cannot be decoded, or holds NaN or infinity.
    """
    try:
        with soundfile.SoundFile(source.path) as file:
            rate = file.samplerate
            start = round(source.start_s * rate)
            stop = file.frames if source.end_s < 0 else min(round(source.end_s * rate), file.frames)
            file.seek(start)
            wave = file.read(stop - start, dtype="float32", always_2d=True)[:, 0]
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise InputError(source.table, source.line, f"{source.utt}: {one_line(error)}") from None
    if len(wave) < stop - start:
        raise InputError(source.table, source.line, f"{source.utt}: {source.path} is cut off: {len(wave)} of "
                                                    f"{stop - start} samples")
    if not np.isfinite(wave).all():
        raise InputError(source.table, source.line, f"{source.utt}: {source.path} holds NaN or infinity")
    return np.ascontiguousarray(wave) if rate == SAMPLE_RATE else resample(wave, rate)


def resample(wave: np.ndarray, rate: int) -> np.ndarray:
    import torch
    from torchaudio.functional import resample as convert

    return convert(torch.from_numpy(np.ascontiguousarray(wave)), rate, SAMPLE_RATE).numpy()


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
