#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cut the utterances of a Kaldi data directory to several durations: OUT/full, OUT/2s, ... with `segments`.

steps/cut_data_dir.py --durations "1 2 5" --trials data/vox1_test/trials_O data/vox1_test exp/grid/data

Only what the trials name is taken, and they are written to OUT/full/trials. Utterances that are shorter than a cut are
kept whole (--short keep), repeated up to it (tile), or left out with their trials (drop: those shorter than the longest
cut, so that every duration has the same trials). OUT/cuts.tsv counts them.
"""

import argparse
from itertools import compress
from pathlib import Path

import numpy as np

from rawnext.data.cutting import POLICIES, SHORT, Cut, name_of, read_tables, seconds_of, write_cut_dir
from rawnext.data.lengths import read_spans
from rawnext.data.wav import read_sources
from rawnext.errors import InputError, run_main
from rawnext.files import write_lines
from rawnext.kaldi.tables import Trials, read_trials, write_trials


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--durations", required=True, metavar="'S ...'", help="seconds; OUT/full is always made")
    parser.add_argument("--policy", choices=POLICIES, default="centre", help="which part stays (default %(default)s)")
    parser.add_argument("--short", choices=SHORT, default="keep", help="what is done with utterances that are shorter "
                        "(default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of --policy random (default %(default)s)")
    parser.add_argument("--trials", type=Path, required=True, help="lines `enroll test target|nontarget`")
    parser.add_argument("--allow-pipes", action="store_true", help="take wav.scp's commands `... |`")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    return parser.parse_args()


def check_known(trials: Trials, path: Path, known: set[str], data_dir: Path) -> None:
    for line, pair in enumerate(zip(trials.enroll, trials.test), 1):
        if missing := [utt for utt in pair if utt not in known]:
            raise InputError(path, line, f"{missing[0]} is not in {data_dir}")


def without(trials: Trials, dropped: set[str], path: Path) -> Trials:
    """The trials in which none of these utterances is."""
    keep = np.array([enroll not in dropped and test not in dropped for enroll, test in zip(trials.enroll, trials.test)])
    left = Trials(list(compress(trials.enroll, keep)), list(compress(trials.test, keep)), trials.is_target[keep])
    if left.is_target.all() or not left.is_target.any():  # also where nothing is left
        raise InputError(path, None, "without short utterances has no target or no nontarget trial left")
    return left


def named_in(trials: Trials, sources: list) -> list:
    named = {*trials.enroll, *trials.test}
    return [source for source in sources if source.utt in named]


def main() -> None:
    args = parse()
    try:
        cuts = [Cut(seconds, args.policy, args.short, args.seed) for seconds in seconds_of(args.durations)]
    except ValueError as why:
        raise InputError("--durations", None, str(why)) from None
    sources, tables = read_sources(args.data_dir, args.allow_pipes), read_tables(args.data_dir)
    trials = read_trials(args.trials)
    check_known(trials, args.trials, {source.utt for source in sources}, args.data_dir)
    sources = named_in(trials, sources)
    spans = {source.utt: span for source, span in zip(sources, read_spans(args.data_dir, sources))}
    before = len(sources), len(trials.enroll)
    if args.short == "drop":
        most = max(cuts, key=lambda cut: cut.seconds)
        trials = without(trials, {utt for utt, span in spans.items() if most.is_shorter(span)}, args.trials)
        sources = named_in(trials, sources)

    after = len(sources), len(trials.enroll)
    lines = ["duration\tshorter\tutts\ttrials\tdropped_utts\tdropped_trials\tpolicy\tshort\tseed"]
    for cut in cuts:
        folder = args.out_dir / name_of(cut.seconds)
        num_short = write_cut_dir(folder, tables, sources, [spans[source.utt] for source in sources], cut)
        words = name_of(cut.seconds), num_short, *after, before[0] - after[0], before[1] - after[1], *cut[1:]
        lines.append("\t".join(map(str, words)))
    write_trials(args.out_dir / "full" / "trials", trials)
    write_lines(args.out_dir / "cuts.tsv", lines)
    print(*lines, sep="\n")


if __name__ == "__main__":
    run_main(main)
