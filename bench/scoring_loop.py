#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Baseline of bench/scoring.py: cosines or AS-norm in a plain loop over the trials, and their EER.

bench/scoring_loop.py --cohort cohort.scp --first 1000 embedding.scp trials scores

Keeps all embeddings in a dictionary. Each trial takes a product and two norms; with a cohort also two products with all
of it and two sorts. Writes the scores, one per line. Prints JSON: eer (%), num_trials, seconds of the loop alone
(`loop_s`) and of writing (`write_s`).
"""

import json
import time

import numpy as np

from rawnext.errors import ArgumentParser, run_main

TOP = 300


def read(scp: str) -> dict[str, np.ndarray]:
    import kaldiio

    return dict(kaldiio.load_scp_sequential(scp))


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y))


def normalized(x: np.ndarray, y: np.ndarray, cohort: np.ndarray) -> float:
    """A trial's cosine after AS-norm; cohort: (C, D) unit vectors."""
    score = cosine(x, y)
    near = [np.sort(np.dot(cohort, side / np.linalg.norm(side)))[-TOP:] for side in (x, y)]
    return sum((score - one.mean()) / one.std() for one in near) / 2


def eer(scores: np.ndarray, is_target: np.ndarray) -> float:
    """EER in per cent, where the two error rates are closest."""
    hits = is_target[np.argsort(-scores)]
    fnr, fpr = 1 - np.cumsum(hits) / hits.sum(), np.cumsum(~hits) / (~hits).sum()
    closest = np.argmin(np.abs(fnr - fpr))
    return 50 * (fnr[closest] + fpr[closest])


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", metavar="SCP", help="cohort embeddings for AS-norm (default: plain cosines)")
    parser.add_argument("--first", type=int, metavar="N", help="score only the first N trials")
    parser.add_argument("embeddings", metavar="SCP")
    parser.add_argument("trials", help="lines `enroll test target|nontarget`")
    parser.add_argument("scores", help="output")
    args = parser.parse_args()

    vectors = read(args.embeddings)
    cohort = np.stack(list(read(args.cohort).values())) if args.cohort else np.empty((0, 0))
    cohort /= np.linalg.norm(cohort, axis=1, keepdims=True)
    with open(args.trials) as file:
        trials = [line.split() for line in file][:args.first]
    scores, began = [], time.perf_counter()
    for enroll, test, _ in trials:
        x, y = vectors[enroll], vectors[test]
        scores.append(normalized(x, y, cohort) if args.cohort else cosine(x, y))
    found = {"num_trials": len(trials), "loop_s": time.perf_counter() - began}
    found["eer"] = float(eer(np.array(scores), np.array([kind == "target" for *_, kind in trials])))
    began = time.perf_counter()
    np.savetxt(args.scores, scores)
    print(json.dumps({**found, "write_s": time.perf_counter() - began}))


if __name__ == "__main__":
    run_main(main)
