#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Test whether two systems differ by more than the choice of test speakers explains: a paired test on the same trials.

steps/paired_test.py exp/a/scores/cosine/vox1_test/trials_O_native exp/b/scores/cosine/vox1_test/trials_O_native \\
    data/vox1_test/trials_O

Differences A - B (below 0: A is better) with their 95 % intervals and two-sided p, by a bootstrap that draws the same
speakers for both (docs/reference/metrics.md). Both score files cover all trials of the list.
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, run_main
from rawnext.results.evaluation import TITLES, paired_files
from rawnext.scoring.metrics import EER_DEFINITION, EER_DEFINITIONS


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--utt2spk", type=Path, metavar="FILE", help="speakers (default: utt2spk next to the trials)")
    parser.add_argument("--enroll-utt2spk", type=Path, metavar="FILE",
                        help="speakers of the enroll side (default: --utt2spk)")
    parser.add_argument("--eer-definition", choices=EER_DEFINITIONS, default=EER_DEFINITION,
                        help="definition of the EER (default %(default)s)")
    parser.add_argument("--llr", action="store_true", help="scores are log-likelihood ratios: add actual DCF and Cllr")
    parser.add_argument("a", metavar="SCORES_A", help="lines `enroll test score`, in any order")
    parser.add_argument("b", metavar="SCORES_B", help="the same pairs, by the other system")
    parser.add_argument("trials", metavar="TRIALS", help="lines `enroll test target|nontarget`")
    args = parser.parse_args()

    print(f"A  {args.a}\nB  {args.b}\n")
    print(f"{'':16} {'A':>8} {'B':>8}  A - B")
    for found in paired_files(args.a, args.b, args.trials, args.utt2spk, args.enroll_utt2spk, args.eer_definition,
                              args.llr):
        print(f"{TITLES[found.measure]:16} {found.a:8.3f} {found.b:8.3f}  {found}")


if __name__ == "__main__":
    run_main(main)
