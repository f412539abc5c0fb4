# SPDX-License-Identifier: Apache-2.0
"""Lengths of the utterances of a data directory, without decoding their audio."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rawnext.data.audio import read_header
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.wav import Source, check_sources, span
from rawnext.files import PathLike
from rawnext.kaldi.tables import read_table, to_number


class Span(NamedTuple):
    """Position of an utterance in its recording, in samples of that recording."""

    start: int
    num_samples: int
    rate: int  # Hz

    @property
    def seconds(self) -> float:
        return self.num_samples / self.rate


def read_spans(data_dir: PathLike, sources: Sequence[Source]) -> list[Span]:
    """The spans of utterances from their files' headers, which are checked; for commands from segments or utt2dur.

    Raises: InputError: audio that check_sources refuses, or a command of unknown length.
    """
    check_sources(sources)
    path = Path(data_dir) / "utt2dur"
    utt2dur = read_table(path, one_word=True) if path.exists() else {}
    return [of_command(source, utt2dur.get(source.utt, "")) if source.is_pipe else of_file(source)
            for source in sources]


def of_file(source: Source) -> Span:
    header = read_header(source.path)
    start, stop = span(source, header.num_samples, header.rate)
    return Span(start, stop - start, header.rate)


def of_command(source: Source, duration: str) -> Span:
    """The span of a command's output; its rate is unknown, so positions are given at 16 kHz."""
    start = round(source.start_s * SAMPLE_RATE)
    if source.end_s >= 0:
        return Span(start, round(source.end_s * SAMPLE_RATE) - start, SAMPLE_RATE)
    if not 0 < (seconds := to_number(duration)) < float("inf"):
        raise source.fault("is a command: utt2dur must list its length")
    return Span(start, round(seconds * SAMPLE_RATE), SAMPLE_RATE)
