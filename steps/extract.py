#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the embeddings of one job's share of a Kaldi data directory: OUT_DIR/embedding.JOB.{ark,scp,sources}.

steps/extract.py --job 1 --num-jobs 4 --protocol native data/vox1 exp/rawnext exp/rawnext/embeddings/vox1_native

A killed job that is run again continues where it stopped; a complete one does nothing. OUT_DIR/embedding.JOB.sources
lists the inputs of the embeddings: those with changed inputs are computed again.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from rawnext.errors import InputError, run_main
from rawnext.log import setup_log

VERSION = "embeddings 2"  # to be increased if the same model and audio give other embeddings
CHUNKS = {"native": 64, "paper": 16}  # utterances that are batched together; a killed job loses at most one chunk


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=int, default=1, help="number of this job, 1 or more (default 1)")
    parser.add_argument("--num-jobs", type=int, default=1, help="number of jobs (default 1)")
    parser.add_argument("--protocol", choices=tuple(CHUNKS), default="native",
                        help="native: whole utterance at once, a minute at most (default); paper: averaged segments of "
                             "59,049 samples")
    parser.add_argument("--duration", type=float, default=0, metavar="S", help="seconds cut from the middle; 0: all")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="auto (default): a GPU if available; cuda: an error if there is none")
    parser.add_argument("--num-threads", type=int, default=1,
                        help="CPU threads, which decode ahead if the device is a GPU (default 1)")
    parser.add_argument("--allow-pipes", action="store_true", help="run commands `... |` in wav.scp, if you trust it")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("exp_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    if not 1 <= args.job <= args.num_jobs:
        parser.error(f"--job: 1...{args.num_jobs}")
    if args.duration and args.duration < 0.1:
        parser.error("--duration: at least 0.1 s")
    return args


def common_lines(args: argparse.Namespace) -> list[str]:
    """Inputs of all embeddings: model, configuration and options."""
    from rawnext.stamp import sha256

    return [VERSION, *(f"{file} {sha256(args.exp_dir / file)}" for file in ("model.pt", "config.yaml")),
            f"protocol {args.protocol} duration {args.duration:g}"]


def source_line(source) -> str:
    """Inputs of an utterance's embedding: path, size and time of its audio; start, end and channel of the segment."""
    channel = f" channel {source.channel}" if source.channel else ""
    try:
        status = os.stat(source.path)
    except OSError:  # a command, or a missing file, which is reported when it is read
        return f"{source.path} {source.start_s:g} {source.end_s:g}{channel}"
    return f"{source.path} {source.start_s!r} {source.end_s!r} {status.st_size} {status.st_mtime_ns}{channel}"


def embed(args: argparse.Namespace, sources: list) -> Iterator[tuple]:
    """(utt, (D,) embedding) of each source."""
    from rawnext.data.wav import check_sources, load_waves
    from rawnext.log import progress

    check_sources(sources)  # before torch, whose import takes seconds
    import torch

    from rawnext.dist import choose_device
    from rawnext.inference.extract import embed_all, load_model
    from rawnext.models.folded import folded

    device = choose_device(args.device)
    gpu = device.type != "cpu"
    torch.set_num_threads(1 if gpu else args.num_threads)
    model, config = load_model(args.exp_dir, device)
    waves = load_waves(sources, args.num_threads if gpu else 0)
    yield from embed_all(folded(model), progress(waves, desc=f"extract.{args.job}", unit="utt", total=len(sources)),
                         args.protocol, config.extract, args.duration, CHUNKS[args.protocol])


def main() -> None:
    args = parse()
    setup_log()
    from rawnext.data.wav import read_sources
    from rawnext.kaldi.journal import write_journal

    sources = read_sources(args.data_dir, args.allow_pipes)
    first, last = (len(sources) * j // args.num_jobs for j in (args.job - 1, args.job))
    sources = sources[first:last]
    if not sources:
        raise InputError(args.data_dir, None, f"has fewer utterances than the {args.num_jobs} jobs")
    name = args.out_dir / f"embedding.{args.job}"
    kept = write_journal(name, common_lines(args), [(s.utt, source_line(s)) for s in sources],
                         CHUNKS[args.protocol], lambda first: embed(args, sources[first:]))
    print(f"extract.py: {len(sources)} embeddings in {name}.ark, {kept} of them from an earlier run")


if __name__ == "__main__":
    run_main(main)
