# SPDX-License-Identifier: Apache-2.0
"""Scoring from files to metrics, plain and by AS-norm, against a plain loop over the trials (bench/scoring_loop.py).

Lists of the sizes of VoxCeleb1's O, H and E, embeddings of random speakers. `programs` are the recipe's, one after
another: steps/score.py, steps/normalize.py (AS-norm) and steps/evaluate.py without intervals, which the loop lacks. For
AS-norm the loop scores the first 1,000 trials; its own time is scaled up, the time of reading is not.
"""

import functools
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.scoring_lists import SEED, Lists, Size
from bench.timing import Growth, Ratio, Usage, growth, in_turns, ratio, run_program
from rawnext.kaldi.tables import read_scores, read_trials
from rawnext.results.evaluation import evaluation
from rawnext.scoring.cosine import cosine_scores
from rawnext.scoring.embeddings import read_sides
from rawnext.scoring.metrics import EER_DEFINITION

ROOT = Path(__file__).resolve().parents[1]
# VoxCeleb1's cleaned lists; E and H share their embeddings.
SIZES, TOGETHER = (Size("O", 37_611, 4_708), Size("E", 579_818, 145_160), Size("H", 550_894, 137_924)), "H"
GROWTH = Size("growth", 36_239, 9_072)  # a sixteenth of E
COHORT, FIRST, ROUNDS = 6_000, 1_000, {"O": 5}
SCORES = 62_500  # for the metrics alone; 16 times as many are a million


class Result(NamedTuple):
    """seconds: from files to metrics.   scoring_s: the loop alone.   mib: peak of the largest program.

    scores: of the trials that were scored.
    """

    seconds: float
    scoring_s: float
    mib: float
    eer: float
    scores: np.ndarray


@functools.cache
def lists() -> Lists:
    made = Lists(COHORT)
    for size in SIZES:
        made.add(size, SIZES[1].utts if size.name == TOGETHER else 0)
    return made


def run(program: str, *words: str | Path) -> Usage:
    """Run a Python program of this checkout."""
    return run_program([sys.executable, str(ROOT / program), *map(str, words)])


def programs(where: Lists, name: str, asnorm: bool) -> Result:
    trials, out = where.folder / name, where.folder / f"{name}.cosine"
    both = ["--enroll", where.scp[name], "--test", where.scp[name]]
    done = [run("steps/score.py", *both, trials, out)]
    if asnorm:
        cosines, out = out, where.folder / f"{name}.asnorm"
        done.append(run("steps/normalize.py", *both, "--cohort", where.cohort, cosines, out))
    done.append(run("steps/evaluate.py", "--exp", where.folder, "--list", name, "--data-set", "random",
                    "--protocol", "native", out, trials))
    seconds = [cost.wall_s for cost in done]
    eer = json.loads(Path(f"{out}.json").read_text())["eer"]
    return Result(sum(seconds), sum(seconds[:-1]), 1024 * max(cost.peak_gib for cost in done), eer, read_scores(out)[2])


def loop(where: Lists, size: Size, asnorm: bool) -> Result:
    out = where.folder / f"{size.name}.loop"
    options = ["--cohort", where.cohort, "--first", str(FIRST)] if asnorm else []
    cost = run("bench/scoring_loop.py", *options, "--scores", out, where.scp[size.name], where.folder / size.name)
    found = json.loads(cost.output)
    scoring_s = found["loop_s"] * size.trials / found["num_trials"]
    return Result(cost.wall_s - found["loop_s"] - found["write_s"] + scoring_s, scoring_s, 1024 * cost.peak_gib,
                  found["eer"], np.loadtxt(out))


def whole(where: Lists, size: Size, asnorm: bool, rounds: int) -> tuple[Ratio, float]:
    """Both from files to metrics, alternately, and the seconds of the loop alone. Each starts cold, so no warm-up."""
    pairs = [(loop(where, size, asnorm), programs(where, size.name, asnorm)) for _ in range(rounds)]
    old, new = pairs[-1]
    what = f"{size.trials:,} trials, {'AS-norm' if asnorm else 'plain'}, files to metrics"
    before = f"loop ({FIRST:,} trials, scaled)" if asnorm else "loop"
    eer = f"EER {new.eer:.3f} %" if asnorm else f"EER {old.eer:.3f} -> {new.eer:.3f} %"
    apart = np.abs(old.scores - new.scores[:len(old.scores)]).max()
    kept = f"{eer}, scores within {apart:.0e}, peak {old.mib:,.0f} -> {new.mib:,.0f} MiB"
    return ratio("scoring", what, size.trials, "trials", (before, [one.seconds for one, _ in pairs]),
                 ("programs", [one.seconds for _, one in pairs]), kept), old.scoring_s


def alone(where: Lists, size: Size, loop_s: float) -> Ratio:
    """The scores alone, all embeddings in memory, against the loop alone."""
    # in its own process: memory of this one would count in the peaks of the programs that it starts
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds = pool.submit(cosine_seconds, where.folder / size.name, where.scp[size.name]).result()
    return ratio("scoring", f"{size.trials:,} trials, plain, scores alone", size.trials, "trials",
                 ("loop", [loop_s] * len(seconds)), ("cosine_scores", seconds), "the same scores")


def cosine_seconds(path: Path, scp: str, rounds: int = 5) -> list[float]:
    """Seconds of each round for the cosines of a trial list."""
    trials = read_trials(path)
    sides = read_sides(scp, scp, None, None, True, path, trials.enroll, trials.test)
    return in_turns([lambda: cosine_scores(sides.enroll.x, sides.test.x, sides.enroll_index, sides.test_index)],
                    rounds)[0]


def rows() -> list[Ratio]:
    found = []
    for size in SIZES:
        rounds = ROUNDS.get(size.name, 1)
        plain, loop_s = whole(lists(), size, False, rounds)
        found += [plain, alone(lists(), size, loop_s), whole(lists(), size, True, rounds)[0]]
    return found


def growth_rows() -> list[Growth]:
    """Cost as trials and utterances grow together."""
    for times in (1, 4, 16):
        lists().add(Size(str(GROWTH.trials * times), GROWTH.trials * times, GROWTH.utts * times))

    def run_size(asnorm: bool, size: int) -> None:
        programs(lists(), str(size), asnorm)

    return [*(growth("scoring", f"trials, {name}, files to metrics", GROWTH.trials,
                     functools.partial(run_size, asnorm), 1)
              for name, asnorm in (("plain", False), ("AS-norm", True))),
            growth("scoring", "scores, all metrics", SCORES, metrics)]


def metrics(num: int) -> None:
    """All measures of this many scores, one per cent of them targets."""
    scores, is_target = np.random.default_rng(SEED).standard_normal(num), np.arange(num) % 100 == 0
    evaluation(scores + 3 * is_target, is_target, EER_DEFINITION, llr=True)
