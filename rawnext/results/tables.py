# SPDX-License-Identifier: Apache-2.0
"""The tables of the evaluations of an experiment together with the paper's figures, and what a reader must know.

A figure that was neither measured nor published is an empty cell.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rawnext.results.rows import MEASURES, OFFICIAL_TRIALS, Row, label_of, list_order, seconds, title_of
from rawnext.scoring.metrics import EER_DEFINITION, EER_DEFINITIONS

Table = list[list[str]]  # header and lines

PAPER_NAMES = {"eer": "eer", "min_dcf_01": "mindcf01", "min_dcf_05": "mindcf05"}  # columns of conf/paper.tsv


def figure(row: Row, measure: str) -> str:
    """`5.30 [4.6, 6.1]`: a measure, the EER with its interval; empty if not computed."""
    if row.get(measure) is None:
        return ""
    ends = row.get("eer_interval") if measure == "eer" else None
    return format(row[measure], MEASURES[measure][1]) + (" [{:.1f}, {:.1f}]".format(*ends) if ends else "")


def headline_row(rows: list[Row]) -> Row:
    """The evaluation of the first list and data set at the longest duration, by cosine if it was scored by cosine.

    It is not chosen by its result: the lowest of several EERs on one list is too low.
    """
    return min(alternatives(rows), key=lambda row: row["backend"] != "cosine")  # the first of equals


def alternatives(rows: list[Row]) -> list[Row]:
    """The evaluations of the first list and data set at the longest duration."""
    own = [row for row in rows if all(row[name] == rows[0][name] for name in ("list", "data_set"))]
    longest = max(seconds(row["duration"]) for row in own)
    return [row for row in own if seconds(row["duration"]) == longest]


def headline(rows: list[Row]) -> str:
    """The EER of headline_row, its interval, and what restricts it."""
    row = headline_row(rows)
    why = "; ".join(row[name] for name in ("interval_note", "warning") if name in row)
    return described(row) + f" ({why})" * bool(why)


def lowest(rows: list[Row]) -> str:
    """The lowest EER of the headline's list and duration; empty if it is the headline's."""
    same = alternatives(rows)
    row = min(same, key=lambda row: row["eer"])
    if row["eer"] == headline_row(rows)["eer"]:
        return ""
    return f"The lowest of {len(same)}, optimistic because it was chosen on this list: {described(row)}."


def described(row: Row) -> str:
    value, _, ends = figure(row, "eer").partition(" ")
    return f"EER {value} %{' ' * bool(ends)}{ends} on {title_of(row)}, {label_of(row['duration'])}"


def tables(rows: list[Row], paper: list[dict[str, str]]) -> list[tuple[str, Table]]:
    """(title, table) of each measure; see result_table."""
    return [(title, result_table(rows, paper, measure)) for measure, (title, _) in MEASURES.items()
            if any(measure in row for row in rows)]


def result_table(rows: list[Row], paper: list[dict[str, str]], measure: str) -> Table:
    """A line for each list and duration; a column for each back end, and last the paper's figures, in asterisks.

    The columns are also named after the `system` (if rows have one) and the protocol, where these differ.
    """
    own = [row for row in rows if measure in row]
    varied = [name for name in ("system", "backend", "protocol")
              if name == "backend" or len({row.get(name) for row in own}) > 1]
    source = {row["list"]: row["data_set"] for row in reversed(own)}  # the paper's lists are of the first, no copy
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in own:
        column = ", ".join(row[name] for name in varied)
        lines.setdefault((row["list"], row["data_set"], row["duration"]), {})[column] = figure(row, measure)
    columns = list(dict.fromkeys(column for cells in lines.values() for column in cells))
    for line in paper:
        key, value = (line["list"], source.get(line["list"], ""), line["duration"]), PAPER_NAMES.get(measure, "")
        if key in lines and line.get(value):
            lines[key]["*published*"] = f"*{line[value]}*"
    columns += ["*published*"] * any("*published*" in cells for cells in lines.values())
    keys = sorted(lines, key=lambda key: (*list_order(key[0]), key[1], -seconds(key[2])))
    return [["list", "duration", *columns],
            *([f"{key[0]} of {key[1]}", label_of(key[2]), *(lines[key].get(name, "") for name in columns)]
              for key in keys)]


def notes(rows: list[Row], paper: list[dict[str, str]]) -> list[str]:
    """What a reader must know before comparing our figures with the paper's."""
    lines = []
    if paper:
        places = ", ".join(dict.fromkeys(line["table"] for line in paper))
        lines.append(f"*Published*, in italics: {paper[0]['system']}, as published ({places}).")
    for name, data_set, num in dict.fromkeys((row["list"], row["data_set"], row["num_trials"]) for row in rows):
        official = OFFICIAL_TRIALS.get(name)
        if num != official and (official or paper):
            what = f"the paper's {name} has {official:,}" if official else "the paper has no such list"
            lines.append(f"List {name} of {data_set} is not the paper's: it has {num:,} trials, {what}. "
                         "The figures cannot be compared with the paper's.")
    return lines + method_notes(rows)


def method_notes(rows: list[Row]) -> list[str]:
    """What is wrong with scores; how intervals were made, or why there are none; another definition of the EER."""
    lines = [f"**Warning**, {title_of(row)}, {label_of(row['duration'])}: {row['warning']}" for row in rows
             if "warning" in row]
    for note in dict.fromkeys(row["interval_note"] for row in rows if "interval_note" in row):
        which = [f"{title_of(row)}, {label_of(row['duration'])}" for row in rows if row.get("interval_note") == note]
        lines.append(f"{note[0].upper()}{note[1:]}. Of {which[0]}"
                     + (f" and {len(which) - 1} other evaluations." if len(which) > 1 else "."))
    if speakers := sorted({row["num_speakers"] for row in rows if {"eer_interval", "num_speakers"} <= row.keys()}):
        lines.append("EER [from, to]: 95 % interval by a bootstrap over the test speakers "
                     f"({', '.join(map(str, speakers))} of them), bias-corrected percentiles: "
                     "docs/reference/metrics.md.")
    for name in eer_definitions(rows):
        if name != EER_DEFINITION:
            lines.append(f"EER by the definition `{name}`: {EER_DEFINITIONS[name]}.")
    return lines


def eer_definitions(rows: Iterable[Row]) -> list[str]:
    """Names of the definitions in use; evaluations of early versions name none and used the default."""
    return list(dict.fromkeys(row.get("eer_definition", EER_DEFINITION) for row in rows))


def markdown(table: Table, words: int = 2) -> list[str]:
    """Lines of a table whose first columns, `words` of them, are text; numbers are aligned to the right."""
    header, *lines = table
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *lines)]


def aligned(table: Table) -> list[str]:
    """The table as plain text: the first two columns are words, aligned to the left, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*table)]
    return ["  ".join(cell.rjust(width) if place >= 2 else cell.ljust(width)
                      for place, (cell, width) in enumerate(zip(cells, widths))).rstrip() for cells in table]


def tsv(rows: list[Row]) -> list[str]:
    """One line per evaluation, a column for each stamp; white space within a value becomes one space."""
    flat = [columns_of(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    return ["\t".join(names), *("\t".join(" ".join(str(row.get(name, "")).split()) for name in names) for row in flat)]


def columns_of(row: Row) -> dict[str, Any]:
    """The columns of results.tsv, which has no conditions."""
    return flatten({name: value for name, value in row.items() if name != "conditions"})


def flatten(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"epochs": 3}} -> {"train.epochs": 3}"""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
