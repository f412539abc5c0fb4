#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Score trials by the cosine of their embeddings, or by a trained siamese head: lines `enroll test score`.

steps/score.py --enroll exp/x/embeddings/vox1/embedding.scp --test exp/x/embeddings/vox1_2s/embedding.scp \\
    data/vox1/trials_E exp/x/scores/cosine/vox1/trials_E_native_2s

In both the higher score is the more alike.
"""

import argparse
from pathlib import Path

import numpy as np

from rawnext.ark import read_matrix
from rawnext.backend.scoring import cosine_scores, siamese_scores
from rawnext.tables import InputError, read_trials, read_unlabelled, run_main, write_scores


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


def siamese_head(exp: Path) -> tuple[np.ndarray, float]:
    """Weights (D,) and bias of the head that the siamese loss has trained in an experiment."""
    from rawnext.checkpoint import load

    path = exp / "model.pt"
    state = load(path)
    try:
        head = state["losses"]["siamese"]
        return head["linear.weight"][0].numpy(), float(head["linear.bias"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError):
        raise InputError(path, None, "has no siamese head: it was not trained with the siamese loss") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--enroll", required=True, metavar="SCP", help="embeddings of the enroll side")
    parser.add_argument("--test", required=True, metavar="SCP", help="embeddings of the test side; may be the same")
    parser.add_argument("--siamese", type=Path, metavar="EXP", help="score by the siamese head of this experiment")
    parser.add_argument("--unlabelled", action="store_true", help="trials are lines `enroll test idx`")
    parser.add_argument("trials", help="lines `enroll test target|nontarget`")
    parser.add_argument("scores", help="file to write")
    args = parser.parse_args()

    enroll_utts, test_utts, _ = (read_unlabelled if args.unlabelled else read_trials)(args.trials)
    enroll_keys, enroll = directed(args.enroll)
    test_keys, test = (enroll_keys, enroll) if args.test == args.enroll else directed(args.test)
    if enroll.shape[1] != test.shape[1]:
        raise InputError(args.test, None, f"{test.shape[1]} dimensions, but {args.enroll} has {enroll.shape[1]}")
    rows = (rows_of(enroll_utts, enroll_keys, args.trials, args.enroll),
            rows_of(test_utts, test_keys, args.trials, args.test))
    if args.siamese:
        weight, bias = siamese_head(args.siamese)
        if len(weight) != enroll.shape[1]:
            raise InputError(args.enroll, None, f"{enroll.shape[1]} dimensions, but the siamese head of {args.siamese} "
                                                f"has {len(weight)}")
        scores = siamese_scores(enroll, test, *rows, weight, bias)
    else:
        scores = cosine_scores(enroll, test, *rows)
    write_scores(args.scores, enroll_utts, test_utts, scores)


if __name__ == "__main__":
    run_main(main)
