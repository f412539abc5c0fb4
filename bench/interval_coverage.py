#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How often bootstrap intervals contain the true value, and how often the test finds a difference that does not exist.

bench/interval_coverage.py --speakers 20 40 100 --rounds 200

Speakers are drawn from a population whose measures are estimated on 20,000 speakers: Gaussian embeddings, with a
variance that differs between speakers, scored by cosine. 95 % of the intervals should contain the true value, and 5 %
of the p-values be below 0.05. `independent` is the interval that treats trials as independent (EER only). `--time`
prints the CPU seconds and peak memory of 1,000 samples on lists like VoxCeleb1's instead.
"""

import resource
import time
from functools import partial

import numpy as np

from rawnext.errors import ArgumentParser, run_main
from rawnext.scoring.bootstrap import Measure, bootstrap, interval, p_value
from rawnext.scoring.det import det_points
from rawnext.scoring.metrics import eer_of, min_dcf_of

DIM, UTTS, TRIALS_OF_A_SPEAKER = 16, 10, 100
MEASURES: dict[str, Measure] = {
    "EER": eer_of, "minDCF 0.01": partial(min_dcf_of, p_target=0.01), "minDCF 0.05": partial(min_dcf_of, p_target=0.05)}


def trials(random: np.random.Generator, num_speakers: int, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(2, n) scores of two equally good systems; (n,) is_target; (2, n) speakers. Half the trials are targets."""
    spread = 0.6 * np.exp(0.35 * random.normal(size=num_speakers))
    x = random.normal(size=(num_speakers, 1, DIM))
    x = x + spread[:, None, None] * random.normal(size=(num_speakers, UTTS, DIM))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    enroll = random.integers(num_speakers, size=num)
    is_target = np.arange(num) % 2 == 0
    test = np.where(is_target, enroll, (enroll + random.integers(1, num_speakers, size=num)) % num_speakers)
    first = random.integers(UTTS, size=num)
    second = (first + random.integers(1, UTTS, size=num)) % UTTS
    score = np.einsum("nd,nd->n", x[enroll, first], x[test, second])
    # an offset per system and speaker
    offset = 0.05 * random.normal(size=(2, num_speakers))
    return score + offset[:, enroll] + offset[:, test] + 0.05 * random.normal(size=(2, num)), is_target, np.stack(
        [enroll, test])


def truth() -> np.ndarray:
    """(M,) measures of the population."""
    scores, is_target, _ = trials(np.random.default_rng(0), 20_000, 1_000_000)
    det = det_points(scores[0][is_target], scores[0][~is_target])
    return np.array([measure(det) for measure in MEASURES.values()])


def one_round(random: np.random.Generator, num_speakers: int, replicates: int, true: np.ndarray) -> list[bool]:
    """For one draw of speakers: which intervals contain the true values, the independent one last; which p < 0.05?"""
    scores, is_target, speakers = trials(random, num_speakers, TRIALS_OF_A_SPEAKER * num_speakers)
    estimate, samples = bootstrap(list(scores), is_target, speakers, list(MEASURES.values()), replicates)
    low, high = interval(estimate[0], samples[:, 0])
    wide = 1.96 * np.sqrt(estimate[0, 0] * (1 - estimate[0, 0]) / len(is_target))
    low_p = p_value(estimate[0] - estimate[1], samples[:, 0] - samples[:, 1]) < 0.05
    return [*((low <= true) & (true <= high)), abs(estimate[0, 0] - true[0]) <= wide, *low_p]


def print_times() -> None:
    """One line per list, smallest first, so that each line shows the list's own peak memory."""
    for name, num, num_speakers in (("O", 37_611, 40), ("E", 579_818, 1_251)):
        scores, is_target, speakers = trials(np.random.default_rng(0), num_speakers, num)
        began = time.process_time()
        bootstrap([scores[0]], is_target, speakers, list(MEASURES.values()))
        spent, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name}: {num:,} trials, {num_speakers:,} speakers: {spent:.1f} s, {peak:.0f} MB", flush=True)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--speakers", type=int, nargs="+", default=[20, 40, 100], help="per test set (%(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="test sets per size (%(default)s)")
    parser.add_argument("--replicates", type=int, default=400, help="samples per bootstrap (%(default)s)")
    parser.add_argument("--time", action="store_true", help="measure time and memory")
    args = parser.parse_args()

    if args.time:
        print_times()
        return
    true = truth()
    names = [*MEASURES, "independent", *(f"p < 0.05, {name}" for name in MEASURES)]
    print(f"| speakers | {' | '.join(names)} |\n|{' ---: |' * (1 + len(names))}")
    for num_speakers in args.speakers:
        random = np.random.default_rng(num_speakers)
        held = np.mean([one_round(random, num_speakers, args.replicates, true) for _ in range(args.rounds)], axis=0)
        print(f"| {num_speakers} | {' | '.join(f'{100 * share:.0f} %' for share in held)} |", flush=True)
    print(f"\nTrue values: {', '.join(f'{name} {value:.3f}' for name, value in zip(MEASURES, true))}")


if __name__ == "__main__":
    run_main(main)
