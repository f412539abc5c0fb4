# SPDX-License-Identifier: Apache-2.0
"""Programs timed alternately in one run, so that other load on the machine affects all of them, and result tables."""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import NamedTuple

Program = Callable[[], object]


class Ratio(NamedTuple):
    """Speed of one program relative to another that does the same work.

    what: the work.   before, after: the programs.   unit: of the rates (utts/s, hours/s).
    rate_before, rate_after: medians over the rounds.   ratio, low, high: median, minimum and maximum over the rounds.
    kept: evidence that the results agree (EER before and after, largest difference).
    """

    what: str
    before: str
    after: str
    unit: str
    rate_before: float
    rate_after: float
    ratio: float
    low: float
    high: float
    kept: str = ""


class Usage(NamedTuple):
    """Cost of a program: wall and CPU seconds, peak memory, and its standard output."""

    wall_s: float
    cpu_s: float
    peak_gib: float
    output: str


def run_program(command: Sequence[str | os.PathLike[str]]) -> Usage:
    """Run a program, whose cost includes the processes that it waited for; its memory is that of the largest.

    The caller must be small: a child's peak is at least the memory of the process that started it.

    Raises: subprocess.CalledProcessError: the program failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=output)
        _, status, used = os.wait4(process.pid, 0)  # unlike wait(), returns the child's memory
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - began
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        output.seek(0)
        return Usage(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20, output.read())


def in_turns(programs: Sequence[Program], rounds: int) -> list[list[float]]:
    """Wall seconds of each program in each round, after a round that warms caches and is not counted."""
    times: list[list[float]] = [[] for _ in programs]
    for number in range(rounds + 1):
        for program, own in zip(programs, times):
            began = time.perf_counter()
            program()
            if number:
                own.append(time.perf_counter() - began)
    return times


def compare(what: str, amount: float, unit: str, before: tuple[str, Program], after: tuple[str, Program],
            rounds: int = 5, kept: str = "") -> Ratio:
    """Time two programs, each (name, function), that do `amount` of `unit` per call."""
    old, new = in_turns([before[1], after[1]], rounds)
    return ratio(what, amount, unit, (before[0], old), (after[0], new), kept)


def ratio(what: str, amount: float, unit: str, before: tuple[str, Sequence[float]], after: tuple[str, Sequence[float]],
          kept: str = "") -> Ratio:
    """The Ratio of two programs, each (name, seconds of each round), timed alternately."""
    ratios = [one / other for one, other in zip(before[1], after[1])]
    return Ratio(what, before[0], after[0], f"{unit}/s", amount / statistics.median(before[1]),
                 amount / statistics.median(after[1]), statistics.median(ratios), min(ratios), max(ratios), kept)


def ratio_row(row: Ratio) -> str:
    """Line of a Markdown table."""
    rates = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (row.rate_before, row.rate_after))
    return (f"| {row.what} | {row.before} | {row.after} | {' -> '.join(rates)} {row.unit} | "
            f"**{row.ratio:.2f}** ({row.low:.2f}-{row.high:.2f}) | {row.kept} |")


def print_rows(rows: Iterable[Ratio]) -> None:
    """The rows as a Markdown table, each as soon as it is measured."""
    print("| work | before | after | rate | ratio (rounds) | result |\n|---|---|---|---:|---:|---|")
    for row in rows:
        print(ratio_row(row), flush=True)
    print()


def print_part(part: ModuleType) -> None:
    """Print what the functions rows and notes of a module of bench/ return, as far as it has them."""
    print(f"\n## {part.__name__.removeprefix('bench.')}\n")
    if hasattr(part, "rows"):
        print_rows(part.rows())
    if hasattr(part, "notes"):
        print(*part.notes(), sep="\n")
