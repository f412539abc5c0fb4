#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decide for pairs of utterances whether they have the same speaker: a CSV file with columns idx, score, label.

steps/submission.py --dev-scores exp/x/scores/cosine/dev/trials_native --dev-trials data/dev/trials \\
    --pairs data/pairs/pairs exp/x/scores/cosine/pairs/pairs_native exp/x/submission.csv

    LABEL 0 = THE SAME SPEAKER, 1 = DIFFERENT SPEAKERS, although a higher score means more similar voices.

Lines keep the order and idx of the pairs. The threshold is the one with the highest balanced accuracy on the validation
trials, so this accuracy is slightly optimistic for unseen trials. The threshold is close to that of the EER, which is
printed, too.
"""

import csv
import io

from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import write_lines
from rawnext.kaldi.tables import read_scored_trials, read_scores, read_unlabelled
from rawnext.scoring.metrics import best_threshold, eer

SAME, DIFFERENT = 0, 1


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--dev-scores", required=True, help="scores of validation trials: lines `enroll test score`")
    parser.add_argument("--dev-trials", required=True, help="their list: lines `enroll test target|nontarget`")
    parser.add_argument("--pairs", required=True, help="pairs: lines `enroll test idx`")
    parser.add_argument("scores", help="scores of the pairs, in the same order: lines `enroll test score`")
    parser.add_argument("submission", help="CSV file to write")
    args = parser.parse_args()

    trials, dev_scores = read_scored_trials(args.dev_scores, args.dev_trials)
    sides = dev_scores[trials.is_target], dev_scores[~trials.is_target]
    if not all(side.size for side in sides):
        raise InputError(args.dev_trials, None, "want target and nontarget trials")
    threshold, accuracy = best_threshold(*sides)

    *pairs, idx = read_unlabelled(args.pairs)
    *scored, scores = read_scores(args.scores)
    if pairs != scored:
        raise InputError(args.scores, None, f"does not have the pairs of {args.pairs} in the same order")
    labels = [SAME if score >= threshold else DIFFERENT for score in scores]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("idx", "score", "label"), *((i, f"{s:.6f}", label) for i, s, label in zip(idx, scores, labels))])
    write_lines(args.submission, text.getvalue().splitlines())
    print(f"threshold {threshold:.6f}: accuracy {100 * accuracy:.2f} % of {sides[0].size} target and {sides[1].size} "
          f"nontarget validation trials, the highest of all thresholds; EER {100 * eer(*sides):.2f} %")
    print(f"{args.submission}: {labels.count(SAME)} of {len(labels)} pairs are of the same speaker (label {SAME}), the "
          f"others of different speakers (label {DIFFERENT})")


if __name__ == "__main__":
    run_main(main)
