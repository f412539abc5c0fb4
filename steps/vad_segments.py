#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write a Kaldi data directory whose utterances are the stretches of speech that DATA_DIR/vad.scp has.

steps/vad_segments.py data/test data/test_speech

An utterance UTT gives UTT-START-END, with times in hundredths of a second; OUT_DIR gets wav.scp, segments, utt2spk and
spk2utt. Utterances without speech are left out and counted.
"""

import json
from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, run_main


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the counts as a JSON object")
    parser.add_argument("--allow-pipes", action="store_true", help="accept commands `... |` in wav.scp")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    from rawnext.data.audio import read_header
    from rawnext.data.vad import read_decisions, regions
    from rawnext.data.wav import read_sources
    from rawnext.files import write_lines
    from rawnext.kaldi.tables import read_table, write_speakers

    if args.out_dir.resolve() == args.data_dir.resolve():
        raise InputError(args.out_dir, None, "is the input; name another folder")
    sources = read_sources(args.data_dir, args.allow_pipes)
    decisions = read_decisions(args.data_dir / "vad.scp", (source.utt for source in sources))
    table = args.data_dir / "utt2spk"
    utt2spk = read_table(table, one_word=True, optional=True) or {source.utt: source.utt for source in sources}
    with_segments = (args.data_dir / "segments").exists()
    recordings = {path: key for key, path in read_table(args.data_dir / "wav.scp").items()}
    segments, silent, seconds = dict[str, tuple[str, str]](), 0, 0.0
    for source in sources:
        if source.utt not in utt2spk:
            raise InputError(table, None, f"has no speaker of {source.utt}")
        found = regions(decisions[source.utt])
        silent += not len(found)
        stated = source.channel >= 0 if with_segments else not source.is_pipe and read_header(source.path).channels > 1
        channel = f" {source.channel}" if stated else ""  # which segments of recordings with several channels need
        for start, end in found.tolist():
            seconds += end - start
            first, last = source.start_s + start, source.start_s + end
            # the last frame may be shorter than the others
            known = source.end_s if source.end_s >= 0 else source.start_s + len(decisions[source.utt]) / 100 - 0.01
            segments[f"{source.utt}-{round(100 * start):07d}-{round(100 * end):07d}"] = (
                utt2spk[source.utt], f"{recordings[source.path]} {first:.5f} {min(last, known):.5f}{channel}")
    if not segments:
        raise InputError(args.data_dir / "vad.scp", None, "has no speech in any utterance")
    write_lines(args.out_dir / "wav.scp", (f"{key} {path}" for path, key in recordings.items()))
    write_lines(args.out_dir / "segments", (f"{utt} {segments[utt][1]}" for utt in sorted(segments, key=str.encode)))
    write_speakers(args.out_dir, {utt: spk for utt, (spk, _) in segments.items()})
    if args.json:
        print(json.dumps({"segments": len(segments), "seconds": round(seconds, 2), "without_speech": silent}))
    else:
        print(f"vad_segments.py: {len(segments)} segments, {seconds:.2f} s, in {args.out_dir}/segments; {silent} of "
              f"{len(sources)} utterances have no speech")


if __name__ == "__main__":
    run_main(main)
