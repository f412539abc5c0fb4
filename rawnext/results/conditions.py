# SPDX-License-Identifier: Apache-2.0
"""The measures of an evaluation by condition: gender, age, language, duration and what else tables of the data say.

A condition is a table utt2X or spk2X of the data directories of the trials. Its groups are the trials of one value:

- a table of speakers, or of both sides' utterances: the value of both; `different` has the trials with two values;
- a table of one side's utterances, and the duration: the value of that side;
- utt2session: `same` and `different` are the sessions of target trials; both groups have all nontarget trials, because
  two speakers have no common session.

Numbers are binned. Each group is compared with the one that has most target trials, in the same bootstrap samples of
speakers; p is multiplied by the number of comparisons in the evaluation (Bonferroni).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rawnext.files import PathLike, condition_tables
from rawnext.kaldi.tables import Trials, read_enroll_map, read_table
from rawnext.kaldi.words import to_number
from rawnext.results.evaluation import Difference, interval_entries, measures
from rawnext.results.rows import MEASURES, Row
from rawnext.results.tables import Table, alternatives, headline_row
from rawnext.scoring.bootstrap import REPLICATES, bootstrap_parts, interval, p_value, units_of

EDGES = {"age": (13, 18, 31, 46, 61), "dur": (2, 4, 8, 16)}  # years and seconds; other numbers: quartiles
MOST = 10  # groups of a condition; more numbers are binned, of more words those with most target trials are used
DIFFERENT = "different"
SHOWN = ("eer", "act_dcf_01", "cllr")  # measures of groups


class Condition(NamedTuple):
    """name: such as `gender`.   groups: value -> indices of its trials."""

    name: str
    groups: dict[str, np.ndarray]


# --- the groups

def conditions_of(trials: Trials, path: PathLike, utt2spk: PathLike, enroll_utt2spk: PathLike,
                  cut: bool = False) -> list[Condition]:
    """The conditions of a list by the tables next to the two utt2spk, in the order of their names.

    Conditions with one group are left out.   Args: path: of the list.   cut: durations are not those of utt2dur.
    Raises: InputError: a damaged table.
    """
    models = Path(f"{path}.enroll")
    sides = [Side(Path(enroll_utt2spk), trials.enroll, read_enroll_map(models) if models.exists() else {}),
             Side(Path(utt2spk), trials.test, {})]
    tables: dict[str, dict[Path, dict[str, str]]] = {}  # name -> folder -> table
    for folder in dict.fromkeys(side.utt2spk.parent for side in sides):
        for table in condition_tables(folder):
            tables.setdefault(table.name, {})[folder] = read_table(table)
    found = []
    for name in sorted(tables.keys() - ({"utt2dur"} if cut else set()), key=lambda name: name[4:]):
        if name.startswith("spk2"):  # one table knows the speakers of both sides
            speakers = {spk: value for table in tables[name].values() for spk, value in table.items()}
            values = [side.values({utt: speakers.get(spk, "") for utt, spk in read_table(side.utt2spk).items()})
                      for side in sides]
        else:
            values = [side.values(tables[name].get(side.utt2spk.parent)) for side in sides]
        found += grouped(name, values, trials.is_target)
    return [one for one in found if len(one.groups) > 1]


class Side(NamedTuple):
    """utt2spk: of its data directory.   ids: (N,) of its column in the list.   models: id -> its utterances."""

    utt2spk: Path
    ids: list[str]
    models: dict[str, list[str]]

    def values(self, known: dict[str, str] | None) -> np.ndarray | None:
        """(N,) values of the trials' utterances by a table, None without one; empty if unknown or several."""
        if known is None:
            return None
        several = ({known.get(utt, "") for utt in utts} for utts in self.models.values())
        known = known | {model: own.pop() if len(own) == 1 else "" for model, own in zip(self.models, several)}
        return np.array([known.get(name, "") for name in self.ids], dtype=object)


