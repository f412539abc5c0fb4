#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Normalise cosine scores with a cohort of other speakers: AS-norm, or S-norm with --top 0.

steps/normalize.py --enroll exp/x/embeddings/vox1/embedding.scp --test exp/x/embeddings/vox1_2s/embedding.scp \\
    --cohort exp/x/embeddings/cohort/embedding.scp exp/x/scores/cosine/vox1/E_2s exp/x/scores/asnorm/vox1/E_2s

For short test utterances, --test-cohort names the cohort's utterances cut to the same duration. The enroll side is
compared with these, as with impostors; the test side is compared with the whole utterances of --cohort.
"""

import argparse

from rawnext.errors import InputError, run_main
from rawnext.kaldi.tables import read_scores, write_scores
from rawnext.scoring.embeddings import read_side, read_sides
from rawnext.scoring.snorm import TOP, cohort_stats, normalize_scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--enroll", required=True, metavar="SCP", help="embeddings of the enroll side")
    parser.add_argument("--test", required=True, metavar="SCP", help="embeddings of the test side; may be the same")
    parser.add_argument("--enroll-map", metavar="FILE", help="trials name models: lines `model utt utt...`")
    parser.add_argument("--cohort", required=True, metavar="SCP", help="embeddings of the cohort")
    parser.add_argument("--test-cohort", metavar="SCP", help="the cohort for the enroll side (default: --cohort)")
    parser.add_argument("--top", type=int, default=TOP,
                        help="number of nearest cohort members used for each side; 0: all (default: %(default)s)")
    parser.add_argument("cosines", help="lines `enroll test score`, by steps/score.py --backend cosine")
    parser.add_argument("scores", help="file to write")
    args = parser.parse_args()
    if args.top < 0 or args.top == 1:
        parser.error("--top must be 0 or at least 2")

    enroll_ids, test_ids, cosines = read_scores(args.cosines)
    sides = read_sides(args.enroll, args.test, None, args.enroll_map, True, args.cosines, enroll_ids, test_ids)
    cohort = read_side(args.cohort).x
    test_cohort = read_side(args.test_cohort).x if args.test_cohort else cohort
    same_side = sides.enroll is sides.test and test_cohort is cohort
    try:
        test = cohort_stats(sides.test.x, cohort, args.top)
        enroll = test if same_side else cohort_stats(sides.enroll.x, test_cohort, args.top)
        scores = normalize_scores(cosines, enroll, test, sides.enroll_index, sides.test_index)
    except ValueError as error:
        raise InputError(args.cohort, None, str(error)) from None
    write_scores(args.scores, enroll_ids, test_ids, scores)


if __name__ == "__main__":
    run_main(main)
