#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of cosine scores and AS-norm of a VoxCeleb1-E sized list, beside a loop over its trials.

bench/scoring.py --trials 580000 --utts 145000 --cohort 6000 --dim 512

Random unit-variance float32 embeddings. Each program's task runs in a process of its own, whose peak memory is what the
embeddings take and what scoring adds. The loop does for each trial what such programs do (two rows of cohort cosines,
two sorts); it is timed on the first --sample trials and its time multiplied, and must give our scores there.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np

from rawnext.backend.scoring import cosine_scores
from rawnext.backend.snorm import cohort_stats, normalize_scores
from rawnext.tables import run_main

TOP = 300


def draw(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings (utts, dim), cohort (C, dim), two (T,) rows of trials."""
    rng = np.random.default_rng(0)
    x, cohort = (rng.standard_normal((n, args.dim), dtype=np.float32) for n in (args.utts, args.cohort))
    return x, cohort, *rng.integers(args.utts, size=(2, args.trials))


def cosine(x: np.ndarray, cohort: np.ndarray, enroll: np.ndarray, test: np.ndarray) -> np.ndarray:
    return cosine_scores(x, x, enroll, test)


def asnorm(x: np.ndarray, cohort: np.ndarray, enroll: np.ndarray, test: np.ndarray) -> np.ndarray:
    stats = cohort_stats(x, cohort, TOP)
    return normalize_scores(cosine_scores(x, x, enroll, test), stats, stats, enroll, test)


def cosine_loop(x: np.ndarray, cohort: np.ndarray, enroll: np.ndarray, test: np.ndarray) -> np.ndarray:
    return np.array([x[e] @ x[t] / np.linalg.norm(x[e]) / np.linalg.norm(x[t]) for e, t in zip(enroll, test)])


def asnorm_loop(x: np.ndarray, cohort: np.ndarray, enroll: np.ndarray, test: np.ndarray) -> np.ndarray:
    cohort = cohort / np.linalg.norm(cohort, axis=1, keepdims=True)
    scores = []
    for e, t in zip(enroll, test):
        a, b = x[e] / np.linalg.norm(x[e]), x[t] / np.linalg.norm(x[t])
        near = [np.sort(cohort @ side)[-TOP:] for side in (a, b)]
        scores.append(np.mean([(a @ b - one.mean()) / one.std() for one in near]))
    return np.array(scores)


def measure(task: Callable, args: argparse.Namespace, sample: int, queue: multiprocessing.Queue) -> None:
    """Put wall s, CPU s, peak MiB before and after, and the first scores; of the first `sample` trials if not 0."""
    x, cohort, enroll, test = draw(args)
    if sample:
        enroll, test = enroll[:sample], test[:sample]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began, used = time.perf_counter(), time.process_time()
    scores = task(x, cohort, enroll, test)
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    queue.put((wall, cpu, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, scores[:args.sample]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("trials", 580_000), ("utts", 145_000), ("cohort", 6_000), ("dim", 512), ("sample", 500)):
        parser.add_argument(f"--{name}", type=int, default=value, help="(%(default)s)")
    args = parser.parse_args()
    from rawnext.stamp import stamp

    context = multiprocessing.get_context("spawn")  # a child that is forked counts its parent's memory
    print(f"{args.trials:,} trials of {args.utts:,} utts, cohort {args.cohort:,}, {args.dim} dimensions; numpy "
          f"{np.__version__}, {stamp()['hardware']}, commit {stamp()['commit']}")
    print("| | wall s | CPU s | MiB of the data | peak MiB |\n| --- | ---: | ---: | ---: | ---: |")
    for name, ours, loop in (("cosine", cosine, cosine_loop), ("AS-norm", asnorm, asnorm_loop)):
        found = []
        for task, sample in ((ours, 0), (loop, args.sample)):
            queue = context.Queue()
            process = context.Process(target=measure, args=(task, args, sample, queue))
            process.start()
            wall, cpu, before, peak, scores = queue.get()
            process.join()
            times = args.trials / sample if sample else 1
            how = f", a loop: {sample} trials, times {times:g}" if sample else ""
            cells = (name + how, *(f"{t * times:,.1f}" for t in (wall, cpu)), f"{before:,.0f}", f"{peak:,.0f}")
            print(f"| {' | '.join(cells)} |", flush=True)
            found.append(scores)
        np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    run_main(main)
