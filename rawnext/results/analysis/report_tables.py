# SPDX-License-Identifier: Apache-2.0
"""The tables of an experiment's page: figures with their intervals, all columns of results.tsv, and stamps."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rawnext.files import read_lines
from rawnext.results.analysis.plots import label_of
from rawnext.results.evaluation import TITLES
from rawnext.results.report import unique
from rawnext.results.rows import NAMES, Row, flatten, seconds


class System(NamedTuple):
    """One experiment."""

    name: str
    exp: Path
    config: dict[str, Any]
    rows: list[Row]


class Cell(NamedTuple):
    """A table's cell. sort: what its column is sorted by, where the text alone would not do."""

    text: str
    sort: float | None = None


Table = tuple[list[str], list[list[Cell]]]  # header and lines


def result_table(systems: Sequence[System]) -> Table:
    """Header and lines: what was evaluated, then each figure that any row has, with its interval."""
    shown = [name for name in TITLES if any(name in row for s in systems for row in s.rows)]
    header = ["system", "list", "data set", "protocol", "backend", "duration", *(TITLES[name] for name in shown),
              "trials", "targets"]
    lines = [[Cell(s.name), *(Cell(str(row[name])) for name in NAMES),
              Cell(label_of(row["duration"]), min(seconds(row["duration"]), 1e9)),
              *(figure_cell(row, name) for name in shown),
              *(Cell(f"{row[name]:,}", row[name]) for name in ("num_trials", "num_target"))]
             for s in systems for row in s.rows]
    return header, lines


def figure_cell(row: Row, name: str) -> Cell:
    if name not in row:
        return Cell("")
    form = ".2f" if name == "eer" else ".3f"  # per cent, else a cost
    limits = row.get(f"{name}_interval")
    words = f" [{limits[0]:{form}}, {limits[1]:{form}}]" if limits else ""
    return Cell(f"{row[name]:{form}}{words}", row[name])


def every_column(systems: Sequence[System]) -> Table:
    """All that results.tsv says, of all systems."""
    flat = [{"system": s.name, **flatten(row)} for s in systems for row in s.rows]
    header = list(dict.fromkeys(name for row in flat for name in row))
    return header, [[cell_of(row.get(name, "")) for name in header] for row in flat]


def cell_of(value: Any) -> Cell:
    return Cell(str(value), value if isinstance(value, int | float) else None)


def stamps_of(system: System) -> list[tuple[str, list[str]]]:
    """What a system's figures come from: (name, each different value)."""
    lists = dict.fromkeys(f"{row['list']} of {row['data_set']}: {row['num_trials']:,} trials, {row['num_target']:,} "
                          f"target ({row['trials']}, sha256 {row['trials_sha256']})" for row in system.rows)
    dates = sorted(unique(system.rows, "date"))
    trained = dict.fromkeys(", ".join(f"{name} {value}" for name, value in flatten(row["train"]).items())
                            for row in system.rows if row.get("train"))
    found = [("command", unique(system.rows, "command")), ("commit", unique(system.rows, "commit")),
             ("corpus", list(lists)), ("hardware", unique(system.rows, "hardware")),
             ("configuration", unique(system.rows, "config", "config_sha256")),
             ("evaluated", [" to ".join(dict.fromkeys((dates[0], dates[-1])))] if dates else []),
             ("training", list(trained))]
    return [(name, values) for name, values in found if values]


def read_cells(path: Path) -> Table:
    """Any table of columns between tabulators, with a header."""
    header, *lines = csv.reader((line for _, line in read_lines(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    return header, [[Cell(text, number_in(text)) for text in line] for line in lines]


def number_in(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
