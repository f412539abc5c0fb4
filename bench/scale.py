#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of everything that grows with the corpus, on a synthetic corpus of VoxCeleb2's size without audio.

bench/scale.py --utts 1100000 --speakers 6112 --fractions 0.25 0.5 1

Each task runs in its own process, at each fraction of the corpus. Its growth is the exponent e of CPU seconds ~ utts^e,
fitted over the fractions after subtracting the start-up cost (the same task on --start of the corpus). Exit status 1 if
a task fails, needs --max-gib in one process, or grows faster than utts^1.25. Prints a Markdown table; the whole
corpus takes 3.5 GB of disk, in --dir.
"""

import argparse
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.timing import Usage, run_program

ROOT = Path(__file__).resolve().parents[1]
SHORT_S = 5.0  # a task that takes less CPU time is repeated, to reduce noise
LEAST_S = 0.5  # no growth is given for less CPU time
EVAL_SHARE, EVAL_SPEAKERS = 150_000 / 1_100_000, 1251 / 6112  # VoxCeleb1 as a share of VoxCeleb2
MAX_GROWTH = 1.25  # bound on the exponent of CPU time


class Task(NamedTuple):
    """A row of the table. command: may contain the names of `values`; with {rank} it runs for each rank in turn."""

    name: str
    what: str
    command: str


TASKS = [
    Task("manifests", "`write_data_dir`: cuts.jsonl and Kaldi's tables",
         "{own} manifests {dir}/train {utts} {speakers}"),
    Task("validate", "`utils/validate_data_dir.py`", "utils/validate_data_dir.py {dir}/train"),
    Task("trials", "`utils/make_trials.py`, 160 targets per speaker",
         "utils/make_trials.py {dir}/train {dir}/train.trials"),
    Task("table", "`CutTable`: the part of the manifest that each process keeps", "{own} table {dir}/train"),
    Task("epoch", "start of an epoch, the slowest of all ranks, with all imports", "{own} epoch {dir}/train {rank} 1"),
    Task("epochs", "the batches of a rank in fifty epochs", "{own} epoch {dir}/train 0 50"),
    Task("workers", "4 data workers of a process, one after the other", "{own} workers {dir}/train 4"),
    Task("sources", "`read_sources`: start of an extraction job", "{own} sources {dir}/train"),
    Task("write", "`write_vectors`: 64 archives, 64 dimensions", "{own} embeddings {dir}/train {dir}/vectors 64 64"),
    # extract.sh without its jobs, whose output is already there
    Task("merge", "`steps/extract.sh`: 64 scps into one",
         "steps/extract.sh --cmd true --nj 64 {dir}/merge {dir}/exp {dir}/vectors"),
    Task("scp", "`read_vectors`: the merged scp", "{own} vectors {dir}/vectors/embedding.scp"),
    Task("average", "`steps/average_speakers.py`, 64 dimensions",
         "steps/average_speakers.py {dir}/train/spk2utt {dir}/vectors"),
    Task("eval_manifests", "the evaluation set: `write_data_dir`",
         "{own} manifests {dir}/eval {eval_utts} {eval_speakers}"),
    # some 580,000 trials, as in Vox1-E
    Task("eval_trials", "`utils/make_trials.py --targets-per-speaker 262`",
         "utils/make_trials.py --targets-per-speaker 262 {dir}/eval {dir}/eval/trials"),
    Task("eval_write", "`write_vectors`: 512 dimensions", "{own} embeddings {dir}/eval {dir}/eval 512 1"),
    Task("eval_read", "`read_matrix` of them", "{own} matrix {dir}/eval/embedding.scp"),
    Task("score", "`steps/score.py`", "steps/score.py --enroll {dir}/eval/embedding.scp "
         "--test {dir}/eval/embedding.scp {dir}/eval/trials {dir}/scores"),
    Task("evaluate", "`steps/evaluate.py`", "steps/evaluate.py --exp {dir}/exp --list E --data-set eval "
         "--protocol native {dir}/scores {dir}/eval/trials"),
]


def values(folder: Path, utts: int, speakers: int) -> dict[str, object]:
    """Make the files that the tasks expect in a corpus's folder, and return the names in their commands."""
    for name in ("exp", "merge"):
        (folder / name).mkdir()
    for name in ("model.pt", "config.yaml"):
        (folder / "exp" / name).touch()
    (folder / "merge/wav.scp").symlink_to("../train/wav.scp")
    eval_speakers = max(2, round(speakers * EVAL_SPEAKERS))
    return {"own": f"{shlex.quote(sys.executable)} bench/scale_tasks.py", "dir": shlex.quote(str(folder)), "utts": utts,
            "speakers": speakers, "eval_speakers": eval_speakers,
            "eval_utts": max(2 * eval_speakers, round(utts * EVAL_SHARE))}


def measure(command: str) -> Usage:
    """Cost of a command, with its remark (a last line that begins with `# `) as output."""
    try:
        cost = run_program(shlex.split(command))
    except subprocess.CalledProcessError as error:
        sys.exit(f"scale.py: exit status {error.returncode}: {command}")
    last = (cost.output.splitlines() or [""])[-1]
    return cost._replace(output=last[2:] if last.startswith("# ") else "")


