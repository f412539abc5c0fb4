# SPDX-License-Identifier: Apache-2.0
"""Error rates of several systems over duration and the side that was cut, as steps/duration_grid.sh measured them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rawnext.errors import InputError
from rawnext.results.report import unique
from rawnext.results.rows import Row, read_row, read_tsv, seconds

SIDES = {"test": "test side cut", "enroll": "enroll side cut", "both": "both sides cut"}
MEASURES = (("EER %", "eer", ".2f"), ("minDCF, P_target 0.01", "min_dcf_01", ".3f"),
            ("minDCF, P_target 0.05", "min_dcf_05", ".3f"), ("actual DCF, P_target 0.01", "act_dcf_01", ".3f"),
            ("actual DCF, P_target 0.05", "act_dcf_05", ".3f"))


class Grid(NamedTuple):
    """cells: (system, side, duration) -> evaluation; full stands on every side. cuts: lines of cuts.tsv."""

    systems: list[str]
    sides: list[str]
    durations: list[str]  # shortest first
    cells: dict[tuple[str, str, str], Row]
    cuts: list[dict[str, str]]


def read_grid(out: Path, systems: Sequence[str]) -> Grid:
    """Raises: InputError: there is nothing of a system, or a file that steps/evaluate.py did not write."""
    cells: dict[tuple[str, str, str], Row] = {}
    for system in systems:
        found = read_system(out / system / "scores")
        for side in SIDES:
            if any(key[0] == side for key in found):
                cells |= {(system, side, row["duration"]): row for (cut, _), row in found.items()
                          if cut in (side, "full")}
    sides = [side for side in SIDES if any(key[1] == side for key in cells)]
    durations = sorted({key[2] for key in cells}, key=seconds)
    return Grid(list(systems), sides, durations, cells, read_tsv(out / "data" / "cuts.tsv"))


def read_system(scores: Path) -> dict[tuple[str, str], Row]:
    """(side, duration) -> evaluation of the cosines, with the actual DCF of the calibrated ones where there are any."""
    found = {}
    for path in sorted((scores / "cosine").glob("*.json")):
        row, calibrated = read_row(path), scores / "cosine+cal" / path.name
        if calibrated.exists():
            row |= {name: value for name, value in read_row(calibrated).items() if name.startswith("act_dcf")}
        found[path.stem.partition("_")[0], row["duration"]] = row
    if not found:
        raise InputError(scores, None, "holds no evaluation; run steps/duration_grid.sh first")
    return found


def tsv(grid: Grid) -> list[str]:
    """A line for each cell; eer_low and eer_high are the ends of its interval."""
    names = [name for _, name, _ in MEASURES]
    lines = ["\t".join(["system", "side", "duration", "num_trials", "eer_low", "eer_high", *names])]
    for (system, side, duration), row in sorted(grid.cells.items(), key=lambda item: order(grid, item[0])):
        ends = [format(end, ".4f") for end in row.get("eer_interval", ())] or ["", ""]
        figures = [format(row[name], ".4f") if name in row else "" for name in names]
        lines.append("\t".join([system, side, duration, str(row["num_trials"]), *ends, *figures]))
    return lines


def order(grid: Grid, key: tuple[str, str, str]) -> tuple:
    return grid.sides.index(key[1]), grid.systems.index(key[0]), seconds(key[2])


def page(grid: Grid) -> list[str]:
    """Markdown: for each measure and side a line for each system; an empty cell was not measured."""
    cut, first = grid.cuts[0], next(iter(grid.cells.values()))
    lines = [f"# {first['data_set']}, {first['list']} over duration", ""]
    for title, name, form in MEASURES:
        if any(name in row for row in grid.cells.values()):
            for side in grid.sides:
                lines += [f"## {title}, {SIDES[side]}", "", *table(grid, side, name, form), ""]
    lines += ["## How it was measured", "", *policy_lines(cut, first), "", *short_table(grid.cuts), ""]
    return lines + [f"- {what}: {value}" for what, stamp in (("Command", "command"), ("Commit", "commit"),
                                                             ("Evaluated on", "hardware"))
                    for value in unique(grid.cells.values(), stamp)]


def table(grid: Grid, side: str, name: str, form: str) -> list[str]:
    header = ["system", *(d if d == "full" else f"{d} s" for d in grid.durations)]
    lines = [header, ["---", *["---:"] * len(grid.durations)]]
    for system in grid.systems:
        row = [grid.cells.get((system, side, duration), {}) for duration in grid.durations]
        lines.append([system, *(cell(of, name, form) for of in row)])
    return [f"| {' | '.join(line)} |" for line in lines]


def cell(row: Row, name: str, form: str) -> str:
    """A figure, and the EER's interval behind it."""
    if name not in row:
        return ""
    ends = row.get("eer_interval", ()) if name == "eer" else ()
    return format(row[name], form) + (f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else "")


def policy_lines(cut: dict[str, str], first: Row) -> list[str]:
    where = {"centre": "the middle", "start": "the beginning",
             "random": f"a place drawn by utterance (seed {cut['seed']}, the same for all lengths)"}[cut["policy"]]
    short = {"keep": "are kept whole", "tile": "are repeated up to the cut",
             "drop": "than the longest cut are left out of all cells: "
                     f"{cut['dropped_utts']} utterances and their {cut['dropped_trials']} trials"}[cut["short"]]
    return [f"- {int(cut['trials']):,} trials of {int(cut['utts']):,} utterances, the same in every cell; "
            f"protocol {first['protocol']}, cosine.",
            f"- Of an utterance {where} stays. Those that are shorter {short}.",
            *(["- [low, high]: 95 % of a bootstrap over speakers."] if "eer_interval" in first else [])]


def short_table(cuts: list[dict[str, str]]) -> list[str]:
    known = [cut for cut in cuts if cut["duration"] != "full"]
    return [f"| cut | {' | '.join(cut['duration'] for cut in known)} |", f"| --- |{' ---: |' * len(known)}",
            f"| shorter utterances | {' | '.join(cut['shorter'] for cut in known)} |"] if known else []
