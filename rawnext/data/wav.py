# SPDX-License-Identifier: Apache-2.0
"""Whole utterances of a Kaldi data directory (`wav.scp`, and `segments` if present)."""

import logging
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.manifest import UNKNOWN_LENGTH, can_resample, promised_end, wav_end
from rawnext.data.pipes import output_of
from rawnext.errors import InputError
from rawnext.files import PathLike, read_lines
from rawnext.kaldi.tables import check_id, check_sorted, read_table, to_number

log = logging.getLogger(__name__)

LEAST_SAMPLES = 1600  # 0.1 s at 16 kHz, the shortest input of every model
AHEAD = 16  # utterances that each thread decodes ahead
BLOCK_SAMPLES = 1 << 20  # decoded at a time, over all channels
# libsndfile's errors, and soundfile's for a .raw file, which has no header with its rate
UNDECODABLE = (soundfile.LibsndfileError, OSError, RuntimeError, TypeError, ValueError)


class Source(NamedTuple):
    """Location of an utterance. end_s below 0: the end of the file; table, line: where it is listed."""

    utt: str
    path: str  # a file, or a command that ends in |
    start_s: float
    end_s: float
    table: str
    line: int | None

    @property
    def is_pipe(self) -> bool:
        return self.path.endswith("|")

    def limits(self, num_samples: int, rate: int) -> tuple[int, int]:
        """First sample of the utterance in its recording, and the sample after its last."""
        stop = num_samples if self.end_s < 0 else min(round(self.end_s * rate), num_samples)
        return round(self.start_s * rate), stop

    def fault(self, why: object) -> InputError:
        text = re.sub(r"<_io.BytesIO.*?>", "its command's output", " ".join(str(why).split()))
        if self.table == self.path:  # not listed in a table
            return InputError(self.path, None, text.removesuffix(f" {self.path}"))
        return InputError(self.table, self.line, f"{self.utt}: {text}")


def read_sources(data_dir: PathLike, allow_pipes: bool = False) -> list[Source]:
    """All utterances of a data directory.

    Args: allow_pipes: accept `command |` in wav.scp, which `load_wave` runs; for lists that the user trusts.
    Raises: InputError: a damaged or unsorted table, a command without allow_pipes, a segment of an unknown recording.
    """
    scp = Path(data_dir) / "wav.scp"
    wavs = read_table(scp)
    check_sorted(scp, wavs)
    for line, (key, path) in enumerate(wavs.items(), 1):
        if why := refusal(path, allow_pipes):
            raise InputError(scp, line, f"{key} {why}")
    segments = Path(data_dir) / "segments"
    if not segments.exists():
        return [Source(key, path, 0.0, -1.0, str(scp), line) for line, (key, path) in enumerate(wavs.items(), 1)]
    sources = list(read_segments(segments, wavs))
    if not sources:
        raise InputError(segments, None, "is empty")
    check_sorted(segments, (source.utt for source in sources))
    return sources


def refusal(path: str, allow_pipes: bool) -> str:
    """Why a path of wav.scp is refused; empty if it is accepted."""
    if path.endswith("|") and not allow_pipes:
        return "is a command; --allow-pipes runs it, if you trust the author of this list"
    if path.startswith("|") or path in ("-", "|"):
        return f"is {path[:60]!r}, not a file"
    if path.startswith("~"):
        return f"is {path}; write it without '~', as Kaldi requires"
    if re.search(r":[0-9]+$", path) and not Path(path).exists():
        return f"is {path}: audio inside an archive is not read; write it to files"
    return ""


def read_segments(path: Path, wavs: dict[str, str]) -> Iterator[Source]:
    """Lines `<utt> <recording> <start> <end>`; an end of -1 is the end of the recording."""
    seen: set[str] = set()
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 4:
            raise InputError(path, number, f"expected 4 columns, got {len(columns)}")
        utt, recording = check_id(columns[0], path, number), columns[1]
        if utt in seen:
            raise InputError(path, number, f"{utt} is listed twice")
        seen.add(utt)
        if recording not in wavs:
            raise InputError(path, number, f"recording {recording[:60]} is not in wav.scp")
        start, end = map(to_number, columns[2:])
        if not (0 <= start < math.inf and (end == -1 or start < end < math.inf)):
            raise InputError(path, number, f"want 0 <= start < end, got {columns[2][:30]} {columns[3][:30]}")
        yield Source(utt, wavs[recording], start, end, str(path), number)


def check_sources(sources: Iterable[Source]) -> None:
    """Check the header of every file before any work starts; a command's output is checked after it has run.

    Raises: InputError: audio is missing, undecodable, cut off, or shorter than 0.1 s.
    """
    odd_rate = odd_channels = num_pipes = 0
    for source in sources:
        if source.is_pipe:
            num_pipes += 1
            continue
        if not Path(source.path).is_file():
            raise source.fault(f"no such file {source.path}")
        try:
            with soundfile.SoundFile(source.path) as file:
                promised = wav_end(source.path) if file.format in ("WAV", "WAVEX") else 0
                check_span(source, file.frames, file.samplerate)
                odd_rate += file.samplerate != SAMPLE_RATE
                odd_channels += file.channels != 1
        except UNDECODABLE as error:
            raise source.fault(error) from None
        if promised > (size := Path(source.path).stat().st_size):
            raise source.fault(f"{source.path} is cut off: it has {size} bytes, its header promises {promised}")
    if odd_rate:
        log.warning("%d utterances are not sampled at %d Hz and are resampled", odd_rate, SAMPLE_RATE)
    if odd_channels:
        log.warning("%d utterances have several channels; the first is used", odd_channels)
    if num_pipes:
        log.warning("%d utterances come from commands; their audio is checked after each has run", num_pipes)


