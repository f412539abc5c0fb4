# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md of an experiment: its tables, and everything needed to reproduce the figures."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rawnext.results.conditions import NOTE, group_table, shown_rows
from rawnext.results.rows import Row, label_of, title_of
from rawnext.results.tables import Table, eer_definitions, headline, lowest, markdown, notes, tables
from rawnext.scoring.metrics import EER_DEFINITIONS


def results_page(exp: Path, config: Mapping[str, Any], rows: list[Row], paper: list[dict[str, str]]) -> list[str]:
    """Lines of RESULTS.md.

    Args:
        config: the experiment's config.yaml.   rows: its evaluations.   paper: the paper's lines for its system.
    """
    lines = [f"# {exp.name}{system_name(config)}", "", f"**{headline(rows)}**", ""]
    lines += [lowest(rows), ""] if lowest(rows) else []
    for place, (title, table) in enumerate(tables(rows, paper)):
        lines += [f"## {title}", "", *markdown(table), ""]
        if place == 0:
            lines += [line for note in notes(rows, paper) for line in (note, "")]
            lines += condition_lines(rows)
    return [*lines, "## Where the figures come from", "", *code_block(commands(rows)), "",
            *markdown(list_table(rows), 4), "", *protocol_lines(config, rows), "",
            *(f"- {name}: {value}" for name, values in stamps(rows) for value in values)]


def condition_lines(rows: list[Row]) -> list[str]:
    """The conditions of the headline, if they were evaluated."""
    shown = shown_rows(rows)
    return [line for row in shown[:1] for line in (f"## By condition: {title_of(row)}, {label_of(row['duration'])}", "",
                                                   *markdown(group_table(row)), "", NOTE, "")]


def system_name(config: Mapping[str, Any]) -> str:
    """`: rawnext with aam + angular_prototypical`; empty if the configuration names no model."""
    model = (config.get("model") or {}).get("name", "")
    losses = " + ".join(loss.get("name", "") for loss in config.get("losses") or [])
    return f": {model}{' with ' if losses else ''}{losses}" if model else ""


def unique(rows: Iterable[Row], *names: str) -> list[str]:
    """Different values of one or more columns, each once, in the order of the rows."""
    found = (" ".join(str(row[name]) for name in names) for row in rows if all(row.get(name) for name in names))
    return list(dict.fromkeys(found))


def commands(rows: Iterable[Row]) -> list[str]:
    """The commands of the trainings; of rows without one, that of the evaluation."""
    return unique([{"command": row.get("train", {}).get("command") or row.get("command")} for row in rows], "command")


def code_block(lines: list[str]) -> list[str]:
    return ["```", *lines, "```"] if lines else []


def list_table(rows: list[Row]) -> Table:
    """The trial lists, each once."""
    return [["list", "data set", "file", "sha256 of the file", "trials", "target"],
            *map(list, dict.fromkeys((row["list"], row["data_set"], f"`{row['trials']}`", f"`{row['trials_sha256']}`",
                                      f"{row['num_trials']:,}", f"{row['num_target']:,}") for row in rows))]


def protocol_lines(config: Mapping[str, Any], rows: list[Row]) -> list[str]:
    samples = (config.get("extract") or {}).get("samples", 59_049)
    return [f"- Protocol paper: segments of {samples:,} samples, their embeddings averaged; short utterances tiled.",
            "- Protocol native: the whole utterance at its own length, in one pass.",
            *(f"- Cut: {how}; the rest is whole." for how in unique(rows, "crop") if how != "none"),
            *(f"- EER: {EER_DEFINITIONS[name]}." for name in eer_definitions(rows)),
            "- minDCF: costs 1 and 1, divided by the smaller of P_target and 1 - P_target."]


def stamps(rows: list[Row]) -> list[tuple[str, list[str]]]:
    """(name, each different value) of code, configuration, machine, dates and training."""
    dates = sorted(unique(rows, "date"))
    trainings = {str(row["train"]): row["train"] for row in rows if row.get("train")}
    found = {"Commit": unique(rows, "commit"),
             "Configuration (file, sha256)": unique(rows, "config", "config_sha256"),
             "Evaluated on": unique(rows, "hardware"),
             "Date": [" to ".join(dict.fromkeys((dates[0], dates[-1])))] if dates else [],
             "Training": [", ".join(f"{name} {number(value) if name != 'seed' else value}"
                                    for name, value in training.items() if name != "command")
                          for training in trainings.values()]}
    return [(name, values) for name, values in found.items() if values]


def number(value: Any) -> str:
    """A number with thousands separators; None is empty, a list its items, anything else as it is."""
    if isinstance(value, list | dict):
        return "; ".join(map(str, value)) if isinstance(value, list) else " ".join(f"{k}={v}" for k, v in value.items())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
