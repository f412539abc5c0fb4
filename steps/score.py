#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Score trials by the cosine of their embeddings: lines `enroll test score`.

steps/score.py --enroll exp/x/embeddings/vox1/embedding.scp --test exp/x/embeddings/vox1_2s/embedding.scp \\
    data/vox1/trials_E exp/x/scores/cosine/vox1/trials_E_native_2s
"""

import argparse

import numpy as np

from rawnext.ark import read_matrix
from rawnext.backend.scoring import cosine_scores
from rawnext.tables import InputError, read_trials, run_main, write_scores


def rows_of(wanted: list[str], keys: list[str], trials: str, scp: str) -> np.ndarray:
    """(T,) row numbers of the utts that the trials name, line by line."""
    place = {key: row for row, key in enumerate(keys)}
    rows = np.array([place.get(utt, -1) for utt in wanted])
    if (rows < 0).any():
        line = int(np.argmax(rows < 0))
        raise InputError(trials, line + 1, f"{wanted[line]} not in {scp}")
    return rows


def directed(scp: str) -> tuple[list[str], np.ndarray]:
    """Keys and (N, D) embeddings, none of which is zero."""
    keys, matrix = read_matrix(scp)
    zero = ~matrix.any(axis=1)
    if zero.any():
        row = int(np.argmax(zero))
        raise InputError(scp, row + 1, f"{keys[row]} is a zero vector, which has no direction")
    return keys, matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--enroll", required=True, metavar="SCP", help="embeddings of the enroll side")
    parser.add_argument("--test", required=True, metavar="SCP", help="embeddings of the test side; may be the same")
    parser.add_argument("trials", help="lines `enroll test target|nontarget`")
    parser.add_argument("scores", help="file to write")
    args = parser.parse_args()

    trials = read_trials(args.trials)
    enroll_keys, enroll = directed(args.enroll)
    test_keys, test = (enroll_keys, enroll) if args.test == args.enroll else directed(args.test)
    if enroll.shape[1] != test.shape[1]:
        raise InputError(args.test, None, f"{test.shape[1]} dimensions, but {args.enroll} has {enroll.shape[1]}")
    scores = cosine_scores(enroll, test, rows_of(trials.enroll, enroll_keys, args.trials, args.enroll),
                           rows_of(trials.test, test_keys, args.trials, args.test))
    write_scores(args.scores, trials.enroll, trials.test, scores)


if __name__ == "__main__":
    run_main(main)
