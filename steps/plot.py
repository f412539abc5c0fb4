#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw an experiment's DET curves, EER against duration and training into EXP/figures.

steps/plot.py exp/rawnext
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, run_main
from rawnext.pipeline.tasks import PAPER
from rawnext.results.rows import Row, read_evaluated, read_paper, read_rows, read_training, title_of


def det_panels(rows: list[Row]) -> dict:
    """Title -> curves, one for each duration."""
    from rawnext.results.analysis.curves import curves_of

    panels: dict = {}
    for row in rows:
        trials, scores = read_evaluated(row)
        panels.setdefault(title_of(row), []).append(curves_of("", row, trials.is_target, scores))
    return panels


def duration_panels(rows: list[Row], paper: list[dict[str, str]]) -> dict:
    """List -> scoring or `published` -> duration -> (EER, no interval)."""
    from rawnext.results.analysis.plots import duration_lines

    panels = duration_lines(((row["list"], f"{row['data_set']}, protocol {row['protocol']}, {row['backend']}", row,
                              "eer") for row in rows), intervals=False)
    for line in paper:
        if line["list"] in panels and line["eer"]:
            panels[line["list"]].setdefault("published", {})[line["duration"]] = float(line["eer"]), None
    return panels


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("exp", type=Path, help="experiment with config.yaml, train.tsv and scores/**/*.json")
    args = parser.parse_args()

    from rawnext.config import read_yaml
    from rawnext.results.analysis.plots import plot_det, plot_durations, plot_training

    rows = read_rows(args.exp)
    paper = read_paper(PAPER, read_yaml(args.exp / "config.yaml").get("paper") or "")
    training = args.exp / "train.tsv"  # missing if the embeddings come from elsewhere
    table = read_training(training) if training.exists() else None
    figures = args.exp / "figures"
    plot_det(det_panels(rows), figures / "det.png")
    plot_durations(duration_panels(rows, paper), figures / "durations.png")
    if table:
        plot_training(table, figures / "training.png")
    else:
        print(f"{training}: no such file, so no training.png")


if __name__ == "__main__":
    run_main(main)
