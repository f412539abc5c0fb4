#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cut the utterances of a Kaldi data directory to several durations: OUT/full, OUT/2s, ... with `segments`.

steps/cut_data_dir.py --durations "1 2 5" --trials data/vox1_test/trials_O data/vox1_test exp/grid/data

Takes the utterances of the trial list, which is copied to OUT/full. An utterance shorter than a cut is kept
whole (--short keep), repeated to its duration (tile), or dropped with its trials (drop; all that are shorter than the
longest cut, so that every duration has the same trials). OUT/cuts.tsv counts short and dropped utterances.
"""

from itertools import compress
from pathlib import Path

import numpy as np

from rawnext.data.cutting import POLICIES, SHORT, Cut, name_of, read_spans, read_tables, seconds_of, write_cut_dir
from rawnext.data.wav import read_sources
from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main
from rawnext.files import write_lines
from rawnext.kaldi.tables import Trials, indices_of, read_trials, write_trials


def drop_trials(trials: Trials, dropped: set[str], path: Path) -> Trials:
    """The trials without any of the dropped utterances."""
    keep = np.array([enroll not in dropped and test not in dropped for enroll, test in zip(trials.enroll, trials.test)])
    kept = Trials(list(compress(trials.enroll, keep)), list(compress(trials.test, keep)), trials.is_target[keep])
    if kept.is_target.all() or not kept.is_target.any():  # true for an empty list, too
        raise InputError(path, None, "has no target or no nontarget trials left without short utterances")
    return kept


def sources_of(trials: Trials, sources: list) -> list:
    named = {*trials.enroll, *trials.test}
    return [source for source in sources if source.utt in named]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--durations", required=True, metavar="'S ...'", help="seconds; OUT/full is always written")
    parser.add_argument("--policy", choices=POLICIES, default="centre", help="part to keep (default %(default)s)")
    parser.add_argument("--short", choices=SHORT, default="keep", help="shorter utterances (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of --policy random (default %(default)s)")
    parser.add_argument("--trials", type=Path, required=True, help="lines `enroll test target|nontarget`")
    parser.add_argument("--allow-pipes", action="store_true", help="accept commands `... |` in wav.scp")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    with as_input_error("--durations"):
        cuts = [Cut(seconds, args.policy, args.short, args.seed) for seconds in seconds_of(args.durations)]
    sources, tables = read_sources(args.data_dir, args.allow_pipes), read_tables(args.data_dir)
    trials = read_trials(args.trials)
    for side in trials[:2]:
        indices_of(side, {source.utt: row for row, source in enumerate(sources)}, args.trials, args.data_dir)
    sources = sources_of(trials, sources)
    spans = {source.utt: span for source, span in zip(sources, read_spans(args.data_dir, sources))}
    before = len(sources), len(trials.enroll)
    if args.short == "drop":
        longest = max(cuts, key=lambda cut: cut.seconds)
        trials = drop_trials(trials, {utt for utt, span in spans.items() if longest.is_shorter(span)}, args.trials)
        sources = sources_of(trials, sources)

    after = len(sources), len(trials.enroll)
    lines = ["duration\tshorter\tutts\ttrials\tdropped_utts\tdropped_trials\tpolicy\tshort\tseed"]
    for cut in cuts:
        folder = args.out_dir / name_of(cut.seconds)
        num_short = write_cut_dir(folder, tables, sources, [spans[source.utt] for source in sources], cut)
        values = name_of(cut.seconds), num_short, *after, before[0] - after[0], before[1] - after[1], *cut[1:]
        lines.append("\t".join(map(str, values)))
    write_trials(args.out_dir / "full" / args.trials.name, trials)
    write_lines(args.out_dir / "cuts.tsv", lines)
    print(*lines, sep="\n")


if __name__ == "__main__":
    run_main(main)
