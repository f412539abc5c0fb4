# SPDX-License-Identifier: Apache-2.0
"""`rawnext embed`: embeddings of files, of whole recordings or of sliding windows."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rawnext.cli.options import add_audio, add_command, ark_scp, load_extractor
from rawnext.cli.output import print_json
from rawnext.errors import InputError, as_input_error
from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import read_table, write_speakers

if TYPE_CHECKING:
    from rawnext.data.wav import Source
    from rawnext.inference.extractor import Extractor

DESCRIPTION = """Embed audio files; output in Kaldi's formats.

rawnext embed -m exp/rawnext a.wav b.m4a -o emb.ark,emb.scp
rawnext embed -m exp/rawnext recordings/ > emb.txt                  # all audio files in it; text output
find recordings -name '*.flac' | rawnext embed -m exp/rawnext - --json
rawnext embed -m exp/rawnext --window 1.5 --shift 0.75 meeting.wav -o xvec/xvector.ark,xvec/xvector.scp

The id of an utterance is its file name without the ending; in a folder, the relative path with - for /. With --window,
ids end in start and end times in hundredths of a second, and the folder of SCP also gets segments, utt2spk, spk2utt
(each recording is a speaker) and wav.scp, as Kaldi's diarization reads them."""


class Row(NamedTuple):
    """An embedding of a recording or of a window in it.   start, end: seconds.   vector: (D,)."""

    key: str
    utt: str
    start: float
    end: float
    vector: np.ndarray


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = add_command(commands, "embed", run, "embed files", DESCRIPTION)
    parser.add_argument("inputs", nargs="*", metavar="AUDIO", help="files or folders; -: a list on standard input")
    parser.add_argument("-l", "--list", action="append", default=[], metavar="LIST",
                        help="file with lines `path` or `utt path`, as in wav.scp")
    parser.add_argument("-o", "--output", type=ark_scp, metavar="ARK,SCP",
                        help="output files (default: text on standard output)")
    parser.add_argument("--window", type=float, metavar="SECONDS", help="embed windows of this length")
    parser.add_argument("--shift", type=float, metavar="SECONDS", help="shift between windows (default: half a window)")
    add_audio(parser)


def run(args: argparse.Namespace) -> None:
    from rawnext.cli.inputs import gather
    from rawnext.data.wav import check_sources

    sources = gather(args.inputs, args.list, args.channel)
    if not sources:
        raise InputError("rawnext embed", None, "no input: name files, folders or a list")
    check_window(args)
    if args.window and args.output:
        check_folder(args.output[1].parent, sources)
    check_sources(sources)
    rows = embed(load_extractor(args), sources, args)
    if args.output:
        print_written(write(rows, args, sources), args)
    else:
        for row in rows:
            print_row(row, args)


def check_window(args: argparse.Namespace) -> None:
    """Raise InputError for an impossible window or shift; set the default shift."""
    if args.shift is not None and args.window is None:
        raise InputError("--shift", None, "needs --window")
    if args.window is None:
        return
    if args.vad:
        raise InputError("--vad", None, "is for whole recordings; rawnext diarize embeds windows of the speech")
    from rawnext.inference.extractor import window_starts

    args.shift = args.window / 2 if args.shift is None else args.shift
    with as_input_error("--window and --shift", (ValueError, OverflowError)):  # OverflowError: infinity
        window_starts(1, args.window, args.shift)


def recordings(sources: Iterable["Source"]) -> dict[str, str]:
    """The wav.scp of the sources: id -> path."""
    return {source.utt: str(Path(source.path).resolve()) for source in sources}


def check_folder(folder: Path, sources: Iterable["Source"]) -> None:
    """Raise InputError if the tables of windows would overwrite a data directory of other recordings."""
    path = folder / "wav.scp"
    if path.exists() and read_table(path) != recordings(sources):
        raise InputError(path, None, "lists other recordings; write windows to a folder of their own")


def embed(extractor: "Extractor", sources: list["Source"], args: argparse.Namespace) -> Iterator[Row]:
    from rawnext.cli.inputs import read_each

    seconds: dict[str, float] = {}
    waves = read_each(sources, seconds)
    if args.window is None:
        for utt, vector in extractor.embed_each(waves):
            yield Row(utt, utt, 0.0, seconds[utt], vector)
        return
    for utt, wave, rate in waves:
        times, vectors = extractor.windows(wave, rate, args.window, args.shift)
        for (start, end), vector in zip(times.tolist(), vectors):
            yield Row(f"{utt}-{hundredths(start)}-{hundredths(end)}", utt, start, end, vector)


def hundredths(seconds: float) -> str:
    return f"{int(100 * seconds + 0.5):07d}"  # rounds half up, so ids of windows 0.01 s apart differ


def write(rows: Iterable[Row], args: argparse.Namespace, sources: Iterable["Source"]) -> list[Row]:
    """Write the ark and scp, and the tables of windows; return the rows."""
    ark, scp = args.output
    written: list[Row] = []

    def vectors() -> Iterator[tuple[str, np.ndarray]]:
        for row in rows:
            written.append(row)
            yield row.key, row.vector

    write_vectors(ark, scp, vectors())
    if args.window is not None:
        write_tables(scp.parent, written, recordings(sources))
    return written


def write_tables(folder: Path, rows: Iterable[Row], wavs: dict[str, str]) -> None:
    """Write wav.scp, segments, utt2spk and spk2utt of windows; each recording is a speaker."""
    rows = sorted(rows, key=lambda row: row.key.encode())
    write_lines(folder / "wav.scp", (f"{utt} {path}" for utt, path in wavs.items()))
    write_speakers(folder, {row.key: row.utt for row in rows})
    write_lines(folder / "segments", (f"{row.key} {row.utt} {row.start:.5f} {row.end:.5f}" for row in rows))


def print_written(rows: list[Row], args: argparse.Namespace) -> None:
    if args.json:
        for row in rows:
            print_json(**as_json(row))
    else:
        print(f"rawnext: {len(rows)} embeddings of {len(rows[0].vector)} dimensions in {args.output[0]}",
              file=sys.stderr)


def print_row(row: Row, args: argparse.Namespace) -> None:
    if args.json:
        print_json(**as_json(row), embedding=[float(f"{x:.6g}") for x in row.vector.tolist()])
    else:
        print(f"{row.key}  [ {' '.join(f'{x:.6g}' for x in row.vector.tolist())} ]")


def as_json(row: Row) -> dict[str, str | float]:
    return {"id": row.key, "recording": row.utt, "start": round(row.start, 5), "end": round(row.end, 5)}
