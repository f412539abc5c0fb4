#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw an experiment's DET curves, EER against duration and training into EXP/figures.

steps/plot.py exp/rawnext
"""

import argparse
from pathlib import Path

from rawnext.errors import run_main
from rawnext.kaldi.tables import read_scored_trials
from rawnext.results.rows import Row, read_paper, read_rows, read_training
from rawnext.scoring.metrics import det_points

PAPER = Path(__file__).resolve().parents[1] / "conf" / "paper.tsv"


def det_curves(rows: list[Row]) -> dict:
    """(list, scoring) -> duration -> (DET curve, EER)."""
    curves: dict = {}
    for row in rows:
        trials, scores = read_scored_trials(row["scores"], row["trials"])
        det = det_points(scores[trials.is_target], scores[~trials.is_target])
        curves.setdefault((row["list"], scoring(row)), {})[row["duration"]] = det, row["eer"]
    return curves


def eer_lines(rows: list[Row], paper: list[dict[str, str]]) -> dict:
    """list -> scoring or `published` -> duration -> EER, for the lists that we have."""
    lines: dict = {}
    for row in rows:
        lines.setdefault(row["list"], {}).setdefault(scoring(row), {})[row["duration"]] = row["eer"]
    for line in paper:
        if line["list"] in lines and line["eer"]:
            lines[line["list"]].setdefault("published", {})[line["duration"]] = float(line["eer"])
    return lines


def scoring(row: Row) -> str:
    return f"{row['data_set']}, protocol {row['protocol']}, {row['backend']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path, help="experiment, with config.yaml, train.tsv and scores/**/*.json")
    parser.add_argument("--paper", default=PAPER, help="published figures (%(default)s)")
    args = parser.parse_args()

    from rawnext.config import read_yaml
    from rawnext.results.analysis.plots import plot_det, plot_durations, plot_training

    rows = read_rows(args.exp)
    paper = read_paper(args.paper, read_yaml(args.exp / "config.yaml").get("paper") or "")
    training = args.exp / "train.tsv"  # there is none where the embeddings come from elsewhere
    table = read_training(training) if training.exists() else None
    figures = args.exp / "figures"
    plot_det(det_curves(rows), figures / "det.png")
    plot_durations(eer_lines(rows, paper), figures / "durations.png")
    if table:
        plot_training(table, figures / "training.png")
    else:
        print(f"{training}: no such file, so no training.png")


if __name__ == "__main__":
    run_main(main)
