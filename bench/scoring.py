# SPDX-License-Identifier: Apache-2.0
"""Scoring from files to metrics, plain and by AS-norm, against a plain loop over the trials (bench/scoring_loop.py).

Trial lists of the sizes of VoxCeleb1's O, E and H, and embeddings of random speakers with a realistic EER, in the
recipe's files. `programs` are the recipe's, one after another: steps/score.py, steps/normalize.py (AS-norm) and
steps/evaluate.py without intervals, which the loop lacks. For AS-norm the loop scores the first 1,000 trials; its own
time is scaled up, the time of reading is not.
"""

import functools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.timing import Ratio, Usage, in_turns, ratio, run_program
from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import Trials, read_scores, read_trials, write_trials
from rawnext.scoring.cosine import cosine_scores
from rawnext.scoring.embeddings import read_sides
from rawnext.scoring.snorm import TOP

ROOT = Path(__file__).resolve().parents[1]


class Size(NamedTuple):
    """A list's name, number of trials and number of utterances."""

    name: str
    trials: int
    utts: int


SIZES = Size("O", 37_611, 4_708), Size("E", 579_818, 145_160), Size("H", 550_894, 137_924)  # cleaned lists
COHORT, FIRST, ROUNDS = 6_000, 1_000, {"O": 5}
DIM, SPEAKER_UTTS, NOISE, SEED = 512, 116, 2.5, 0  # NOISE: std within speakers; between them it is 1


def vectors(names: list[str], speaker_utts: int) -> Iterator[tuple[str, np.ndarray]]:
    """Embeddings of utterances sorted by speaker: the speaker's mean plus noise."""
    rng = np.random.default_rng(SEED)
    for start in range(0, len(names), speaker_utts):
        mean, utts = rng.standard_normal(DIM, np.float32), names[start : start + speaker_utts]
        yield from zip(utts, mean + np.float32(NOISE) * rng.standard_normal((len(utts), DIM), np.float32))


def trial_list(size: Size, names: list[str]) -> Trials:
    """Every utterance is enrolled in turn and tested against a random one; every second trial is a target."""
    rng, enroll = np.random.default_rng(SEED), np.arange(size.trials) * size.utts // size.trials
    is_target, begin = np.arange(size.trials) % 2 == 0, enroll // SPEAKER_UTTS * SPEAKER_UTTS
    own = np.minimum(begin + SPEAKER_UTTS, size.utts) - begin
    test = np.where(is_target, begin + rng.integers(own), begin + own + rng.integers(size.utts - own)) % size.utts
    return Trials([names[row] for row in enroll], [names[row] for row in test], is_target)


class Lists:
    """A temporary folder: an experiment, trial lists NAME with embeddings NAME.scp, and a cohort's embeddings."""

    def __init__(self) -> None:
        self.temporary = tempfile.TemporaryDirectory(prefix="scoring.")
        self.folder = Path(self.temporary.name)
        write_lines(self.folder / "config.yaml", ["model: {name: rawnext}"])
        self.embed("cohort", [f"c{row:06d}" for row in range(COHORT)], 1)
        for size in SIZES:
            self.add(size)

    def add(self, size: Size) -> None:
        names = [f"id{10001 + row // SPEAKER_UTTS}-{row * 7919:011d}-00001" for row in range(size.utts)]
        write_trials(self.folder / size.name, trial_list(size, names))
        self.embed(size.name, names, SPEAKER_UTTS)

    def embed(self, name: str, utts: list[str], speaker_utts: int) -> None:
        write_vectors(self.folder / f"{name}.ark", self.folder / f"{name}.scp", vectors(utts, speaker_utts))


lists = functools.cache(Lists)


class Result(NamedTuple):
    """seconds: from files to metrics.   mib: peak of the largest program.   scores: of the trials that were scored.

    loop_s: of the loop alone.
    """

    seconds: float
    mib: float
    eer: float
    scores: np.ndarray
    loop_s: float = 0


def run(program: str, *words: str | Path) -> Usage:
    """Run a Python program of this checkout."""
    return run_program([sys.executable, str(ROOT / program), *map(str, words)])


def programs(name: str, asnorm: bool) -> Result:
    trials = lists().folder / name
    both, out = ["--enroll", f"{trials}.scp", "--test", f"{trials}.scp"], Path(f"{trials}.cosine")
    done = [run("steps/score.py", *both, trials, out)]
    if asnorm:
        cosines, out = out, Path(f"{trials}.asnorm")
        done.append(run("steps/normalize.py", *both, "--cohort", lists().folder / "cohort.scp", "--top",
                        str(TOP), cosines, out))
    done.append(run("steps/evaluate.py", "--exp", lists().folder, "--list", name, "--data-set", "random",
                    "--protocol", "native", out, trials))
    return Result(sum(cost.wall_s for cost in done), 1024 * max(cost.peak_gib for cost in done),
                  json.loads(Path(f"{out}.json").read_text())["eer"], read_scores(out)[2])


def loop(size: Size, asnorm: bool) -> Result:
    trials = lists().folder / size.name
    options: list[str | Path] = []
    if asnorm:
        options = ["--cohort", lists().folder / "cohort.scp", "--first", str(FIRST)]
    cost = run("bench/scoring_loop.py", *options, f"{trials}.scp", trials, f"{trials}.loop")
    found = json.loads(cost.output)
    loop_s = found["loop_s"] * size.trials / found["num_trials"]
    return Result(cost.wall_s - found["loop_s"] - found["write_s"] + loop_s, 1024 * cost.peak_gib, found["eer"],
                  np.loadtxt(f"{trials}.loop"), loop_s)


def whole(size: Size, asnorm: bool) -> tuple[Ratio, float]:
    """Both from files to metrics, alternately, and the seconds of the loop alone. Each starts cold, so no warm-up."""
    results = [(loop(size, asnorm), programs(size.name, asnorm)) for _ in range(ROUNDS.get(size.name, 1))]
    old, new = results[-1]
    what = f"{size.trials:,} trials, {'AS-norm' if asnorm else 'plain'}, files to metrics"
    before = f"loop ({FIRST:,} trials, scaled)" if asnorm else "loop"
    eer = f"EER {new.eer:.3f} %" if asnorm else f"EER {old.eer:.3f} -> {new.eer:.3f} %"
    apart = np.abs(old.scores - new.scores[:len(old.scores)]).max()
    kept = f"{eer}, scores within {apart:.0e}, peak {old.mib:,.0f} -> {new.mib:,.0f} MiB"
    return ratio(what, size.trials, "trials", (before, [one.seconds for one, _ in results]),
                 ("programs", [one.seconds for _, one in results]), kept), old.loop_s


def alone(size: Size, loop_s: float) -> Ratio:
    """The scores alone, all embeddings in memory, against the loop alone."""
    path, scp = lists().folder / size.name, str(lists().folder / f"{size.name}.scp")
    trials = read_trials(path)
    sides = read_sides(scp, scp, None, None, True, path, trials.enroll, trials.test)
    seconds = in_turns([lambda: cosine_scores(sides.enroll.x, sides.test.x, sides.enroll_index, sides.test_index)], 5)
    return ratio(f"{size.trials:,} trials, plain, scores alone", size.trials, "trials",
                 ("loop", [loop_s] * len(seconds[0])), ("cosine_scores", seconds[0]), "the same scores")


def rows() -> list[Ratio]:
    # `alone` last: memory of this process counts in the peaks of the programs that it starts
    measured = [(size, whole(size, False), whole(size, True)[0]) for size in SIZES]
    return [row for size, (plain, loop_s), asnorm in measured for row in (plain, alone(size, loop_s), asnorm)]
