# SPDX-License-Identifier: Apache-2.0
"""report.html: one self-contained page on one or several experiments, with tables, figures, and errors to listen to.

`page/` holds the template, its style and its script.
"""

import base64
import hashlib
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.registry import nearest
from rawnext.results.analysis import plots
from rawnext.results.analysis.curves import Curves, curves_of
from rawnext.results.analysis.error_browser import data_uri, errors
from rawnext.results.analysis.report_tables import System, cells, eer_table, group_tables, measure_table, trial_lists
from rawnext.results.conditions import NOTE
from rawnext.results.report import commands, stamps, system_name
from rawnext.results.rows import Row, key_of, read_evaluated, read_paper, read_rows, read_training, read_tsv, title_of
from rawnext.results.tables import columns_of, eer_definitions, headline, lowest, notes
from rawnext.scoring.metrics import EER_DEFINITIONS

PAGE = Path(__file__).parent / "page"
WIDTH, HEIGHT = 4.5, 3.5  # of a figure without its legend, in inches


class Picture(NamedTuple):
    """A figure of the page.   alt: its content in words.   width, height: in CSS pixels.   uri: SVG as a data URI."""

    title: str
    alt: str
    width: int
    height: int
    uri: str


class Condition(NamedTuple):
    """One list and scoring.   pictures: DET, Bayes error of each system with LLRs, a histogram for each evaluation."""

    title: str
    pictures: list[Picture]


def report_page(exps: Sequence[Path], paper_path: PathLike, num_errors: int = 10,
                errors_in: str = "") -> tuple[str, list[str]]:
    """The page, and a line for each missing part with the program that provides it.

    Args:
        num_errors: of each kind (highest nontarget, lowest target) in each list of errors.
        errors_in: list, data set, protocol and backend of the errors; empty: the ones with most evaluations.
    Raises: InputError: an experiment without evaluations, damaged files, or unknown errors_in.
    """
    from rawnext.config import read_yaml

    systems = [System(name, exp, read_yaml(exp / "config.yaml"), read_rows(exp))
               for name, exp in zip(names_of(exps), exps)]
    rows = [row for system in systems for row in system.rows]
    paper = read_paper(paper_path, systems[0].config.get("paper") or "")
    conditions, heard, lacks = scored_parts(systems, num_errors, errors_in)
    calibrated = cllr_pictures(systems)
    training = training_pictures(systems)
    branches = [part for system in systems if (part := branch_part(system))]
    if not training:
        lacks.append("training curves: stage 3 writes train.tsv")
    if not calibrated:
        lacks.append("calibration: stage 7 writes calibrated scores, and stage 8 their Cllr")
    if not branches:
        lacks.append("activation of the branches: steps/branch_variation.py measures it")
    every = [{"system": s.name, **columns_of(row)} for s in systems for row in s.rows]  # as in results.tsv
    page = render(
        title=", ".join(s.name for s in systems), systems=[(s.name, system_name(s.config)) for s in systems],
        headlines=[(s.name, headline(s.rows), lowest(s.rows)) for s in systems], eers=eer_table(systems, paper),
        measures=measure_table(systems),
        definitions=[EER_DEFINITIONS[name] for name in eer_definitions(rows)], every=cells(every),
        stamps=[(s.name, [("Command", commands(s.rows)), ("Trial lists", trial_lists(s.rows)),
                          *stamps(s.rows)]) for s in systems],
        notes=notes(rows, paper), groups=group_tables(systems), groups_note=NOTE,
        durations=duration_pictures(systems, paper), conditions=conditions,
        calibrated=calibrated, training=training, branches=branches, errors=heard, lacks=lacks)
    return page, lacks


def names_of(exps: Sequence[Path]) -> list[str]:
    """The folders' names, or their paths if two have the same name."""
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


def picture(title: str, panel: Callable[..., str], *args: Any, height: float = HEIGHT) -> Picture:
    """The panel function's drawing of args, with a legend below the axes.   height: of the axes, in inches."""
    figure, axes = plots.new_figure(1, 1, WIDTH, height)
    alt = panel(axes[0, 0], *args)
    handles, names = axes[0, 0].get_legend_handles_labels()
    labels = [textwrap.fill(name, 50) for name in names]  # a path may be longer than the figure is wide
    figure.set_figheight(height + 0.2 * sum(label.count("\n") + 1 for label in labels))
    if labels:
        plots.add_legend(axes[0, 0], handles=handles, labels=labels, loc="upper left",
                         bbox_to_anchor=(-0.1, -0.16), borderaxespad=0, frameon=False)
    width, total = figure.get_size_inches() * 96
    return Picture(title, alt, round(width), round(total),
                   f"data:image/svg+xml,{quote(plots.svg(figure), safe=' =:;/,.()')}")