def measure_task(commands: Sequence[str], repeat: int) -> Usage:
    """Of several runs of the same work: the longest time, the least CPU time (against noise) and the most memory."""
    costs = [measure(command) for command in commands]
    while len(costs) < repeat and costs[-1].cpu_s < SHORT_S:
        costs.append(measure(commands[0]))
    slowest = max(costs, key=lambda cost: cost.wall_s)
    return slowest._replace(cpu_s=min(c.cpu_s for c in costs), peak_gib=max(c.peak_gib for c in costs))


def growth(sizes: Sequence[int], cpu_s: Sequence[float]) -> float | None:
    """Exponent of CPU time over size, after subtracting the first pair, the start-up; None for too little work."""
    work = [(n - sizes[0], t - cpu_s[0]) for n, t in zip(sizes[1:], cpu_s[1:]) if t > cpu_s[0]]
    if len(work) < 2 or cpu_s[-1] - cpu_s[0] < max(LEAST_S, cpu_s[0]):
        return None
    log_sizes, log_s = ([math.log(value) for value in column] for column in zip(*work))
    return statistics.linear_regression(log_sizes, log_s).slope


def run(options: argparse.Namespace) -> tuple[list[int], dict[str, list[Usage]]]:
    """Sizes in ascending order, and each task's cost at each size."""
    sizes: list[int] = []
    costs: dict[str, list[Usage]] = {task.name: [] for task in TASKS}
    for fraction in filter(None, [options.start, *sorted(options.fractions)]):
        utts = round(options.utts * fraction)
        speakers = min(utts // 2, max(200, round(options.speakers * fraction)))
        sizes.append(utts)
        with tempfile.TemporaryDirectory(prefix="scale.", dir=options.dir) as folder:
            names = values(Path(folder), utts, speakers)
            for task in TASKS:
                ranks = options.ranks if "{rank}" in task.command else 1
                cost = measure_task([task.command.format(rank=rank, **names) for rank in range(ranks)], options.repeat)
                costs[task.name].append(cost)
                print(f"{utts:9,} utts, {speakers:5,} speakers  {task.name:15} {cost.wall_s:6.1f} s, CPU "
                      f"{cost.cpu_s:6.1f} s, {cost.peak_gib:5.2f} GiB  {cost.output}", file=sys.stderr)
    return sizes, costs


def report(options: argparse.Namespace, sizes: list[int], costs: dict[str, list[Usage]]) -> list[str]:
    """Print the table; returns the bounds that were exceeded, one line each."""
    from rawnext.stamp import stamp  # not earlier: see run_program

    facts, faults = stamp(), []
    free = [] if options.start else [0]  # no start-up cost
    print(f"{facts['hardware']}, {facts['date'][:10]}, commit {facts['commit']}: `{facts['command']}`\n")
    print(f"| task | what | {' | '.join(f'CPU s, {n:,}' for n in sizes)} | wall s | peak GiB | growth | remark |")
    print(f"|---|---|{'---:|' * (len(sizes) + 3)}---|")
    for name, what, _ in TASKS:
        cpu_s, last, peak = [c.cpu_s for c in costs[name]], costs[name][-1], max(c.peak_gib for c in costs[name])
        power = growth(free + sizes, free + cpu_s)
        print(f"| {name} | {what} | {' | '.join(f'{s:.1f}' for s in cpu_s)} | {last.wall_s:.1f} | "
              f"{last.peak_gib:.2f} | {'-' if power is None else f'{power:.2f}'} | {last.output} |")
        if peak >= options.max_gib:
            faults.append(f"{name} needs {peak:.2f} GiB, the bound is {options.max_gib:g}")
        if power is not None and power > MAX_GROWTH:
            faults.append(f"{name} grows as utts^{power:.2f}, the bound is {MAX_GROWTH:g}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utts", type=int, default=1_100_000, help="utterances; default: 1100000")
    parser.add_argument("--speakers", type=int, default=6112, help="default: 6112")
    parser.add_argument("--ranks", type=int, default=8, help="training processes, run one after another; default: 8")
    parser.add_argument("--repeat", type=int, default=3, help="number of runs of a short task; default: 3")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="default: 0.25 0.5 1")
    parser.add_argument("--start", type=float, default=0.01, help="start-up fraction; 0: none; default: 0.01")
    parser.add_argument("--max-gib", type=float, default=4.0, help="bound on memory of one process; default: 4")
    parser.add_argument("--dir", type=os.path.abspath, help="folder for the temporary corpus; default: /tmp")
    options = parser.parse_args()
    if not 0 <= options.start < min(options.fractions):
        parser.error("--start must be at least 0 and below all --fractions")
    os.chdir(ROOT)
    if faults := report(options, *run(options)):
        sys.exit("\n".join(f"scale.py: {fault}" for fault in faults))


if __name__ == "__main__":
    main()
