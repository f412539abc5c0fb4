#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Embed one job's share of a Kaldi data directory: OUT_DIR/embedding.JOB.{ark,scp}.

steps/extract.py --job 1 --num-jobs 4 --protocol native data/vox1 exp/rawnext exp/rawnext/embeddings/vox1_native
"""

import argparse
from pathlib import Path

from rawnext.log import setup_log
from rawnext.tables import InputError, run_main, write_vectors


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=int, default=1, help="which share (default 1)")
    parser.add_argument("--num-jobs", type=int, default=1, help="of how many (default 1)")
    parser.add_argument("--protocol", choices=("native", "paper"), default="native",
                        help="native: whole utterance at once (default); paper: averaged segments of 59,049 samples")
    parser.add_argument("--duration", type=float, default=0, metavar="S", help="seconds cut from the middle; 0: all")
    parser.add_argument("--num-threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("exp_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    if not 1 <= args.job <= args.num_jobs:
        parser.error(f"--job: 1...{args.num_jobs}")
    if args.duration and args.duration < 0.1:
        parser.error("--duration: at least 0.1 s")
    return args


def main() -> None:
    args = parse()
    setup_log()
    import torch

    from rawnext.data.wav import check_sources, load_wave, read_sources
    from rawnext.extract import LEAST_SAMPLES, embed_all, load_model
    from rawnext.log import progress

    torch.set_num_threads(args.num_threads)
    sources = read_sources(args.data_dir)
    first, last = (len(sources) * j // args.num_jobs for j in (args.job - 1, args.job))
    sources = sources[first:last]
    if not sources:
        raise InputError(args.data_dir, None, f"has fewer utterances than {args.num_jobs} jobs")
    check_sources(sources, LEAST_SAMPLES)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, config = load_model(args.exp_dir, device)
    waves = ((s.utt, load_wave(s)) for s in progress(sources, desc=f"extract.{args.job}", unit="utt"))
    name = args.out_dir / f"embedding.{args.job}"
    num = write_vectors(f"{name}.ark", f"{name}.scp",
                        embed_all(model, waves, args.protocol, config.extract, args.duration))
    print(f"extract.py: wrote {num} embeddings to {name}.ark")


if __name__ == "__main__":
    run_main(main)
