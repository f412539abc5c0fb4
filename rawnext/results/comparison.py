# SPDX-License-Identifier: Apache-2.0
"""Several experiments side by side: one table for each trial list, one line for each system."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rawnext.results.paired import paired_eer
from rawnext.results.report import code_block, markdown_lists, number, unique
from rawnext.results.rows import NAMES, Row, durations_of, figure, list_order, method_notes, read_rows

MEASURES = (("EER %", "eer", ".2f"), ("minDCF", "min_dcf_05", ".3f"), ("Cllr", "cllr", ".3f"))
COUNTS = ("num_params", "gmacs")


def comparison(exps: Sequence[Path], test: bool = False) -> list[str]:
    """Lines of Markdown: tables, then what all figures come from. Systems stand in the order given.

    Args: test: a second table of each list has the differences of EER from the first system, with intervals and p.
    Raises: InputError: an experiment without evaluations.
    """
    systems = {exp.name: read_rows(exp) for exp in exps}
    rows = [row for own in systems.values() for row in own]
    lines: list[str] = []
    for key in sorted(dict.fromkeys(of(row) for row in rows), key=lambda k: (k[1], *list_order(k[0]), *k[2:])):
        data_set, trials, protocol, backend = key[1], key[0], key[2], key[3]
        lines += [f"### {data_set}, {trials} ({protocol}, {backend})", "", *table(systems, key), ""]
        if test:
            lines += [*difference_table(systems, key), ""]
    lines += ["minDCF: P_target 0.05, costs 1 and 1. GMACs: of an utterance of 3.69 s, in the form that runs.",
              *method_notes(rows), "",
              "### Where the figures come from", "", *markdown_lists(rows), "", *training_table(systems), "",
              *code_block(unique(rows, "command")), ""]
    lines += [f"- Evaluated at commit {commit}" for commit in unique(rows, "commit")]
    return lines + [f"- Evaluated on {machine}" for machine in unique(rows, "hardware")]


def of(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in NAMES)


def table(systems: dict[str, list[Row]], key: tuple[str, ...]) -> list[str]:
    """Counts, and each measure at each duration, of the systems on one list; a cell that nobody measured is empty."""
    chosen = {name: [row for row in rows if of(row) == key] for name, rows in systems.items()}
    measured = {row["duration"] for rows in chosen.values() for row in rows}
    durations = [d for d in durations_of(row for rows in chosen.values() for row in rows) if d in measured]
    columns = [(title, measure, form) for title, measure, form in MEASURES
               if any(measure in row for rows in chosen.values() for row in rows)]
    header = ["system", "parameters", "GMACs", *(f"{title} {d if d == 'full' else d + ' s'}"
                                                 for title, _, _ in columns for d in durations)]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, rows in chosen.items():
        if rows:
            by = {row["duration"]: row for row in rows}
            cells = [cell(rows[0].get("train", {}).get(count)) for count in COUNTS]
            cells += [figure(by.get(d, {}), measure, form) for _, measure, form in columns for d in durations]
            lines.append([name, *cells])
    return [f"| {' | '.join(line)} |" for line in lines]


def difference_table(systems: dict[str, list[Row]], key: tuple[str, ...]) -> list[str]:
    """How the EER of each system on one list differs from the first one's there, duration by duration."""
    chosen = {name: {row["duration"]: row for row in rows if of(row) == key} for name, rows in systems.items()}
    (first, ours), *others = ((name, by) for name, by in chosen.items() if by)
    lines = [[f"EER % minus that of {first}", *(d if d == "full" else f"{d} s" for d in ours)],
             ["---", *["---:"] * len(ours)]]
    lines += [[name, *(paired_eer(by[d], ours[d]) if d in by else "" for d in ours)] for name, by in others]
    return [f"| {' | '.join(line)} |" for line in lines] if others else []


def training_table(systems: dict[str, list[Row]]) -> list[str]:
    """How each system was trained, as far as its train_info.json says."""
    lines = ["| system | steps | epochs | s an epoch | processes x threads | training speakers | utts | trained on | "
             "commit |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |"]
    for name, rows in systems.items():
        info: dict[str, Any] = next((row["train"] for row in rows if row.get("train")), {})
        seconds, epochs = info.get("seconds"), info.get("epochs")
        pace = f"{seconds / epochs:.0f}" if seconds and epochs else ""
        share = " x ".join(str(info[k]) for k in ("processes", "num_threads") if k in info)
        cells = [name, cell(info.get("steps")), cell(epochs), pace, share, cell(info.get("num_speakers")),
                 cell(info.get("num_utts")), cell(info.get("hardware")), cell(info.get("commit"))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cell(value: Any) -> str:
    return "" if value is None else number(value)
