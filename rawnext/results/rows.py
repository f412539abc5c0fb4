# SPDX-License-Identifier: Apache-2.0
"""The evaluations of an experiment, its training and the paper's figures: how they are read and sorted."""

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
from rawnext.stamp import sha256

Row = dict[str, Any]  # one evaluation, as steps/evaluate.py wrote it

OFFICIAL_TRIALS = {"O": 37_611, "E": 579_818, "H": 550_894}  # cleaned VoxCeleb1 lists
MEASURES = {  # name in a row -> title, format; those after minDCF are of log-likelihood ratios only
    "eer": ("EER %", ".2f"), "min_dcf_01": ("minDCF, P_target 0.01", ".3f"),
    "min_dcf_05": ("minDCF, P_target 0.05", ".3f"), "act_dcf_01": ("actual DCF, P_target 0.01", ".3f"),
    "act_dcf_05": ("actual DCF, P_target 0.05", ".3f"), "cllr": ("Cllr", ".3f"), "min_cllr": ("minimum Cllr", ".3f")}
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
