#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cut each utterance of a Kaldi data directory into evenly spaced segments, which are scored in pairs.

steps/segment_data_dir.py --segments 10 --seconds 4 data/vox1_test data/vox1_10x4s

Writes a data directory whose utterances are the segments, UTT-0000, UTT-0001, ..., with `segments` into the same
recordings, and utt_segments (`utt segment segment ...`), for steps/score.py --segments. The first segment begins with
its utterance and the last ends with it. An utterance that is not longer than a segment has one, all of it.
"""

from pathlib import Path

from rawnext.data.cutting import Cut, read_spans, read_tables, spread, write_cut_dir
from rawnext.data.wav import read_sources
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import write_lines

WHOLE = Cut(0, "centre", "keep", 0)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=10, metavar="N",
                        help="segments of an utterance, which may overlap, 2 or more (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S",
                        help="length of a segment, at least 0.1 (default %(default)s)")
    parser.add_argument("--allow-pipes", action="store_true", help="accept commands `... |` in wav.scp")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    if not 2 <= args.segments < 10000:
        parser.error("--segments: 2...9999")
    if not 0.1 <= args.seconds < float("inf"):
        parser.error("--seconds: at least 0.1")
    if args.out_dir.resolve() == args.data_dir.resolve():
        raise InputError(args.out_dir, None, "is the data directory that is read; name another folder")

    sources, tables = read_sources(args.data_dir, args.allow_pipes), read_tables(args.data_dir)
    segments, parts, lines = [], [], []
    for source, span in zip(sources, read_spans(args.data_dir, sources)):
        found = spread(span, args.segments, args.seconds)
        names = [f"{source.utt}-{number:04d}" for number in range(len(found))]
        lines.append(" ".join([source.utt, *names]))
        parts += found
        for name in names:
            segments.append(source._replace(utt=name))
            tables.speaker[name], tables.recording[name] = tables.speaker[source.utt], tables.recording[source.utt]
    write_cut_dir(args.out_dir, tables, segments, parts, WHOLE)
    write_lines(args.out_dir / "utt_segments", lines)
    print(f"segment_data_dir.py: {len(segments)} segments of {len(sources)} utterances in {args.out_dir}")


if __name__ == "__main__":
    run_main(main)
