#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Collect the evaluations of an experiment into EXP/results.tsv and EXP/RESULTS.md, and print the tables.

steps/results.py exp/rawnext
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, run_main
from rawnext.files import write_lines
from rawnext.pipeline.tasks import PAPER
from rawnext.results.report import results_page
from rawnext.results.rows import check_unchanged, read_paper, read_rows
from rawnext.results.tables import aligned, headline, lowest, notes, tables, tsv


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("exp", type=Path, help="experiment, with config.yaml and scores/**/*.json")
    args = parser.parse_args()

    from rawnext.config import read_yaml

    rows = read_rows(args.exp)
    for row in rows:
        check_unchanged(row, gone=True)
    config = read_yaml(args.exp / "config.yaml")
    paper = read_paper(PAPER, config.get("paper") or "")
    write_lines(args.exp / "results.tsv", tsv(rows))
    write_lines(args.exp / "RESULTS.md", results_page(args.exp, config, rows, paper))
    print(headline(rows), *filter(None, [lowest(rows)]), "", sep="\n")
    for title, table in tables(rows, paper):
        print(title, *aligned(table), "", sep="\n")
    print(*notes(rows, paper), sep="\n")


if __name__ == "__main__":
    run_main(main)
