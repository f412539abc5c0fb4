#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who speaks when in one job's share of a Kaldi data directory: OUT_DIR/rttm.JOB.

steps/diarize.py --job 1 --num-jobs 4 --vad silero data/meetings exp/rawnext exp/rawnext/diarization

--vad scp takes the speech of DATA_DIR/vad.scp, --vad rttm that of the turns in DATA_DIR/ref.rttm.
"""

import argparse
import json
from pathlib import Path

from rawnext.cli.diarize import add_settings, naming, settings, window_judge, window_llrs
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.log import setup_log


def speech_of(args: argparse.Namespace, utts: list[str]) -> dict:
    """utt -> where its speech is, for diarize()."""
    import numpy as np

    from rawnext.data.vad import check_kind, read_decisions, regions
    from rawnext.kaldi.rttm import read_rttm

    if args.vad == "scp":
        return {utt: regions(frames) for utt, frames in read_decisions(args.data_dir / "vad.scp", utts).items()}
    if args.vad == "rttm":
        path, found = args.data_dir / "ref.rttm", {}
        turns = read_rttm(path)
        for utt in utts:
            frames = np.zeros(round(100 * max((turn.end for turn in turns.get(utt, [])), default=0)), bool)
            for turn in turns.get(utt, []):
                frames[round(100 * turn.start) : round(100 * turn.end)] = True
            found[utt] = regions(frames, join_s=0)
        return found
    check_kind(args.vad)
    return dict.fromkeys(utts, args.vad)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=int, default=1, help="number of this job, 1 or more (default 1)")
    parser.add_argument("--num-jobs", type=int, default=1, help="number of jobs (default 1)")
    parser.add_argument("--vad", choices=("energy", "silero", "scp", "rttm"), default="energy",
                        help="where the speech is from (default: its energy)")
    parser.add_argument("--reco2num-spk", type=Path, metavar="FILE", help="the number of speakers of each recording")
    add_settings(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="auto (default): a GPU if available; cuda: an error if there is none")
    parser.add_argument("--allow-pipes", action="store_true", help="run commands `... |` in wav.scp, if you trust it")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each recording")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("exp_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    setup_log()
    from rawnext.data.wav import check_sources, read_sources, share_of
    from rawnext.files import write_lines
    from rawnext.kaldi.tables import read_table
    from rawnext.kaldi.words import to_number

    options = settings(args)
    sources = share_of(read_sources(args.data_dir, args.allow_pipes), args.job, args.num_jobs, args.data_dir)
    check_sources(sources)
    numbers = read_table(args.reco2num_spk, one_word=True) if args.reco2num_spk else {}
    for source in sources:
        if args.reco2num_spk and not to_number(numbers.get(source.utt, "")) >= 1:
            raise InputError(args.reco2num_spk, None, f"has no number of speakers of {source.utt}")
    judge = window_judge(args, args.exp_dir)
    speech = speech_of(args, [source.utt for source in sources])

    import torch

    from rawnext.inference.diarization import diarize, turns_of
    from rawnext.inference.extractor import Extractor

    torch.set_num_threads(1)  # the launcher starts a job for each processor
    extractor, lines = Extractor.from_pretrained(args.exp_dir, args.device), []
    names_of = naming(args, judge, extractor.fingerprint)
    llrs = window_llrs(judge, options, args.exp_dir, extractor.fingerprint)
    for source in sources:
        own = options._replace(num_speakers=int(to_number(numbers[source.utt]))) if numbers else options
        windows, labels = diarize(extractor.model, source, speech[source.utt], own, llrs)
        turns = turns_of(source.utt, windows, labels, names_of(windows, labels))
        lines += [turn.line() for turn in turns]
        if args.json:
            print(json.dumps({"recording": source.utt, "speakers": len({turn.speaker for turn in turns}),
                              "turns": len(turns), "seconds": round(sum(turn.end - turn.start for turn in turns), 3)}))
    write_lines(args.out_dir / f"rttm.{args.job}", lines)
    if not args.json:
        print(f"diarize.py: {len(lines)} turns in {len(sources)} recordings in {args.out_dir}/rttm.{args.job}")


if __name__ == "__main__":
    run_main(main)
