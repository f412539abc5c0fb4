# SPDX-License-Identifier: Apache-2.0
"""Scoring from files to metrics, plain and by AS-norm, beside a plain loop over the trials (bench/scoring_loop.py).

Lists of the sizes of VoxCeleb1's O, H and E, embeddings of random speakers. `programs` are the recipe's, one after the
other: steps/score.py, steps/normalize.py (AS-norm), steps/evaluate.py, here without intervals, which the loop has not.
For AS-norm the loop does the first 1,000 trials; its own time is multiplied, that of reading is not.
"""

import functools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.scoring_lists import SEED, Lists, Size
from bench.timing import Growth, Ratio, growth, ratio
from rawnext.kaldi.tables import read_scores, read_trials
from rawnext.results.evaluation import evaluation
from rawnext.scoring.cosine import cosine_scores
from rawnext.scoring.embeddings import read_sides
from rawnext.scoring.metrics import EER_DEFINITION

ROOT = Path(__file__).resolve().parents[1]
# VoxCeleb1's cleaned lists; of E and H the embeddings stand together.
SIZES, TOGETHER = (Size("O", 37_611, 4_708), Size("E", 579_818, 145_160), Size("H", 550_894, 137_924)), "H"
GROWTH = Size("growth", 36_239, 9_072)  # a sixteenth of E
COHORT, FIRST, ROUNDS = 6_000, 1_000, {"O": 5}
SCORES = 62_500  # for the metrics alone; 16 times as many are a million


class Result(NamedTuple):
    """seconds: from files to metrics.   scoring_s: of the loop alone.   mib: peak of the (largest) program.

    scores: of the trials that were done.
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


def run(*command: str | Path) -> tuple[float, float, str]:
    """Wall seconds, peak MiB (not below that of this process) and output of a program that succeeds."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, *command], stdout=output,
                                   env={**os.environ, "PYTHONPATH": str(ROOT)})
        _, status, usage = os.wait4(process.pid, 0)  # which tells the memory of this one
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        output.seek(0)
        return seconds, usage.ru_maxrss / 1024, output.read()


def programs(where: Lists, name: str, asnorm: bool) -> Result:
    trials, out = where.folder / name, where.folder / f"{name}.cosine"
    both = ["--enroll", where.scp[name], "--test", where.scp[name]]
    done = [run(ROOT / "steps/score.py", *both, trials, out)]
    if asnorm:
        cosines, out = out, where.folder / f"{name}.asnorm"
        done.append(run(ROOT / "steps/normalize.py", *both, "--cohort", where.cohort, cosines, out))
    done.append(run(ROOT / "steps/evaluate.py", "--exp", where.folder, "--list", name, "--data-set", "random",
                    "--protocol", "native", out, trials))
    seconds, mib = [part[0] for part in done], [part[1] for part in done]
    eer = json.loads(Path(f"{out}.json").read_text())["eer"]
    return Result(sum(seconds), sum(seconds[:-1]), max(mib), eer, read_scores(out)[2])


def loop(where: Lists, size: Size, asnorm: bool) -> Result:
    out = where.folder / f"{size.name}.loop"
    options = ["--cohort", where.cohort, "--first", str(FIRST)] if asnorm else []
    seconds, mib, output = run(ROOT / "bench/scoring_loop.py", *options, "--scores", out, where.scp[size.name],
                               where.folder / size.name)
    found = json.loads(output)
    scoring_s = found["loop_s"] * size.trials / found["num_trials"]
    return Result(seconds - found["loop_s"] - found["write_s"] + scoring_s, scoring_s, mib, found["eer"],
                  np.loadtxt(out))


def whole(where: Lists, size: Size, asnorm: bool, rounds: int) -> tuple[Ratio, float]:
    """Files to metrics by both, in turns; and the seconds of the loop alone. Nothing to warm up: each starts anew."""
    pairs = [(loop(where, size, asnorm), programs(where, size.name, asnorm)) for _ in range(rounds)]
    (old, new), same = pairs[-1], len(pairs[-1][0].scores)
    eer = f"EER {new.eer:.3f} %" if asnorm else f"EER {old.eer:.3f} -> {new.eer:.3f} %"
    apart = np.abs(old.scores - new.scores[:same]).max()
    kept = f"{eer}, scores within {apart:.0e}, peak {old.mib:,.0f} -> {new.mib:,.0f} MiB"
    before = f"loop ({FIRST:,} trials, scaled)" if asnorm else "loop"
    what = f"{size.trials:,} trials, {'AS-norm' if asnorm else 'plain'}, files to metrics"
    seconds = [(a.seconds, b.seconds) for a, b in pairs]
    return in_pairs(what, before, "programs", size.trials, seconds, kept), old.scoring_s


def in_pairs(what: str, before: str, after: str, trials: int, seconds: list[tuple[float, float]], kept: str) -> Ratio:
    """Of the seconds of both in each round."""
    old, new = zip(*seconds)
    return ratio("scoring", what, trials, "trials", (before, old), (after, new), kept)


def alone(where: Lists, size: Size, loop_s: float) -> Ratio:
    """The scores alone, all embeddings in memory, beside the loop's own time."""
    # a process of its own: what this one has held would count in the peaks of the programs that it starts
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds = pool.submit(cosine_seconds, where.folder / size.name, where.scp[size.name]).result()
    what = f"{size.trials:,} trials, plain, scores alone"
    return in_pairs(what, "loop", "cosine_scores", size.trials, [(loop_s, own) for own in seconds], "the same scores")


def cosine_seconds(path: Path, scp: str, rounds: int = 5) -> list[float]:
    """Of the cosines of a trial list, in each round."""
    trials, seconds = read_trials(path), []
    sides = read_sides(scp, scp, None, None, True, path, trials.enroll, trials.test)
    for _ in range(rounds):
        began = time.perf_counter()
        cosine_scores(sides.enroll.x, sides.test.x, sides.enroll_index, sides.test_index)
        seconds.append(time.perf_counter() - began)
    return seconds


def rows() -> list[Ratio]:
    found = []
    for size in SIZES:
        rounds = ROUNDS.get(size.name, 1)
        plain, loop_s = whole(lists(), size, False, rounds)
        found += [plain, alone(lists(), size, loop_s), whole(lists(), size, True, rounds)[0]]
    return found


def growth_rows() -> list[Growth]:
    """As trials and utterances grow together."""
    for times in (1, 4, 16):
        lists().add(Size(str(GROWTH.trials * times), GROWTH.trials * times, GROWTH.utts * times))
    def run(asnorm: bool, size: int) -> None:
        programs(lists(), str(size), asnorm)

    return [*(growth("scoring", f"trials, {name}, files to metrics", GROWTH.trials, functools.partial(run, asnorm), 1)
              for name, asnorm in (("plain", False), ("AS-norm", True))),
            growth("scoring", "scores, all metrics", SCORES, metrics)]


def metrics(num: int) -> None:
    """Every measure of as many scores, a hundredth of them targets'."""
    scores, is_target = np.random.default_rng(SEED).standard_normal(num), np.arange(num) % 100 == 0
    evaluation(scores + 3 * is_target, is_target, EER_DEFINITION, llr=True)
