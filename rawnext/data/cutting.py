# SPDX-License-Identifier: Apache-2.0
"""A Kaldi data directory with utterances cut to a duration, as `segments` of the same recordings.

Utterances keep their ids, so trial lists stay valid. No audio is decoded, unless it is repeated.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from rawnext.data.audio import read_header, read_samples
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.wav import Source, channel_of, check_sources, limits
from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path, write_lines
from rawnext.kaldi.tables import read_conditions, read_table, write_conditions, write_speakers
from rawnext.kaldi.words import to_number

POLICIES = ("centre", "start", "random")
SHORT = ("keep", "tile", "drop")


class Span(NamedTuple):
    """Position of an utterance in its recording, in samples of that recording.   channel: -1: the only one."""

    start: int
    num_samples: int
    rate: int  # Hz
    channel: int = -1

    @property
    def seconds(self) -> float:
        return self.num_samples / self.rate


def read_spans(data_dir: PathLike, sources: Sequence[Source]) -> list[Span]:
    """The spans of utterances from their files' headers, which are checked; for commands from segments or utt2dur.

    Raises: InputError: audio that check_sources refuses, or a command of unknown length.
    """
    check_sources(sources)
    utt2dur = read_table(Path(data_dir) / "utt2dur", one_word=True, optional=True)
    return [span_of_command(source, utt2dur.get(source.utt, "")) if source.is_pipe else span_of_file(source)
            for source in sources]


def span_of_file(source: Source) -> Span:
    header = read_header(source.path)
    start, stop = limits(source, header.num_samples, header.rate)
    return Span(start, stop - start, header.rate, channel_of(source, header.channels) if header.channels > 1 else -1)


def span_of_command(source: Source, duration: str) -> Span:
    """The span of a command's output; its rate is unknown, so positions are given at 16 kHz."""
    start = round(source.start_s * SAMPLE_RATE)
    if source.end_s >= 0:
        return Span(start, round(source.end_s * SAMPLE_RATE) - start, SAMPLE_RATE, source.channel)
    if not 0 < (seconds := to_number(duration)) < float("inf"):
        raise source.fault("is a command: utt2dur must list its length")
    return Span(start, round(seconds * SAMPLE_RATE), SAMPLE_RATE, source.channel)


class Cut(NamedTuple):
    """How to cut utterances. seconds 0: not at all."""

    seconds: float
    policy: str
    short: str  # what to do with a shorter utterance
    seed: int

    def num_samples(self, span: Span) -> int:
        return round(self.seconds * span.rate) if self.seconds else span.num_samples

    def is_shorter(self, span: Span) -> bool:
        return span.num_samples < self.num_samples(span)

    def of(self, utt: str, span: Span) -> Span:
        """The part of an utterance that is kept; all of it if it is shorter.

        centre cuts as extraction does with --duration. random draws a position from (seed, utt), the same for all
        durations.
        """
        num = min(self.num_samples(span), span.num_samples)
        spare = span.num_samples - num
        start = {"centre": span.num_samples // 2 - num // 2, "start": 0,
                 "random": int(random.Random(f"{self.seed} {utt}").random() * (spare + 1))}[self.policy]
        return Span(span.start + start, num, span.rate)


