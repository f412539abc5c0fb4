# SPDX-License-Identifier: Apache-2.0
"""One HTML page of one or several experiments, in one file that needs nothing else: tables, charts, and errors to hear.

`page/` holds the template, its style and its script.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.kaldi.tables import read_scored_trials
from rawnext.registry import nearest
from rawnext.results.analysis import report_charts as charts
from rawnext.results.analysis.chart import Chart
from rawnext.results.analysis.error_browser import Error, data_uri, errors
from rawnext.results.analysis.report_tables import System, every_column, read_cells, result_table, stamps_of
from rawnext.results.report import system_name
from rawnext.results.rows import NAMES, Row, eer_definitions, notes, read_paper, read_rows, read_training
from rawnext.scoring.metrics import EER_DEFINITIONS

PAGE = Path(__file__).parent / "page"


class Condition(NamedTuple):
    """One list and scoring. histograms: a chart for each system and duration.   bayes: one for each with LLRs."""

    key: str
    title: str
    det: Chart
    histograms: list[Chart]
    bayes: list[Chart]


def report_page(exps: Sequence[Path], paper_path: PathLike, num_errors: int = 10,
                errors_in: str = "") -> tuple[str, list[str]]:
    """The page, and lines that say what it lacks and what would bring it.

    Args:
        num_errors: of each kind (highest nontarget, lowest target) in each list of errors.
        errors_in: list, data set, protocol and backend whose errors are shown; empty: where most was evaluated.
    Raises: InputError: an experiment without evaluations, damaged files, or errors_in that the first one has not.
    """
    from rawnext.config import read_yaml

    systems = [System(name, exp, read_yaml(exp / "config.yaml"), read_rows(exp))
               for name, exp in zip(names_of(exps), exps)]
    rows = [row for system in systems for row in system.rows]
    paper = read_paper(paper_path, systems[0].config.get("paper") or "")
    conditions, heard, lacks = scored_parts(systems, num_errors, errors_in)
    calibrated = cllr_charts(systems)
    training = charts.training_charts({s.name: read_training(s.exp / "train.tsv") for s in systems
                                       if (s.exp / "train.tsv").exists()})
    branches = [part for system in systems if (part := branch_part(system))]
    if not training:
        lacks.append("training curves: stage 3 writes train.tsv")
    if not calibrated:
        lacks.append("calibration: stage 7 writes calibrated scores, and stage 8 their Cllr")
    if not branches:
        lacks.append("activation of the branches: steps/branch_variation.py measures it")
    page = render(
        title=", ".join(s.name for s in systems), systems=[(s.name, system_name(s.config)) for s in systems],
        results=result_table(systems), definitions=[EER_DEFINITIONS[name] for name in eer_definitions(rows)],
        every=every_column(systems), stamps=[(s.name, stamps_of(s)) for s in systems],
        notes=notes(rows, paper), durations=duration_charts(systems, paper), conditions=conditions,
        calibrated=calibrated, training=training, branches=branches, errors=heard, lacks=lacks)
    return page, lacks


def names_of(exps: Sequence[Path]) -> list[str]:
    """The folders' names, or their paths where two have the same."""
    names = [exp.resolve().name for exp in exps]
    if len(set(exp.resolve() for exp in exps)) < len(exps):
        raise InputError(exps[-1], None, "an experiment is named twice")
    return names if len(set(names)) == len(names) else [str(exp) for exp in exps]


def render(**parts: Any) -> str:
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    script = (PAGE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.jinja").render(
        script=script, digest=digest, style=(PAGE / "page.css").read_text(encoding="utf-8"), **parts)


# --- charts and errors

def scored_parts(systems: Sequence[System], num_errors: int,
                 errors_in: str) -> tuple[list[Condition], list[dict[str, Any]], list[str]]:
    """Conditions with their charts; the errors of the first condition; what is lacking.

    One evaluation's scores are in memory at a time.
    """
    groups: dict[tuple, list[tuple[System, Row]]] = {}
    for system in systems:
        for row in system.rows:
            groups.setdefault(tuple(row[name] for name in NAMES), []).append((system, row))
    order = sorted(groups, key=lambda key: -len(groups[key]))  # stable: else as in the tables
    if errors_in:
        known = {" ".join(key): key for key in groups if groups[key][0][0] is systems[0]}
        if errors_in not in known:
            raise InputError(systems[0].exp, None, f"has no {errors_in!r}{nearest(errors_in, known)}")
        order.insert(0, order.pop(order.index(known[errors_in])))
    conditions, heard, lacks = [], [], []
    for key in order:
        chosen = chosen_for_errors(systems[0].rows, key) if key == order[0] and num_errors else []
        curves = []
        for system, row in groups[key]:
            trials, scores = read_scored_trials(row["scores"], row["trials"])
            curves.append(charts.curves_of(system.name, row, trials.is_target, scores))
            if system is systems[0] and row in chosen and "enroll" in row:
                heard += listed_errors(curves[-1], errors(row, trials, scores, num_errors))
        conditions.append(condition(key, curves))
    if not heard:
        lacks.append("errors to hear: " + ("--errors 10 shows them" if not num_errors else
                                           "evaluations that name the enroll side's directory; stage 8 writes them"))
    return conditions, heard, lacks


