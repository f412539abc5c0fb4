# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md of an experiment: its tables, and everything needed to get the same figures again."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rawnext.results.rows import Row, eer_definitions, markdown, notes, tables
from rawnext.scoring.metrics import EER_DEFINITIONS


def results_page(exp: Path, config: Mapping[str, Any], rows: list[Row], paper: list[dict[str, str]]) -> list[str]:
    """Lines of RESULTS.md.

    Args:
        config: the experiment's config.yaml.   rows: its evaluations.   paper: the paper's lines for its system.
    """
    lines = [f"# {exp.name}{system_name(config)}", "", *code_block(unique(rows, "command")), ""]
    for title, table in tables(rows, paper):
        lines += [f"## {title}", "", *markdown(table), ""]
    for note in notes(rows, paper):
        lines += [note, ""]
    lines += ["## Where the figures come from", "", *markdown_lists(rows), "", *protocol_lines(config, rows), "",
              *stamp_lines(rows)]
    return lines


def system_name(config: Mapping[str, Any]) -> str:
    """`: rawnext with aam + angular_prototypical`, as far as the configuration says."""
    model = (config.get("model") or {}).get("name", "")
    losses = " + ".join(loss.get("name", "") for loss in config.get("losses") or [])
    return f": {model}{' with ' if losses else ''}{losses}" if model else ""


def unique(rows: Iterable[Row], *names: str) -> list[str]:
    """Different values of one or more stamps, each once, in the order of the rows."""
    found = (" ".join(str(row[name]) for name in names) for row in rows if all(row.get(name) for name in names))
    return list(dict.fromkeys(found))


def code_block(lines: list[str]) -> list[str]:
    return ["```", *lines, "```"] if lines else []


def markdown_lists(rows: list[Row]) -> list[str]:
    names = ("list", "data_set", "num_trials", "num_target", "trials", "trials_sha256")
    lists = dict.fromkeys(tuple(str(row[name]) for name in names) for row in rows)
    return ["| list | data set | trials | target | file | sha256 of the file |",
            "| --- | --- | ---: | ---: | --- | --- |",
            *(f"| {name} | {data_set} | {int(num):,} | {int(num_target):,} | `{path}` | `{digest}` |"
              for name, data_set, num, num_target, path, digest in lists)]


def protocol_lines(config: Mapping[str, Any], rows: list[Row]) -> list[str]:
    samples = (config.get("extract") or {}).get("samples", 59_049)
    return [f"- Protocol paper: segments of {samples:,} samples, their embeddings averaged; short utterances tiled.",
            "- Protocol native: the whole utterance at its own length, in one pass.",
            "- Durations: the test side is cut to its centre; the enroll side is whole.",
            *(f"- EER: {EER_DEFINITIONS[name]}." for name in eer_definitions(rows)),
            "- minDCF: costs 1 and 1, divided by the smaller of P_target and 1 - P_target."]


def stamp_lines(rows: list[Row]) -> list[str]:
    """Code, configuration, machine, dates and training, each different value once."""
    dates = sorted(unique(rows, "date"))
    lines = [f"- Code: commit {value}" for value in unique(rows, "commit")]
    lines += [f"- Configuration (file, sha256): `{value}`" for value in unique(rows, "config", "config_sha256")]
    lines += [f"- Evaluated on {value}" for value in unique(rows, "hardware")]
    if dates:
        lines.append(f"- Evaluated {dates[0]}" + (f" to {dates[-1]}" if dates[-1] != dates[0] else ""))
    trainings = {str(row["train"]): row["train"] for row in rows if row.get("train")}
    lines += ["- Training: " + ", ".join(f"{name} {number(value)}" for name, value in training.items())
              for training in trainings.values()]
    return lines


def number(value: Any) -> str:
    """With thousands separators where it is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
