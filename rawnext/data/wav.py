# SPDX-License-Identifier: Apache-2.0
"""Whole utterances of a Kaldi data directory (`wav.scp`, and `segments` if present)."""

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from rawnext.data.audio import can_resample, is_read_in_parts, read_16k, read_header, read_samples, resample
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.pipes import path_of, run_pipe
from rawnext.errors import AudioError, InputError
from rawnext.files import PathLike, atomic_path, read_lines
from rawnext.kaldi.tables import check_sorted, read_table
from rawnext.kaldi.words import check_id, refusal, to_number

log = logging.getLogger(__name__)

LEAST_SAMPLES = 1600  # 0.1 s at 16 kHz, the shortest input of every model
LEAST_S = LEAST_SAMPLES / SAMPLE_RATE
BLOCK_SAMPLES = 60 * SAMPLE_RATE  # of a recording that is read in parts
AHEAD = 16  # utterances that each thread decodes ahead
QUIETER_DB = 20  # a channel this far below the loudest one is probably not the one that was meant
SMALLEST = 2.0**-32  # half a step of 32-bit audio
LARGEST = 8.0  # sample value; floating-point samples are in [-1, 1], or somewhat above if they would clip
OVERSHOOT_S = 0.5  # of a segment that is cut to the end of its recording, as Kaldi's extract-segments does
FEWEST_VALUES = 5  # different sample values in speech, among EXAMINED samples; noise of one bit has two
EXAMINED = 100_000


class Source(NamedTuple):
    """Location of an utterance.

    end_s below 0: the end of the file.   table, line: where it is listed.   channel: counted from 0; -1:
    the only one.
    """

    utt: str
    path: str  # a file, or a command that ends in |
    start_s: float
    end_s: float
    table: str
    line: int | None
    channel: int = 0

    @property
    def is_pipe(self) -> bool:
        return self.path.endswith("|")

    def fault(self, why: object) -> InputError:
        """An error about the audio, which names its file and the line that lists it."""
        if self.table == self.path:  # not listed in a table
            return InputError(self.path, None, f"{why}")
        return InputError(self.table, self.line, f"{self.utt}: {'its command' if self.is_pipe else self.path}: {why}")


class TooShort(InputError):
    """An utterance has only these seconds."""

    def __init__(self, source: Source, seconds: float, more: str):
        fault = source.fault(f"{seconds:.3f} s of audio{more}")
        super().__init__(fault.path, fault.line, fault.why)
        self.source, self.seconds, self.more = source, seconds, more

    def __reduce__(self):
        return TooShort, (self.source, self.seconds, self.more)


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


def read_segments(path: Path, wavs: dict[str, str]) -> Iterator[Source]:
    """Lines `<utt> <recording> <start> <end> [<channel>]`; an end of -1 is the end of the recording."""
    seen: set[str] = set()
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) not in (4, 5):
            raise InputError(path, number, f"expected 4 columns, or 5 with a channel, got {len(columns)}")
        utt, recording = check_id(columns[0], path, number), columns[1]
        if utt in seen:
            raise InputError(path, number, f"{utt} is listed twice")
        seen.add(utt)
        if recording not in wavs:
            raise InputError(path, number, f"recording {recording[:60]} is not in wav.scp")
        start, end = map(to_number, columns[2:4])
        channel = columns[4] if len(columns) == 5 else "-1"
        if len(columns) == 5 and (not channel.isdecimal() or len(channel) > 3):
            raise InputError(path, number, f"want a channel of 0 or more, got {channel[:30]}")
        if not (0 <= start < math.inf and (end == -1 or start < end < math.inf)):
            raise InputError(path, number, f"want 0 <= start < end, got {columns[2][:30]} {columns[3][:30]}")
        yield Source(utt, wavs[recording], start, end, str(path), number, int(channel))


def check_sources(sources: Iterable[Source], least_samples: int = LEAST_SAMPLES) -> None:
    """Check the header of every file before any work starts; a command's output is checked after it has run.

    Raises: InputError: audio is missing, undecodable, cut off, or shorter than least_samples (at 16 kHz).
    """
    least_s = least_samples / SAMPLE_RATE
    refuse_short(find_short(sources, least_s), least_s)


def refuse_short(short: Sequence[tuple[Source, float]], least_s: float, advice: str = "") -> None:
    """Raise InputError if there are such utterances: about the first, with their number and the advice."""
    if short:
        number = f"; {len(short)} utterances are shorter" if len(short) > 1 else ""
        raise TooShort(*short[0], f"; at least {least_s} s{number}{advice}")


def known_seconds(source: Source, utt2dur: Mapping[str, str]) -> float:
    """The length of an utterance by segments or utt2dur; NaN: unknown."""
    if source.end_s >= 0:
        return source.end_s - source.start_s
    seconds = to_number(utt2dur.get(source.utt, ""))
    return seconds if seconds > 0 else math.nan  # Kaldi's get_utt2dur.sh subtracts the start from an end of -1