def grouped(table: str, sides: Sequence[np.ndarray | None], is_target: np.ndarray) -> list[Condition]:
    """The conditions of a table, from the (N,) values of the enroll and the test side, None without the table."""
    name, (enroll, test) = table[4:], binned(table[4:], sides)
    if enroll is None or test is None or table == "utt2dur":
        name = "duration" if table == "utt2dur" else name
        return [condition(f"{name} of the {side} side", values, is_target)
                for side, values in (("enroll", enroll), ("test", test)) if values is not None]
    known = (enroll != "") & (test != "")
    if table == "utt2session":
        same = np.where(enroll == test, "same", DIFFERENT)
        return [Condition(name, {value: np.flatnonzero(known & (~is_target | (same == value)))
                                 for value in ("same", DIFFERENT) if (known & is_target & (same == value)).any()})]
    return [condition(name, np.where(known, np.where(enroll == test, enroll, DIFFERENT), ""), is_target)]


def condition(name: str, values: np.ndarray, is_target: np.ndarray) -> Condition:
    """The groups of (N,) values that have target trials, the bins of numbers in their order."""
    num_target = Counter(values[is_target].tolist())
    most = [value for value, _ in num_target.most_common() if value][:MOST]
    return Condition(name, {value: np.flatnonzero(values == value) for value in sorted(most, key=in_order)})


def in_order(value: str) -> tuple[float, str]:
    """Numbers and bins (`below 2`, `2 to below 4`) by size, before words."""
    word = value.removeprefix("below ").split(" ")[0]
    number = to_number(word)
    return (number - value.startswith("below") if np.isfinite(number) else np.inf), value


