#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Collect the results of steps/duration_grid.sh in OUT/grid.tsv and GRID.md, or, with --plot, in eer.png and eer.pdf.

steps/duration_table.py exp/duration_grid/vox1_test_trials_O_centre_keep rawnext resnext
"""

import argparse
from pathlib import Path

from rawnext.errors import run_main
from rawnext.files import write_lines
from rawnext.results.duration_grid import SIDES, Grid, page, read_grid, tsv


def panels_of(grid: Grid) -> dict:
    """Title -> system -> duration -> (EER, interval)."""
    def line(side: str, system: str) -> dict:
        rows = {d: grid.cells.get((system, side, d)) for d in grid.durations}
        return {d: (row["eer"], row.get("eer_interval")) for d, row in rows.items() if row}

    return {SIDES[side]: {system: line(side, system) for system in grid.systems} for side in grid.sides}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", action="store_true", help="draw the figure instead of writing the tables")
    parser.add_argument("out", type=Path, help="output folder of steps/duration_grid.sh")
    parser.add_argument("systems", nargs="+", help="names of the experiments, in the order of the table's lines")
    args = parser.parse_args()
    grid = read_grid(args.out, args.systems)
    if args.plot:
        from rawnext.results.analysis.plots import plot_durations

        plot_durations(panels_of(grid), args.out / "eer.png", args.out / "eer.pdf", durations=grid.durations)
        return
    write_lines(args.out / "grid.tsv", tsv(grid))
    lines = page(grid)
    write_lines(args.out / "GRID.md", lines)
    print(*lines, sep="\n")


if __name__ == "__main__":
    run_main(main)
