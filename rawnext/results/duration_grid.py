# SPDX-License-Identifier: Apache-2.0
"""Error rates of several systems by duration and by the side that was cut: the results of steps/duration_grid.sh."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rawnext.errors import InputError
from rawnext.results.report import stamps, unique
from rawnext.results.rows import MEASURES, Row, figure, label_of, markdown, read_row, read_tsv, seconds

SIDES = {"test": "test side cut", "enroll": "enroll side cut", "both": "both sides cut"}
SHOWN = [name for name in MEASURES if "cllr" not in name]


class Grid(NamedTuple):
    """cells: (system, side, duration) -> evaluation; every side has `full`.   cuts: lines of cuts.tsv."""

    systems: list[str]
    sides: list[str]
    durations: list[str]  # shortest first
    cells: dict[tuple[str, str, str], Row]
    cuts: list[dict[str, str]]


def read_grid(out: Path, systems: Sequence[str]) -> Grid:
    """Raises: InputError: a system without evaluations, or a file that steps/evaluate.py did not write."""
    found = {system: read_system(out / system / "scores") for system in systems}
    sides = [side for side in SIDES if any(key[0] == side for cells in found.values() for key in cells)]
    cells = {(system, side, row["duration"]): row for side in sides for system in systems
             for (cut, _), row in sorted(found[system].items(), key=lambda item: seconds(item[0][1]))
             if cut in (side, "full")}
    durations = sorted({duration for _, _, duration in cells}, key=seconds)
    return Grid(list(systems), sides, durations, cells, read_tsv(out / "data" / "cuts.tsv"))


def read_system(scores: Path) -> dict[tuple[str, str], Row]:
    """(side, duration) -> evaluation of the cosines, with the actual DCF of calibrated scores if there are any."""
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
    lines = ["\t".join(["system", "side", "duration", "num_trials", "eer_low", "eer_high", *SHOWN])]
    for key, row in grid.cells.items():
        ends = [format(end, ".4f") for end in row.get("eer_interval", ())] or ["", ""]
        figures = [format(row[name], ".4f") if name in row else "" for name in SHOWN]
        lines.append("\t".join([*key, str(row["num_trials"]), *ends, *figures]))
    return lines


def page(grid: Grid) -> list[str]:
    """Markdown: for each measure and side a line for each system; an empty cell was not measured."""
    rows = list(grid.cells.values())
    lines = [f"# {rows[0]['data_set']}, {rows[0]['list']} by duration", ""]
    for name in SHOWN:
        if any(name in row for row in rows):
            for side in grid.sides:
                table = [["system", *map(label_of, grid.durations)],
                         *([system, *(figure(grid.cells.get((system, side, d), {}), name) for d in grid.durations)]
                           for system in grid.systems)]
                lines += [f"## {MEASURES[name][0]}, {SIDES[side]}", "", *markdown(table, 1), ""]
    lines += ["## How it was measured", "", *policy_lines(grid.cuts[0], rows[0]), ""]
    if known := [cut for cut in grid.cuts if cut["duration"] != "full"]:
        lines += [*markdown([["cut", *(cut["duration"] for cut in known)],
                             ["shorter utterances", *(cut["shorter"] for cut in known)]], 1), ""]
    shown = [("Command", unique(rows, "command")), *stamps(rows)]
    return lines + [f"- {name}: {value}" for name, values in shown if name in ("Command", "Commit", "Evaluated on")
                    for value in values]


def policy_lines(cut: dict[str, str], first: Row) -> list[str]:
    part = {"centre": "the middle", "start": "the beginning",
            "random": f"a random part, drawn by utterance (seed {cut['seed']}, equal for all lengths)"}[cut["policy"]]
    short = {"keep": "Shorter utterances are kept whole.", "tile": "Shorter utterances are repeated up to the cut.",
             "drop": "Utterances shorter than the longest cut are left out of all cells: "
                     f"{cut['dropped_utts']} utterances and their {cut['dropped_trials']} trials."}[cut["short"]]
    return [f"- {int(cut['trials']):,} trials of {int(cut['utts']):,} utterances, the same in every cell; "
            f"protocol {first['protocol']}, cosine.",
            f"- A cut keeps {part} of an utterance. {short}",
            *(["- [low, high]: 95 % of a bootstrap over speakers."] if "eer_interval" in first else [])]