def binned(name: str, sides: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    """Values with bins in place of numbers, if all values are numbers, and bins are known or there are many numbers."""
    words = sorted({value for side in sides if side is not None for value in side.tolist() if value})
    numbers = np.array([to_number(word) for word in words])
    if not words or name == "session" or not np.isfinite(numbers).all() or (name not in EDGES and len(words) <= MOST):
        return list(sides)
    edges = EDGES.get(name) or np.unique(np.quantile(numbers, (0.25, 0.5, 0.75))).tolist()
    titles = [f"below {edges[0]:g}", *(f"{low:g} to below {high:g}" for low, high in pairwise(edges)),
              f"{edges[-1]:g} or more"]
    bins = {"": "", **{word: titles[place] for word, place in zip(words, np.digitize(numbers, edges))}}
    return [None if side is None else np.array([bins[value] for value in side.tolist()], dtype=object)
            for side in sides]


# --- their measures

def by_condition(scores: np.ndarray, is_target: np.ndarray, speakers: np.ndarray, conditions: Sequence[Condition],
                 definition: str, llr: bool, replicates: int = REPLICATES) -> list[dict[str, Any]]:
    """The entry `conditions` of a row: of each condition its `name`, the `reference` group and the `groups`.

    A group has its `value`, numbers of speakers and trials, each measure with its interval or `interval_note`, and, if
    it was compared, `difference`: measure -> [difference from the reference, its interval's ends, corrected p].

    Args: scores, is_target: (N,).   speakers: (2, N), of the enroll and test sides.   definition, llr: see measures.
        replicates: see bootstrap.
    """
    wanted = {name: measure for name, measure in measures(definition, llr).items() if name in SHOWN}
    parts = [[part for part in one.groups.values() if not lacks(is_target[part])] for one in conditions]
    chosen = [(scores[part], is_target[part], speakers[:, part]) for own in parts for part in own]
    if not chosen:
        return []
    estimates, samples = bootstrap_parts(chosen, list(wanted.values()), replicates)
    measured, found, compared = iter(zip(estimates, samples.swapaxes(0, 1))), [], []
    for one in conditions:
        groups: list[dict[str, Any]] = []
        known: dict[str, tuple[dict[str, Any], np.ndarray, np.ndarray]] = {}
        for value, part in one.groups.items():
            group: dict[str, Any] = {"value": value, "num_speakers": len(np.unique(speakers[:, part])),
                     "num_target": int(is_target[part].sum()), "num_nontarget": int((~is_target[part]).sum())}
            if why := lacks(is_target[part]):
                group["interval_note"] = why
            else:
                estimate, its_samples = next(measured)
                units = units_of(is_target[part], speakers[:, part])
                complete = its_samples[~np.isnan(its_samples).any(axis=1)]
                group |= dict(zip(wanted, estimate.tolist()))
                group |= interval_entries(units, list(wanted), estimate, complete, group["eer"])
                if not units.too_narrow:
                    known[value] = group, estimate, its_samples
            groups.append(group)
        reference = max(known, key=lambda value: known[value][0]["num_target"], default="")
        compared += [(own, known[reference]) for value, own in known.items() if value != reference]
        found.append({"name": one.name, "reference": reference, "groups": groups})
    for (group, a, in_a), (_, b, in_b) in compared:
        group["difference"] = differences(list(wanted), a - b, in_a - in_b, len(compared))
    return found


def lacks(is_target: np.ndarray) -> str:
    """Why a group has no figure; empty if it has."""
    return "no target trial" if not is_target.any() else "no nontarget trial" if is_target.all() else ""


def differences(names: Sequence[str], gap: np.ndarray, gaps: np.ndarray, num: int) -> dict[str, list[float]]:
    """Measure -> [difference, low, high, p] of differences (M,) and those in samples (R, M), NaN where there is none.

    A measure that differs by the same amount in all samples is left out.   Args: num: comparisons, to correct p.
    """
    gaps = gaps[~np.isnan(gaps).any(axis=1)]
    p = np.minimum(1, num * p_value(gap, gaps))
    columns = zip(names, np.stack([gap, *interval(gap, gaps), p], axis=1).tolist(), np.ptp(gaps, axis=0) > 0)
    return {name: values for name, values, varies in columns if varies}


# --- their tables

def shown_rows(rows: list[Row]) -> list[Row]:
    """The evaluations whose conditions are shown: that of the headline, and its calibration."""
    first = headline_row(rows)
    return [row for row in alternatives(rows) if row.get("conditions") and row["protocol"] == first["protocol"]
            and row["backend"] in (first["backend"], f"{first['backend']}+cal")]


def group_table(row: Row) -> Table:
    """A line for each group of each condition."""
    shown = [name for name in SHOWN if name in row]
    lines = [["condition", "group", "speakers", "target", "nontarget",
              *(title for name in shown for title in (MEASURES[name][0], "difference")), "note"]]
    for one in row["conditions"]:
        for group in one["groups"]:
            numbers = (f"{group[name]:,}" for name in ("num_speakers", "num_target", "num_nontarget"))
            cells = [cell for name in shown for cell in (measured_cell(group, name),
                                                         compared_cell(group, name, one["reference"]))]
            lines.append([one["name"], group["value"], *numbers, *cells, group.get("interval_note", "")])
    return lines


def measured_cell(group: Mapping[str, Any], name: str) -> str:
    """`5.30 [4.61, 6.12]`"""
    if name not in group:
        return ""
    form, ends = MEASURES[name][1], group.get(f"{name}_interval")
    return f"{group[name]:{form}}" + (f" [{ends[0]:{form}}, {ends[1]:{form}}]" if ends else "")


def compared_cell(group: Mapping[str, Any], name: str, reference: str) -> str:
    """`+1.20 [+0.30, +2.10], p 0.04`; empty if the group was not compared."""
    values = group.get("difference", {}).get(name)
    return str(Difference(name, 0, 0, *values)) if values else "reference" if group["value"] == reference else ""


NOTE = ("Each group is compared with the reference of its condition, the group with most target trials, in the same "
        "bootstrap samples of speakers; p is multiplied by the number of comparisons: docs/howto/conditions.md.")