def chosen_for_errors(rows: Sequence[Row], key: tuple) -> list[Row]:
    """Of one condition the evaluation of the longest duration, and that of the shortest."""
    own = [row for row in rows if tuple(row[name] for name in NAMES) == key]
    return own[:1] + own[1:][-1:]  # rows come long before short


def listed_errors(curves: charts.Curves, kinds: Sequence[tuple[str, list[Error]]]) -> list[dict[str, Any]]:
    row, duration = curves.row, charts.label_of(curves.row["duration"])
    what = f"{curves.system}, {row['list']} of {row['data_set']}, protocol {row['protocol']}, {row['backend']}"
    return [{"key": f"{duration}, {kind.split(':')[0]}", "what": what, "kind": kind, "duration": duration,
             "threshold": curves.marks[0][1], "errors": found} for kind, found in kinds]


def condition(key: tuple, curves: list[charts.Curves]) -> Condition:
    name, data_set, protocol, backend = key
    title = f"{name} of {data_set}, protocol {protocol}, {backend}"
    llrs: dict[str, list[charts.Curves]] = {}
    for c in curves:
        if c.bayes:
            llrs.setdefault(c.system, []).append(c)
    return Condition(" ".join(key), title, charts.det_chart("DET", curves),
                     [charts.histogram_chart(c) for c in curves],
                     [charts.bayes_chart(f"{system}, calibration", group) for system, group in llrs.items()])


def duration_charts(systems: Sequence[System], paper: Sequence[dict[str, str]]) -> list[Chart]:
    """EER against duration, a chart for each list and back end that has several: a colour for each system."""
    groups: dict[tuple[str, ...], dict[str, dict]] = {}
    look: dict[str, tuple[int, int]] = {"published": (-1, 1)}
    dashes: dict[str, int] = {}
    for place, system in enumerate(systems):
        for row in system.rows:
            line = f"{system.name}, {row['protocol']}"
            look[line] = place % 7, dashes.setdefault(row["protocol"], len(dashes))
            group = groups.setdefault(tuple(row[name] for name in ("list", "data_set", "backend")), {})
            group.setdefault(line, {})[row["duration"]] = row["eer"], row.get("eer_interval")
    for (name, *_), group in groups.items():
        for published in paper:
            if published["list"] == name and published["eer"]:
                group.setdefault("published", {})[published["duration"]] = float(published["eer"]), None
    return [charts.duration_chart(f"{name} of {data_set}, {backend}", "EER (%)", group, look)
            for (name, data_set, backend), group in groups.items() if any(len(line) > 1 for line in group.values())]


def cllr_charts(systems: Sequence[System]) -> list[Chart]:
    """Cllr and its least value against duration, for each calibrated scoring."""
    groups: dict[tuple, dict[str, dict]] = {}
    look: dict[str, tuple[int, int]] = {}
    for place, system in enumerate(systems):
        for row in filter(charts.is_llr, system.rows):
            group = groups.setdefault(tuple(row[name] for name in NAMES), {})
            for dash, (name, word) in enumerate((("cllr", "Cllr"), ("min_cllr", "min Cllr"))):
                if name in row:
                    look[f"{system.name}, {word}"] = place % 7, dash
                    group.setdefault(f"{system.name}, {word}", {})[row["duration"]] = (
                        row[name], row.get(f"{name}_interval"))
    return [charts.duration_chart(f"{key[0]} of {key[1]}, protocol {key[2]}, {key[3]}", "Cllr (bits)", group, look)
            for key, group in groups.items()]


def branch_part(system: System) -> dict[str, Any] | None:
    """The table EXP/analysis/branch_variation.tsv, and the picture beside it."""
    path = system.exp / "analysis" / "branch_variation.tsv"
    if not path.exists():
        return None
    image = path.with_suffix(".png")
    return {"name": system.name, "table": read_cells(path),
            "picture": data_uri("image/png", image.read_bytes()) if image.exists() else ""}