# --- figures and errors

def scored_parts(systems: Sequence[System], num_errors: int,
                 errors_in: str) -> tuple[list[Condition], list[dict[str, Any]], list[str]]:
    """Conditions with their figures; the errors of the first condition; what is missing.

    One evaluation's scores are in memory at a time.
    """
    groups: dict[tuple, list[tuple[System, Row]]] = {}
    for system in systems:
        for row in system.rows:
            groups.setdefault(key_of(row), []).append((system, row))
    order = sorted(groups, key=lambda key: -len(groups[key]))  # stable: otherwise in the order of the tables
    if errors_in:
        known = {" ".join(key): key for key in groups if groups[key][0][0] is systems[0]}
        if errors_in not in known:
            raise InputError(systems[0].exp, None, f"has no {errors_in!r}{nearest(errors_in, known)}")
        order.insert(0, order.pop(order.index(known[errors_in])))
    conditions, heard, lacks = [], [], []
    own = [row for row in systems[0].rows if key_of(row) == order[0]] if num_errors else []
    chosen = own[:1] + own[1:][-1:]  # the longest duration and the shortest
    for key in order:
        curves = []
        for system, row in groups[key]:
            trials, scores = read_evaluated(row)
            curves.append(curves_of(system.name, row, trials.is_target, scores))
            if system is systems[0] and row in chosen and "enroll" in row:
                heard += errors(curves[-1], trials, scores, num_errors)
        conditions.append(Condition(title_of(groups[key][0][1]), score_pictures(curves)))
    if not heard:
        lacks.append("errors to listen to: " + (
            "evaluations that name the enroll side's directory; stage 8 writes them" if num_errors else
            "--errors 10 shows them"))
    return conditions, heard, lacks


def score_pictures(curves: list[Curves]) -> list[Picture]:
    calibrated: dict[str, list[Curves]] = {}
    for c in curves:
        if c.bayes:
            calibrated.setdefault(c.system, []).append(c)
    return [picture("DET", plots.det_panel, curves, height=WIDTH),
            *(picture(f"{system}, calibration", plots.bayes_panel, group) for system, group in calibrated.items()),
            *(picture(c.name, plots.histogram_panel, c) for c in curves)]


def duration_pictures(systems: Sequence[System], paper: Sequence[dict[str, str]]) -> list[Picture]:
    """EER against duration: a figure for each list and backend with several durations."""
    panels = plots.duration_lines((f"{row['list']} of {row['data_set']}, {row['backend']}",
                                   f"{s.name}, {row['protocol']}", row, "eer") for s in systems for row in s.rows)
    lists = {f"{row['list']} of {row['data_set']}, {row['backend']}": row["list"] for s in systems for row in s.rows}
    for line in paper:
        for title, panel in panels.items():
            if line["list"] == lists[title] and line["eer"]:
                panel.setdefault("published", {})[line["duration"]] = float(line["eer"]), None
    return duration_figures({title: panel for title, panel in panels.items()
                             if any(len(line) > 1 for line in panel.values())}, "EER (%)")


def cllr_pictures(systems: Sequence[System]) -> list[Picture]:
    """Cllr and minimum Cllr against duration, for each calibrated scoring."""
    return duration_figures(plots.duration_lines(
        (title_of(row), f"{s.name}, {title}", row, name) for s in systems for row in s.rows
        for name, title in (("cllr", "Cllr"), ("min_cllr", "minimum Cllr"))), "Cllr (bits)")


def duration_figures(panels: dict[str, dict[str, dict]], unit: str) -> list[Picture]:
    names = plots.unique_names(panels.values())
    return [picture(title, plots.duration_panel, lines, names, (), unit) for title, lines in panels.items()]


def training_pictures(systems: Sequence[System]) -> list[Picture]:
    tables = {s.name: read_training(s.exp / "train.tsv") for s in systems if (s.exp / "train.tsv").exists()}
    return [picture(label, plots.training_panel, name, tables) for name, label, _ in plots.TRAINING
            if any(np.isfinite(table[name]).any() for table in tables.values())]


def branch_part(system: System) -> dict[str, Any] | None:
    """The table EXP/analysis/branch_variation.tsv, and the picture of the same name."""
    path = system.exp / "analysis" / "branch_variation.tsv"
    if not path.exists():
        return None
    image = path.with_suffix(".png")
    return {"name": system.name, "table": cells(read_tsv(path)),
            "picture": data_uri("image/png", image.read_bytes()) if image.exists() else ""}