def check_span(source: Source, num_samples: int, rate: int) -> None:
    """Raise InputError unless a recording of num_samples (per channel, at its own rate) contains this utterance."""
    if not can_resample(rate):
        raise source.fault(f"{source.path}: {rate} Hz cannot be resampled to {SAMPLE_RATE} Hz")
    if num_samples > UNKNOWN_LENGTH:
        raise source.fault(f"{source.path}: its header does not state its length")
    duration = num_samples / rate
    end_s = duration if source.end_s < 0 else source.end_s
    if end_s > duration + 0.5 / rate:
        raise source.fault(f"ends at {end_s:g} s, after its recording ({duration:g} s)")
    if (end_s - source.start_s) * SAMPLE_RATE < LEAST_SAMPLES - 0.5:
        raise source.fault(f"{end_s - source.start_s:.3f} s of audio in {source.path}; at least "
                           f"{LEAST_SAMPLES / SAMPLE_RATE} s")


def load_wave(source: Source) -> np.ndarray:
    """An utterance as (T,) float32 at 16 kHz, first channel; see decode."""
    wave, rate = decode(source)
    return wave if rate == SAMPLE_RATE else resample(wave, rate)


def load_waves(sources: Sequence[Source], num_threads: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """(utt, waveform) of each source, in order, as from load_wave.

    Args: num_threads: decode ahead of the caller, who waits for a GPU (libsndfile needs no interpreter lock); 0: none.
        Commands are run by one thread, which runs one command for all segments of a recording.
    """
    if not num_threads:
        yield from ((source.utt, load_wave(source)) for source in sources)
        return
    if any(source.is_pipe for source in sources):
        num_threads = 1
    pool, ahead = ThreadPoolExecutor(num_threads), deque[tuple[str, Future]]()
    try:
        for source in sources:
            ahead.append((source.utt, pool.submit(load_wave, source)))
            if len(ahead) > AHEAD * num_threads:
                utt, wave = ahead.popleft()
                yield utt, wave.result()
        yield from ((utt, wave.result()) for utt, wave in ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def decode(source: Source) -> tuple[np.ndarray, int]:
    """An utterance as (T,) float32, first channel, and its rate in Hz.

    Raises: InputError: it cannot be decoded, or contains NaN or infinity; a command failed, or its output does not
        pass the checks of check_sources.
    """
    try:
        if source.is_pipe:
            recording, rate = decode_pipe(source.path)
            check_span(source, len(recording), rate)
            start, stop = source.limits(len(recording), rate)
            wave = recording[start:stop]
        else:
            with soundfile.SoundFile(source.path) as file:
                rate = file.samplerate
                start, stop = source.limits(file.frames, rate)
                wave = read_first_channel(file, start, stop)
    except UNDECODABLE as error:
        raise source.fault(error) from None
    if len(wave) < stop - start:
        raise source.fault(f"{source.path} is cut off: {len(wave)} of {stop - start} samples")
    if not np.isfinite(wave).all():
        raise source.fault(f"{source.path} contains NaN or infinity")
    return np.ascontiguousarray(wave), rate


@lru_cache(maxsize=1)  # segments of one recording are usually adjacent
def decode_pipe(command: str) -> tuple[np.ndarray, int]:
    """(T,) first channel of the output of a command (ending in |), and its rate in Hz."""
    words = ["bash", "-o", "pipefail", "-c", command.removesuffix("|")]  # if any part of its pipeline fails, it fails
    output = output_of(words, "its command", words[-1].strip())
    if (promised := promised_end(output)) > output.getbuffer().nbytes:
        raise OSError(f"its command's output is cut off: {output.getbuffer().nbytes} of {promised} bytes")
    output.seek(0)
    with soundfile.SoundFile(output) as file:
        if file.frames > UNKNOWN_LENGTH:
            raise OSError("the header in its command's output does not state its length; let it write wav")
        wave = read_first_channel(file, 0, file.frames)
        if len(wave) < file.frames:
            raise OSError(f"its command's output is cut off: {len(wave)} of {file.frames} samples")
        return wave, file.samplerate


def read_first_channel(file: soundfile.SoundFile, start: int, stop: int) -> np.ndarray:
    """Samples start...stop of the first channel, float32; fewer if the file ends earlier.

    Reads block by block: memory is allocated for samples that exist, not for those that a header promises.
    """
    file.seek(start)
    parts, block_size = [], max(1, BLOCK_SAMPLES // file.channels)
    while start < stop:
        block = file.read(min(block_size, stop - start), dtype="float32", always_2d=True)[:, 0]
        if len(block) == 0:
            break
        parts.append(block.copy())
        start += len(block)
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def resample(wave: np.ndarray, rate: int) -> np.ndarray:
    """(T,) samples at `rate` Hz -> (T',) at 16 kHz."""
    import torch
    from torchaudio.functional import resample as convert

    return convert(torch.from_numpy(np.ascontiguousarray(wave)), rate, SAMPLE_RATE).numpy()
