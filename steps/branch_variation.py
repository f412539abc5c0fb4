#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Score how each resolution branch of a RawNeXt changes with utterance length: the paper's Fig. 2 (eq. 8).

steps/branch_variation.py exp/rawnext data/vox1_test

Writes EXP/analysis/branch_variation.{tsv,png,pdf}, or OUT.{tsv,png,pdf}. Each utterance is cut to its middle 1, 2, ...
10 s; the same utterances are used for every length. Works for models whose blocks have branches: RawNeXt, rows 3-6 of
Table 4.
"""

import argparse
from pathlib import Path

from rawnext.data.cutting import read_spans
from rawnext.data.wav import load_wave, read_sources
from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main
from rawnext.files import write_lines
from rawnext.log import progress, setup_log

POLICIES = ("tiled", "native")


def choose(args: argparse.Namespace) -> tuple[list, int]:
    """The utterances to use, and the number of utterances shorter than the longest duration."""
    sources = read_sources(args.data_dir, args.allow_pipes)
    long = [span.seconds >= args.durations[-1] for span in read_spans(args.data_dir, sources)]
    chosen = [source for source, enough in zip(sources, long) if enough or args.short == "tile"]
    if not chosen:
        raise InputError(args.data_dir, None, f"has no utterance of {args.durations[-1]:g} s; give shorter ones, "
                                              "or --short tile")
    num = min(args.num_utts or len(chosen), len(chosen))
    return [chosen[i * len(chosen) // num] for i in range(num)], long.count(False)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--durations", default="1 2 3 4 5 6 7 8 9 10", metavar="'S ...'",
                        help="seconds (default %(default)s)")
    parser.add_argument("--policy", choices=POLICIES, default="tiled", help="tiled: repeat cuts up to the longest "
                        "duration, so that all inputs are equally long (default); native: do not")
    parser.add_argument("--short", choices=("drop", "tile"), default="drop", help="utterances shorter than the longest "
                        "duration: leave them out (default), or repeat them up to each duration")
    parser.add_argument("--num-utts", type=int, default=200, help="maximum number, spread over the directory; 0: all "
                        "(default %(default)s)")
    parser.add_argument("--allow-pipes", action="store_true",
                        help="run wav.scp's commands `... |`; only if you trust them")
    parser.add_argument("exp", type=Path, help="experiment, or exported model")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out", type=Path, nargs="?", help="(default EXP/analysis/branch_variation)")
    args = parser.parse_args()
    try:
        args.durations = sorted({float(word) for word in args.durations.split()})
    except ValueError:
        args.durations = []
    if not args.durations or not 0.1 <= args.durations[0] <= args.durations[-1] < 1000:
        parser.error("--durations: want seconds, each 0.1 or more")
    setup_log()

    from rawnext.dist import choose_device
    from rawnext.inference.extract import load_model
    from rawnext.results.analysis.branches import blocks_of, branches_of, check_branches, summary, table, variation
    from rawnext.results.analysis.plots import plot_branches

    model, _ = load_model(args.exp, choose_device("auto"))
    with as_input_error(args.exp / "config.yaml"):
        check_branches(model)
    sources, num_short = choose(args)
    waves = (load_wave(source) for source in progress(sources, desc="utterances", unit="utt"))
    scores = variation(model, waves, args.durations, args.policy)

    blocks, branches = list(blocks_of(model)), branches_of(model)
    stem = args.out or args.exp / "analysis/branch_variation"
    how = f"{args.policy} input; shorter ones {'left out' if args.short == 'drop' else 'repeated'}"
    write_lines(f"{stem}.tsv", table(scores, args.durations, blocks, branches))
    mean, error = summary(scores.mean(2))
    plot_branches(args.durations, {name: (mean[:, j], error[:, j]) for j, name in enumerate(branches)},
                  f"{args.exp.name}: {len(sources)} utterances of {args.data_dir.name}, {len(blocks)} blocks\n{how}",
                  f"{stem}.png", f"{stem}.pdf")
    ends = ", ".join(f"{name} {mean[-1, j]:+.4g}" for j, name in enumerate(branches))
    print(f"branch_variation.py: {stem}.tsv, .png, .pdf: {len(sources)} utterances; {num_short} of {args.data_dir} are "
          f"shorter than {args.durations[-1]:g} s; {how}; at {args.durations[-1]:g} s {ends}")


if __name__ == "__main__":
    run_main(main)
