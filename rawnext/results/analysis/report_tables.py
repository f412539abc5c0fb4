# SPDX-License-Identifier: Apache-2.0
"""The tables of report.html: figures with their intervals, and all columns of results.tsv."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rawnext.results.conditions import group_table, measured_cell, shown_rows
from rawnext.results.evaluation import TITLES
from rawnext.results.rows import Row, key_of, label_of, seconds, title_of
from rawnext.results.tables import Table as TextTable
from rawnext.results.tables import result_table


class System(NamedTuple):
    """One experiment."""

    name: str
    exp: Path
    config: dict[str, Any]
    rows: list[Row]


class Cell(NamedTuple):
    """A table's cell.   sort: the number to sort by; None: sort by the text."""

    text: str
    sort: float | None = None


Table = tuple[list[str], list[list[Cell]]]  # header and lines


def eer_table(systems: Sequence[System], paper: list[dict[str, str]]) -> Table:
    """The EER by list and duration, a column for each system and back end; see rawnext.results.tables.result_table."""
    rows = [{**row, "system": s.name} for s in systems for row in s.rows]
    return sortable(result_table(rows, paper, "eer"))


def sortable(table: TextTable) -> Table:
    """A table of texts; a cell that begins with a number is sorted by it, and `full` comes last."""
    header, *lines = table
    return header, [[Cell(text, 1e9 if text == "full" else number_in(text.strip("*").split(" ")[0].replace(",", "")))
                     for text in line] for line in lines]


def group_tables(systems: Sequence[System]) -> dict[str, list[tuple[str, Table]]]:
    """Condition -> (caption, table of its groups) of each system's headline and its calibration."""
    found: dict[str, list[tuple[str, Table]]] = {}
    for s in systems:
        for row in shown_rows(s.rows):
            header, *lines = group_table(row)
            for name in dict.fromkeys(line[0] for line in lines):
                caption = f"{name}, {s.name}, {title_of(row)}, {label_of(row['duration'])}"
                table = [header[1:], *(line[1:] for line in lines if line[0] == name)]
                found.setdefault(name, []).append((caption, sortable(table)))
    return found


def measure_table(systems: Sequence[System]) -> Table:
    """What was evaluated, then each measure of any row, with its interval."""
    shown = [name for name in TITLES if any(name in row for s in systems for row in s.rows)]
    header = ["system", "list", "data set", "protocol", "backend", "duration", *(TITLES[name] for name in shown),
              "trials", "targets"]
    return header, [[Cell(s.name), *map(Cell, key_of(row)),
                     Cell(label_of(row["duration"]), min(seconds(row["duration"]), 1e9)),
                     *(Cell(measured_cell(row, name), row.get(name)) for name in shown),
                     *(Cell(f"{row[name]:,}", row[name]) for name in ("num_trials", "num_target"))]
                    for s in systems for row in s.rows]


def cells(rows: Sequence[dict[str, Any]]) -> Table:
    header = list(dict.fromkeys(name for row in rows for name in row))
    return header, [[Cell(str(row.get(name, "")), number_in(row.get(name))) for name in header] for row in rows]


def number_in(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def trial_lists(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(f"{row['list']} of {row['data_set']}: {row['num_trials']:,} trials, "
                              f"{row['num_target']:,} target ({row['trials']}, sha256 {row['trials_sha256']})"
                              for row in rows))
