# SPDX-License-Identifier: Apache-2.0
"""Programs timed in turns in one run, so that what else the machine does falls on all of them; and tables of it."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

Program = Callable[[], object]


class Ratio(NamedTuple):
    """How much faster one program does the same work than another.

    what: the work.   before, after: what does it.   unit: of the rates (utts/s, hours/s).
    rate_before, rate_after: medians over the rounds.   ratio, low, high: median, least and greatest of the rounds.
    kept: what shows that the result is as good (EER before and after, largest difference).
    """

    part: str
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


class Growth(NamedTuple):
    """Seconds of a work at several sizes, and the exponent of seconds ~ size^exponent."""

    part: str
    what: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    exponent: float


def in_turns(programs: Sequence[Program], rounds: int) -> list[list[float]]:
    """Wall seconds of each program in each round; a first round, which warms caches, is not counted."""
    times: list[list[float]] = [[] for _ in programs]
    for number in range(rounds + 1):
        for program, own in zip(programs, times):
            began = time.perf_counter()
            program()
            if number:
                own.append(time.perf_counter() - began)
    return times


def compare(part: str, what: str, amount: float, unit: str, before: tuple[str, Program], after: tuple[str, Program],
            rounds: int = 5, kept: str = "") -> Ratio:
    """Time two programs, (name, function) each, that both do `amount` of `unit` in a call."""
    old, new = in_turns([before[1], after[1]], rounds)
    return ratio(part, what, amount, unit, (before[0], old), (after[0], new), kept)


def ratio(part: str, what: str, amount: float, unit: str, before: tuple[str, Sequence[float]],
          after: tuple[str, Sequence[float]], kept: str = "") -> Ratio:
    """Of two programs, (name, seconds in each round) each, that `in_turns` timed together."""
    ratios = [one / other for one, other in zip(before[1], after[1])]
    return Ratio(part, what, before[0], after[0], f"{unit}/s", amount / statistics.median(before[1]),
                 amount / statistics.median(after[1]), statistics.median(ratios), min(ratios), max(ratios), kept)


def growth(part: str, what: str, base: int, run: Callable[[int], object], rounds: int = 3,
           times: Sequence[int] = (1, 4, 16)) -> Growth:
    """Time `run(size)` at 1, 4 and 16 times `base`, the least of the rounds each, and fit the exponent."""
    sizes = tuple(base * factor for factor in times)
    seconds = tuple(map(min, in_turns([partial(run, size) for size in sizes], rounds)))
    return Growth(part, what, sizes, seconds, exponent(sizes, seconds))


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) over log(sizes), by least squares."""
    return statistics.linear_regression([math.log(n) for n in sizes], [math.log(s) for s in seconds]).slope


def ratio_table(rows: Iterable[Ratio]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| part | work | before | after | before, a second | after, a second | ratio (rounds) | result |",
             "|---|---|---|---|---:|---:|---:|---|"]
    for row in rows:
        number = f"{figures(row.rate_before)} {row.unit} | {figures(row.rate_after)} {row.unit}"
        spread = f"**{row.ratio:.2f}** ({row.low:.2f}-{row.high:.2f})"
        lines.append(f"| {row.part} | {row.what} | {row.before} | {row.after} | {number} | {spread} | {row.kept} |")
    return lines


def growth_table(rows: Iterable[Growth]) -> list[str]:
    lines = ["| part | work | size: seconds | exponent |", "|---|---|---|---:|"]
    for row in rows:
        cells = ", ".join(f"{size:,}: {seconds:.3g}" for size, seconds in zip(row.sizes, row.seconds))
        lines.append(f"| {row.part} | {row.what} | {cells} | {row.exponent:.2f} |")
    return lines


def figures(value: float) -> str:
    """Three figures, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
