# SPDX-License-Identifier: Apache-2.0
"""Tables 2, 3 and 4 of the RawNeXt paper, with our measurements under each of their rows.

A figure that was neither measured nor published is an empty cell.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rawnext.errors import InputError
from rawnext.registry import nearest
from rawnext.results.rows import Row, label_of, read_rows
from rawnext.results.tables import PAPER_NAMES, Table, figure, markdown, notes

EERS = tuple((f"EER % {label_of(duration)}", "O", duration, "eer") for duration in ("1", "2", "5", "full"))
COLUMNS = {  # table -> (title, list, duration, measure) of each column
    "2": (*EERS, ("minDCF full", "O", "full", "min_dcf_01")),
    "3": tuple((f"{name} {title}", name, "full", measure) for name in ("O", "E", "H")
               for title, measure in (("EER %", "eer"), ("minDCF", "min_dcf_01"))),
    "4": EERS}
CAPTIONS = {"2": "Table 2: Vox1-O against the test side's duration, minDCF at P_target 0.01",
            "3": "Table 3: Vox1-O, E and H, minDCF at P_target 0.01",
            "4": "Table 4: ablation on Vox1-O (D deep layer aggregation, E elastic, G gate, U upsampling)"}
UNSTATED = " †"
Rows = list[dict[str, str]]


def find_row(layout: Rows, name: str) -> str | None:
    """The system of a table's row; name: as a configuration's `paper:`, or the row's number. None: no such row."""
    return next((line["system"] for line in layout if name in (line["system"], line["measured_by"])
                 or (name and line["system"].endswith(f" row {name}"))), None)


def assign(layout: Rows, arguments: Iterable[str], paper_of) -> tuple[dict[str, list[Path]], list[Path]]:
    """Match experiments to rows of a table: arguments are `EXP` or `SYSTEM=EXP`.

    Args: paper_of: function from an experiment to its configuration's `paper:`.
    Returns: system -> experiments; and the experiments that belong to no row of this table.
    Raises: InputError: a SYSTEM that the table lacks.
    """
    found: dict[str, list[Path]] = {}
    others: list[Path] = []
    for argument in arguments:
        name, given, place = argument.rpartition("=")
        if given and not Path(argument).exists():
            exp, system = Path(place), find_row(layout, name)
            if system is None:
                known = [line[column] for line in layout for column in ("system", "measured_by")]
                raise InputError(argument, None, f"the table has no row {name!r}{nearest(name, set(known))}")
        else:
            exp = Path(argument)
            system = find_row(layout, paper_of(exp))
        if system is None:
            others.append(exp)
        else:
            found.setdefault(system, []).append(exp)
    return found, others


def measured(exp: Path, protocol: str, backend: str, data_set: str | None, lists: Mapping[str, str]) -> list[Row]:
    """Evaluations of an experiment by one protocol and backend, on the lists that correspond to the paper's.

    Args: data_set: the one to use; None: only one has these lists.   lists: our name -> O, E or H.
    Raises: InputError: two data sets have such a list.
    """
    rows = [{**row, "list": lists[row["list"]]} for row in read_rows(exp) if row["list"] in lists
            and (row["protocol"], row["backend"], row["data_set"]) == (protocol, backend, data_set or row["data_set"])]
    for name in ("O", "E", "H"):
        if len(sets := sorted({row["data_set"] for row in rows if row["list"] == name})) > 1:
            raise InputError(exp, None, f"{' and '.join(sets)} both have a list for {name}; name one by --data-set")
    return rows


def paper_cells(paper: Rows, table: str, system: str) -> list[str]:
    """The paper's figures in the columns of a table; a minDCF without a stated prior is marked."""
    cells = []
    for _, name, duration, measure in COLUMNS[table]:
        line = next((line for line in paper if (line["table"], line["system"], line["list"], line["duration"]) ==
                     (f"Table {table}", system, name, duration)), {})
        unstated = line.get("mindcf", "") if measure == "min_dcf_01" else ""
        cells.append(line.get(PAPER_NAMES[measure], "") or (unstated and unstated + UNSTATED))
    return cells


def our_cells(rows: Sequence[Row], table: str) -> list[str]:
    by = {(row["list"], row["duration"]): row for row in rows}
    return [figure({**by.get((name, duration), {}), "eer_interval": None}, measure)
            for _, name, duration, measure in COLUMNS[table]]


def build(table: str, layout: Rows, paper: Rows, found: Mapping[str, Mapping[str, Sequence[Row]]]) -> Table:
    """Header and lines; under each of the paper's rows one line for each experiment that measured it, or an empty line.

    Args: found: system -> name of the experiment -> its evaluations.
    """
    marks = [name for name in layout[0] if name not in ("table", "system", "measured_by")
             and any(line[name] for line in layout)]
    lines: Table = [["system", *marks, "source", *(title for title, *_ in COLUMNS[table])]]
    for row in layout:
        system = row["system"]
        lines.append([system, *(row[name] for name in marks), "paper", *paper_cells(paper, table, system)])
        for exp, rows in (found.get(system) or {"": []}).items():
            lines.append(["", *("" for _ in marks), exp, *our_cells(rows, table)])
    return lines


def page(table: str, lines: Table, rows: Sequence[Row], how: str) -> list[str]:
    """Markdown: the table, and what a reader must know before comparing. how: protocol and backend, in words."""
    text = [f"### {CAPTIONS[table]}", "", *markdown(lines, lines[0].index("source") + 1), "",
            f"Source *paper*: as published. Other lines: measured by the experiment of this name, {how}; an empty line "
            "was not measured.", ""]
    if any(cell.endswith(UNSTATED) for cells in lines for cell in cells):
        text += [f"{UNSTATED.strip()} quoted by the paper, which does not state P_target.", ""]
    for note in dict.fromkeys(notes(list(rows), [{"system": "", "table": ""}])[1:]):
        text += [note, ""]
    return text[:-1]
