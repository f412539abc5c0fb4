# SPDX-License-Identifier: Apache-2.0
"""The evaluations of an experiment, and their tables together with the paper's figures.

A figure that was neither measured nor published is an empty cell.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rawnext.errors import InputError, as_input_error, printable, warn
from rawnext.files import PathLike, read_json, read_lines, read_object
from rawnext.identity import KEY, network_of
from rawnext.kaldi.tables import Trials, read_scored_trials
from rawnext.kaldi.words import to_number
from rawnext.registry import nearest
from rawnext.scoring.metrics import EER_DEFINITION, EER_DEFINITIONS
from rawnext.stamp import sha256

Row = dict[str, Any]     # one evaluation, as steps/evaluate.py wrote it
Table = list[list[str]]  # header and lines

OFFICIAL_TRIALS = {"O": 37_611, "E": 579_818, "H": 550_894}  # cleaned VoxCeleb1 lists
MEASURES = {  # name in a row -> title, format; those after minDCF are of log-likelihood ratios only
    "eer": ("EER %", ".2f"), "min_dcf_01": ("minDCF, P_target 0.01", ".3f"),
    "min_dcf_05": ("minDCF, P_target 0.05", ".3f"), "act_dcf_01": ("actual DCF, P_target 0.01", ".3f"),
    "act_dcf_05": ("actual DCF, P_target 0.05", ".3f"), "cllr": ("Cllr", ".3f"), "min_cllr": ("minimum Cllr", ".3f")}
PAPER_NAMES = {"eer": "eer", "min_dcf_01": "mindcf01", "min_dcf_05": "mindcf05"}  # columns of conf/paper.tsv
MOST = 1e15  # of a number in a row
NAMES = ("list", "data_set", "protocol", "backend")
TEXTS = ("crop", "enroll", "eer_definition", "interval_note", "warning", KEY,
         "scores_sha256")  # that an evaluation may lack
OWN = "row_sha256"  # of the other entries; evaluations of early versions lack it
NEEDED = (*NAMES, "duration", "trials", "trials_sha256", "num_trials", "num_target", "eer", "min_dcf_01", "min_dcf_05")


def key_of(row: Row) -> tuple[str, ...]:
    """List, data set, protocol and backend."""
    return tuple(row[name] for name in NAMES)


def title_of(row: Row) -> str:
    return f"{row['list']} of {row['data_set']}, protocol {row['protocol']}, {row['backend']}"


def read_rows(exp: Path) -> list[Row]:
    """All evaluations of the model below exp/scores, in the order of the tables; see of_one_model.

    Raises: InputError: there are none, a file was not written by steps/evaluate.py, or two have the same key.
    """
    rows: dict[tuple, tuple[Path, Row]] = {}
    for path, row in of_one_model(exp, {path: read_row(path) for path in sorted((exp / "scores").glob("**/*.json"))}):
        key = (*key_of(row), row["duration"])
        if key in rows:
            raise InputError(path, None, f"evaluates {' '.join(key)}, and so does {rows[key][0]}; delete one")
        rows[key] = path, {**row, "scores": str(path.with_suffix(""))}
    if not rows:
        raise InputError(exp / "scores", None, "holds no evaluation; run steps/evaluate.py first")
    return sorted((row for _, row in rows.values()), key=order)


def of_one_model(exp: Path, rows: dict[Path, Row]) -> list[tuple[Path, Row]]:
    """The evaluations without those of an earlier model, which are left out with a warning.

    The model is that of train_info.json, or else of the latest evaluation. Evaluations of unknown models stay.
    """
    trained = read_object(exp / "train_info.json")
    dated = sorted((str(row.get("date", "")), row[KEY]) for row in rows.values() if row.get(KEY))
    model = trained.get(KEY) or (network_of(dated[-1][1]) if dated else "")
    others = [path for path, row in rows.items() if network_of(row.get(KEY, "")) not in ("", model)] if model else []
    if others:
        warn(exp, f"left out {len(others)} evaluations of another model than {str(model)[:12]}, such as {others[0]} of "
                  f"{rows[others[0]][KEY][:12]}; stages 4 to 8 make those of the plan again")
    return [(path, row) for path, row in rows.items() if path not in others]


def read_evaluated(row: Row) -> tuple[Trials, np.ndarray]:
    """The trials of an evaluation and its (N,) scores.   Raises: InputError: see check_unchanged."""
    check_unchanged(row)
    return read_scored_trials(row["scores"], row["trials"])


def check_unchanged(row: Row, gone: bool = False) -> None:
    """Raise InputError if the scores or trials of an evaluation have changed since, or cannot be read: its figures are
    not theirs. Evaluations of early versions do not state what their scores were.

    Args: gone: they need not be there.
    """
    for name in ("scores", "trials") if "scores_sha256" in row else ():
        if not (gone and not os.path.exists(row[name])) and row[f"{name}_sha256"] != sha256(row[name]):
            raise InputError(row[name], None, f"has changed since {row['scores']}.json was made of it; evaluate again")


def row_sha256(row: Row) -> str:
    """SHA-256 of the entries of an evaluation, in any order, except OWN."""
    entries = {name: value for name, value in row.items() if name != OWN}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def read_row(path: Path) -> Row:
    """An evaluation, without OWN.   Raises: InputError: it was not written by steps/evaluate.py, or edited since."""
    row = read_json(path)
    missing = [name for name in NEEDED if not isinstance(row, dict) or name not in row]
    if missing:
        raise InputError(path, None, f"has no {missing[0]!r}: not written by steps/evaluate.py")
    if row.pop(OWN, own := row_sha256(row)) != own:
        raise InputError(path, None, "was edited after steps/evaluate.py had written it; evaluate again")
    if wrong := [name for name, value in row.items() if not can_be(name, value)]:
        raise InputError(path, None, f"{wrong[0]}: not a value that steps/evaluate.py writes")
    point = [name for name, value in row.items() if name.endswith("_interval") and value and value[0] == value[1]]
    if "eer_interval" in point:  # of an early version
        row["interval_note"] = "no interval: all samples of speakers have the same EER"
    return {name: printable(value) if isinstance(value, str) else value for name, value in row.items()
            if name not in point}


def can_be(name: str, value: Any) -> bool:
    """Whether an entry of a row has the type that steps/evaluate.py gives it."""
    if name == "conditions":
        return isinstance(value, list) and all(map(is_condition, value))
    if name in MEASURES or name in ("num_trials", "num_target", "num_nontarget", "num_speakers"):
        return is_numbers([value], 1)
    if name.endswith("_interval"):
        return value is None or is_numbers(value, 2)
    if name == "duration":
        return value == "full" or (isinstance(value, str) and 0 < to_number(value) < np.inf)
    return isinstance(value, dict if name == "train" else str) or name not in (*NEEDED, "train", *TEXTS)


def is_condition(value: Any) -> bool:
    """Whether this is an item of `conditions` as rawnext.results.conditions makes it."""
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("name", "reference")) and (
        isinstance(groups := value.get("groups"), list)) and all(map(is_group, groups))


def is_group(value: Any) -> bool:
    needed = ("num_speakers", "num_target", "num_nontarget")
    return (isinstance(value, dict) and isinstance(value.get("value"), str) and all(name in value for name in needed)
            and isinstance(gaps := value.get("difference", {}), dict) and all(is_numbers(x, 4) for x in gaps.values())
            and all(can_be(name, entry) for name, entry in value.items()))


def is_numbers(value: Any, num: int) -> bool:
    return isinstance(value, list) and len(value) == num and all(
        type(x) in (int, float) and abs(x) < MOST for x in value)


def read_training(path: Path) -> dict[str, np.ndarray]:
    """Columns of train.tsv, (E,) float64 for E epochs; an empty cell is NaN.

    Raises: InputError: no epoch, a missing column, or a cell that is not a number.
    """
    rows = read_tsv(path)
    if not rows:
        raise InputError(path, None, "has no epoch yet")
    for name in ("epoch", "loss", "acc", "lr", "eer_dev"):
        if name not in rows[0]:
            raise InputError(path, 1, f"has no column {name!r}")
    with as_input_error(path):
        return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def order(row: Row) -> tuple:
    """By list (list_order); a data set before its copies, whose names begin with its name; the paper's protocol before
    native; cosine first; long before short."""
    return (*list_order(row["list"]), row["data_set"], row["protocol"] != "paper", row["protocol"],
            row["backend"] != "cosine", row["backend"], -seconds(row["duration"]))


def list_order(name: str) -> tuple[int, str]:
    """The paper's lists, then the one that is named `trials`, then others."""
    known = [*OFFICIAL_TRIALS, "trials"]
    return (known.index(name) if name in known else len(known), name)


def seconds(duration: str) -> float:
    return float("inf") if duration == "full" else float(duration)


def label_of(duration: str) -> str:
    return duration if duration == "full" else f"{duration} s"


def read_tsv(path: PathLike) -> list[dict[str, str]]:
    """Lines of a table with a header.   Raises: InputError: a line with too few or too many columns."""
    lines = [(number, line.split("\t")) for number, line in read_lines(path)]
    header = lines[0][1] if lines else []
    for number, cells in lines:
        if len(cells) != len(header):
            raise InputError(path, number, f"expected {len(header)} columns, got {len(cells)}")
    return [dict(zip(header, cells)) for _, cells in lines[1:]]


def read_paper(path: PathLike, system: str) -> list[dict[str, str]]:
    """The lines of conf/paper.tsv for one system; none for an empty name.

    Raises: InputError: a line with too few or too many columns, or an unknown system.
    """
    paper = read_tsv(path)
    if system and system not in (known := {line["system"] for line in paper}):
        raise InputError(path, None, f"has no system {system!r}{nearest(system, known)}")
    return [line for line in paper if line["system"] == system]


def durations_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The durations of these evaluations or lines of the paper, longest first."""
    return sorted({row["duration"] for row in rows}, key=seconds, reverse=True)


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
