# SPDX-License-Identifier: Apache-2.0
"""Several experiments compared: one table for each trial list, one line for each system."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rawnext.results.evaluation import paired_eer
from rawnext.results.report import code_block, commands, list_table, number, stamps
from rawnext.results.rows import MEASURES, Row, durations_of, is_numbers, key_of, label_of, list_order, read_rows
from rawnext.results.tables import Table, figure, markdown, method_notes

TITLES = {"eer": "EER %", "min_dcf_05": "minDCF", "cllr": "Cllr"}


def comparison(exps: Sequence[Path], test: bool = False, seeds: bool = False) -> list[str]:
    """Lines of Markdown: the tables, then how the figures were made. Systems keep the given order.

    Args: test: a second table of each list has the differences of EER from the first system, with intervals and p.
        seeds: the experiments are trainings of one system; a last line has their means and standard deviations.
    Raises: InputError: an experiment without evaluations.
    """
    systems = {exp.name: read_rows(exp) for exp in exps}
    rows = [row for own in systems.values() for row in own]
    lines: list[str] = []
    for key in sorted(dict.fromkeys(map(key_of, rows)), key=lambda k: (k[1], *list_order(k[0]), *k[2:])):
        trials, data_set, protocol, backend = key
        chosen = {name: by for name, own in systems.items()
                  if (by := {row["duration"]: row for row in own if key_of(row) == key})}
        lines += [f"### {data_set}, {trials} ({protocol}, {backend})", "", *markdown(table(chosen, seeds), 1), ""]
        if test:
            lines += [*(markdown(difference_table(chosen), 1) if len(chosen) > 1 else []), ""]
    return [*lines, "minDCF: P_target 0.05, costs 1 and 1. GMACs: for an utterance of 3.69 s, in the inference form.",
            *method_notes(rows), "", "### Where the figures come from", "", *markdown(list_table(rows), 4), "",
            *markdown(training_table(systems), 1), "", *code_block(commands(rows)), "",
            *(f"- {name}: {value}" for name, values in stamps(rows) if name in ("Commit", "Evaluated on")
              for value in values)]


def table(chosen: dict[str, dict[str, Row]], seeds: bool = False) -> Table:
    """Model size, and each measure at each duration.

    Args: chosen: system -> duration -> evaluation on one list.   seeds: see comparison.
    """
    rows = [row for by in chosen.values() for row in by.values()]
    durations = durations_of(rows)
    columns = [(measure, d) for measure in TITLES if any(measure in row for row in rows) for d in durations]
    lines = [["system", "parameters", "GMACs", *(f"{TITLES[measure]} {label_of(d)}" for measure, d in columns)]]
    for name, by in chosen.items():
        train = next(iter(by.values())).get("train", {})
        lines.append([name, *(number(train.get(count)) for count in ("num_params", "gmacs")),
                      *(figure(by.get(d, {}), measure) for measure, d in columns)])
    if seeds:
        values = ([by.get(d, {}).get(measure) for by in chosen.values()] for measure, d in columns)
        lines.append([f"mean of {len(chosen)}, standard deviation", "", "",
                      *(spread(own, measure) for own, (measure, _) in zip(values, columns))])
    return lines


def spread(values: Sequence[float | None], measure: str) -> str:
    """`5.30, 0.21`: mean and standard deviation (N - 1) over trainings; empty if one lacks the measure."""
    found = [value for value in values if value is not None]
    if len(found) < max(2, len(values)):
        return ""
    return ", ".join(format(x, MEASURES[measure][1]) for x in (statistics.mean(found), statistics.stdev(found)))


def difference_table(chosen: dict[str, dict[str, Row]]) -> Table:
    """The EER of each other system minus the first system's, at each duration."""
    (first, ours), *others = chosen.items()
    return [[f"EER % minus that of {first}", *map(label_of, ours)],
            *([name, *(paired_eer(by[d], ours[d]) if d in by else "" for d in ours)] for name, by in others)]


def training_table(systems: dict[str, list[Row]]) -> Table:
    """How each system was trained; what its train_info.json lacks is an empty cell."""
    lines = [["system", "steps", "epochs", "s per epoch", "processes x threads", "training speakers", "utts",
              "trained on", "commit"]]
    for name, rows in systems.items():
        info: dict[str, Any] = next((row["train"] for row in rows if row.get("train")), {})
        seconds, epochs = info.get("seconds"), info.get("epochs")
        lines.append([name, number(info.get("steps")), number(epochs),
                      f"{seconds / epochs:.0f}" if is_numbers([seconds, epochs], 2) and epochs else "",
                      " x ".join(str(info[k]) for k in ("processes", "num_threads") if k in info),
                      *(number(info.get(key)) for key in ("num_speakers", "num_utts", "hardware", "commit"))])
    return lines