def spread(span: Span, num: int, seconds: float) -> list[Span]:
    """Up to num segments (2 or more) of these seconds at equal distances, from an utterance's beginning to its end.

    Of a shorter utterance, and of one that is as long: one segment, all of it.
    """
    size = min(round(seconds * span.rate), span.num_samples)
    starts = {(span.num_samples - size) * i // (num - 1) for i in range(num)}
    return [span._replace(start=span.start + start, num_samples=size) for start in sorted(starts)]


class Tables(NamedTuple):
    """Tables of the original directory; keys are utts, those of wav recordings."""

    speaker: dict[str, str]
    recording: dict[str, str]
    wav: dict[str, str]
    gender: dict[str, str]  # keys are speakers; may be empty
    conditions: dict[str, dict[str, str]]  # other tables utt2X and spk2X


def read_tables(data_dir: Path) -> Tables:
    """Read the tables of a data directory.   Raises: InputError: one is missing or damaged."""
    speaker, wav = read_table(data_dir / "utt2spk", one_word=True), read_table(data_dir / "wav.scp")
    segments = read_table(data_dir / "segments", optional=True)
    recording = {utt: place.split()[0] for utt, place in segments.items()} or {utt: utt for utt in wav}
    if lacking := next((utt for utt in recording if utt not in speaker), None):
        raise InputError(data_dir / "utt2spk", None, f"{lacking} is missing")
    gender = read_table(data_dir / "spk2gender", one_word=True, optional=True)
    return Tables(speaker, recording, wav, gender, read_conditions(data_dir))


def write_cut_dir(out: Path, tables: Tables, sources: Sequence[Source], spans: Sequence[Span], cut: Cut) -> int:
    """Write wav.scp, segments, utt2spk, spk2utt, utt2dur, spk2gender and other tables utt2X and spk2X of the cut
    utterances; with cut.short "tile" also the audio of shorter utterances, repeated to the duration of the cut.

    Returns: the number of utterances that are shorter than the cut.
    """
    wav, segments, durations, num_short = {}, [], [], 0
    for source, span in zip(sources, spans):
        part, recording = cut.of(source.utt, span), tables.recording[source.utt]
        place = tables.wav[recording]
        if cut.is_shorter(span):
            num_short += 1
            if cut.short == "tile":
                recording, part = f"{source.utt}-tiled", Span(0, cut.num_samples(span), span.rate)
                place = str(write_tiled(out / "audio" / f"{source.utt}.wav", source, span, part.num_samples).resolve())
        wav[recording] = place
        channel = f" {span.channel}" if span.channel >= 0 and place == tables.wav[tables.recording[source.utt]] else ""
        segments.append(f"{source.utt} {recording} {as_text(part.start, part.rate)} "
                        f"{as_text(part.start + part.num_samples, part.rate)}{channel}")
        durations.append(f"{source.utt} {as_text(part.num_samples, part.rate)}")
    speaker = {source.utt: tables.speaker[source.utt] for source in sources}
    write_lines(out / "segments", segments)
    write_lines(out / "utt2dur", durations)
    write_lines(out / "wav.scp", (f"{key} {wav[key]}" for key in sorted(wav, key=str.encode)))
    write_speakers(out, speaker)
    if tables.gender:
        kept = set(speaker.values())
        write_lines(out / "spk2gender", (f"{spk} {g}" for spk, g in tables.gender.items() if spk in kept))
    write_conditions(out, tables.conditions, speaker)
    return num_short


def as_text(num_samples: int, rate: int) -> str:
    """Seconds, exact at 16 kHz and to a few thousandths of a sample at other rates."""
    return f"{num_samples / rate:.7f}"


def write_tiled(path: Path, source: Source, span: Span, num_samples: int) -> Path:
    """Write an utterance, repeated, as 16-bit samples, which is lossless for 16-bit audio.

    Raises: InputError: the audio is a command's output.
    """
    if source.is_pipe:
        raise source.fault("is a command and cannot be repeated; write its output to a file")
    wave = read_samples(source.path, span.start, span.start + span.num_samples, max(0, span.channel)).wave
    with atomic_path(path) as temporary:
        samples = np.clip(np.rint(np.resize(wave, num_samples) * 32768), -32768, 32767).astype(np.int16)
        soundfile.write(temporary, samples, span.rate, "PCM_16", format="WAV")
    return path


def name_of(seconds: float) -> str:
    """Directory name of a cut: full, 0.5s, 2s."""
    return f"{seconds:g}s" if seconds else "full"


def seconds_of(words: str) -> list[float]:
    """`1 0.5 full` as seconds, sorted and unique; full is 0, always included, and last.

    Raises: ValueError: a word is neither full nor at least 0.1.
    """
    found = {float(word) for word in words.split() if word != "full"}
    if any(not 0.1 <= seconds < float("inf") for seconds in found):
        raise ValueError(f"want seconds of at least 0.1, or full, got {words!r}")
    return [*sorted(found), 0.0]