def is_short(seconds: float, least_s: float) -> bool:
    """Whether an utterance is shorter, by more than half a sample."""
    return seconds < least_s - 0.5 / SAMPLE_RATE


def share_of(sources: list[Source], job: int, num_jobs: int, folder: Path) -> list[Source]:
    """The share of job 1...num_jobs of the utterances of a data directory.

    Raises: InputError: it is empty, or there is no such job.
    """
    if not 1 <= job <= num_jobs:
        raise InputError("--job", None, f"want 1...{num_jobs}, got {job}")
    first, last = (len(sources) * j // num_jobs for j in (job - 1, job))
    if first == last:
        raise InputError(folder, None, f"has fewer utterances than the {num_jobs} jobs")
    return sources[first:last]


def find_short(sources: Iterable[Source], least_s: float = LEAST_S,
               utt2dur: Mapping[str, str] | None = None) -> list[tuple[Source, float]]:
    """Check the header of every file, and find the utterances shorter than least_s.

    Args: utt2dur: lengths of the output of commands.
    Returns: (source, seconds) of each of these.
    Raises: InputError: audio is missing, undecodable or cut off.
    """
    odd_rate = odd_channels = num_pipes = num_long = 0
    short = []
    for source in sources:
        if source.is_pipe:
            num_pipes += 1
            if is_short(seconds := known_seconds(source, utt2dur or {}), least_s):
                short.append((source, seconds))
            continue
        try:
            header = read_header(source.path)
        except AudioError as error:
            raise source.fault(error) from None
        start, stop = limits(source, header.num_samples, header.rate)
        if is_short(seconds := (stop - start) / header.rate, least_s):
            short.append((source, seconds))
        channel_of(source, header.channels)
        num_long += source.end_s > header.num_samples / header.rate + 0.5 / header.rate
        odd_rate += header.rate != SAMPLE_RATE
        odd_channels += header.channels != 1
    if odd_rate:
        log.warning("%d utterances are not sampled at %d Hz and are resampled", odd_rate, SAMPLE_RATE)
    if odd_channels:
        log.warning("%d utterances have several channels; the first is used, or that of segments", odd_channels)
    if num_long:
        log.warning("%d segments end up to %g s after their recordings and are cut to them", num_long, OVERSHOOT_S)
    if num_pipes:
        log.warning("%d utterances come from commands; their audio is checked after each has run", num_pipes)
    return short


def load_wave(source: Source, least_samples: int = LEAST_SAMPLES) -> np.ndarray:
    """An utterance as (T,) float32 at 16 kHz, first channel; see decode."""
    return resample(*decode(source, least_samples))


def load_blocks(source: Source, num: int = BLOCK_SAMPLES) -> Iterator[np.ndarray]:
    """The samples of load_wave in consecutive parts of `num` samples, of which only one is in memory.

    The output of a command, and a file in which nothing can be read without what is before it, are decoded at once.
    Raises: InputError: see decode, except that a part may have only zeros.
    """
    try:
        whole = source.is_pipe or not is_read_in_parts(source.path)
        header = None if whole else read_header(source.path)
    except AudioError as error:
        raise source.fault(error) from None
    if header is None:
        wave = load_wave(source)
        yield from (wave[start : start + num] for start in range(0, len(wave), num))
        return
    channel = channel_of(source, header.channels)
    begin, end = limits(source, header.num_samples, header.rate)
    total = -(-(end - begin) * SAMPLE_RATE // header.rate)
    if total < LEAST_SAMPLES:
        raise TooShort(source, total / SAMPLE_RATE, f"; at least {LEAST_S} s")
    for start in range(0, total, num):
        try:
            block = read_16k(source.path, start, min(num, total - start), channel, header.rate, begin, end)
        except (AudioError, OSError) as error:
            raise source.fault(error) from None
        if not np.isfinite(block).all() or max(block.max(), -block.min()) > LARGEST:
            raise source.fault(no_speech(block))
        yield block


def load_waves(sources: Sequence[Source], num_threads: int = 0,
               least_samples: int = LEAST_SAMPLES) -> Iterator[tuple[str, np.ndarray]]:
    """(utt, waveform) of each source, in order, as from load_wave.

    Args: num_threads: decode ahead of the caller, who waits for a GPU (libsndfile needs no interpreter lock); 0: none.
        Commands are run by one thread, which runs one command for all segments of a recording.
    """
    if not num_threads:
        yield from ((source.utt, load_wave(source, least_samples)) for source in sources)
        return
    if any(source.is_pipe for source in sources):
        num_threads = 1
    pool, ahead = ThreadPoolExecutor(num_threads), deque[tuple[str, Future]]()
    try:
        for source in sources:
            ahead.append((source.utt, pool.submit(load_wave, source, least_samples)))
            if len(ahead) > AHEAD * num_threads:
                utt, wave = ahead.popleft()
                yield utt, wave.result()
        yield from ((utt, wave.result()) for utt, wave in ahead)
    finally:
        pool.shutdown(cancel_futures=True)


def decode(source: Source, least_samples: int = LEAST_SAMPLES, longest_s: float = math.inf,
           doubts: list[str] | None = None) -> tuple[np.ndarray, int]:
    """An utterance as (T,) float32, and its rate in Hz.

    Args: longest_s: limit for the whole file.   doubts: takes a warning about the channel; None: it is logged.
    Raises: InputError: a command failed; the audio cannot be decoded, is cut off or too short (TooShort), or cannot be
        speech (no_speech).
    """
    try:
        path = path_of(pipe_output(source.path)) if source.is_pipe else source.path
        if source.start_s == 0 and source.end_s < 0 and source.channel >= 0:
            start, stop, channel = 0, None, source.channel
        else:
            header = read_header(path)
            start, stop = limits(source, header.num_samples, header.rate)
            channel = channel_of(source, header.channels)
        wave, rate, quieter_db, loudest = read_samples(path, start, stop, channel, longest_s)
    except (AudioError, OSError) as error:
        raise source.fault(error) from None
    num = len(wave) if stop is None else min(len(wave), stop - start)
    if is_short(num / rate, least_samples / SAMPLE_RATE):
        raise TooShort(source, num / rate, f"; at least {least_samples / SAMPLE_RATE} s")
    if not can_resample(rate):
        raise source.fault(f"{rate} Hz cannot be resampled to {SAMPLE_RATE} Hz")
    if why := no_speech(wave):
        raise source.fault(why)
    if quieter_db > QUIETER_DB:
        doubt = (f"channel {channel}, which is used, is {quieter_db:.0f} dB below the loudest one, "
                 f"channel {loudest}")
        if doubts is None:
            log.warning("%s: %s", source.path, doubt)
        else:
            doubts.append(f"{doubt[0].upper()}{doubt[1:]}.")
    return np.ascontiguousarray(wave), rate


def file_of(command: str, path: Path) -> Path:
    """Write the output of a command (ending in |) to a FLAC file, at its rate and with all its channels."""
    import soundfile

    output = path_of(pipe_output(command))
    header = read_header(output)
    waves = [read_samples(output, channel=channel).wave for channel in range(header.channels)]
    with atomic_path(path) as temporary:
        soundfile.write(temporary, np.stack(waves, 1), header.rate, format="FLAC")
    return path


def limits(source: Source, num_samples: int, rate: int) -> tuple[int, int]:
    """First sample of an utterance in its recording, and the sample after its last, which may be the same.

    Args: num_samples, rate: of the recording.
    Raises: InputError: the utterance ends over 0.5 s after its recording.
    """
    duration = num_samples / rate
    end_s = duration if source.end_s < 0 else source.end_s
    if end_s > duration + OVERSHOOT_S:
        raise source.fault(f"ends at {end_s:g} s, after its recording ({duration:g} s)")
    start = round(source.start_s * rate)
    return start, max(start, min(round(end_s * rate), num_samples))


def channel_of(source: Source, channels: int) -> int:
    """The channel of an utterance in a recording that has `channels`.

    Raises: InputError: it has no such channel; or several, and segments does not state which, as after Kaldi's
        fix_data_dir.sh or subset_data_dir.sh. Kaldi's extract-segments refuses such segments too.
    """
    if source.channel >= channels:
        raise source.fault(f"has no channel {source.channel}; channels are counted from 0, and it has {channels}")
    if source.channel < 0 and channels > 1:
        raise source.fault(f"has {channels} channels; add which one to segments, as a fifth column, counted from 0 "
                           "(Kaldi's data directory scripts drop it)")
    return max(0, source.channel)


def no_speech(wave: np.ndarray) -> str:
    """Why (T,) samples cannot be speech; empty if they can."""
    if not np.isfinite(wave).all():
        return "contains NaN or infinity"
    if not wave.any():
        return "has only zeros"
    if (largest := max(wave.max(), -wave.min())) < SMALLEST:
        return "has only zeros, or samples that round to them in 32 bits"
    if largest > LARGEST:
        return f"has samples up to {largest:.0f}; they must be in [-1, 1], not on the scale of integers"
    if (num := len(np.unique(wave[:: 1 + len(wave) // EXAMINED]))) < FEWEST_VALUES:
        return f"has only {num} different value{'s' if num > 1 else ''}: no speech"
    return ""


@lru_cache(maxsize=1)  # segments of one recording are usually adjacent
def pipe_output(command: str) -> IO[bytes]:
    """The output of a command (ending in |) as a file in memory."""
    return run_pipe(command.removesuffix("|"))
