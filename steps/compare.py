#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare systems: parameters, GMACs, EER and minDCF at each duration, as Markdown tables.

steps/compare.py --out exp/COMPARISON.md exp/rawnext exp/resnext exp/ecapa_tdnn

Each experiment must have completed stage 8.
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, run_main
from rawnext.files import write_lines
from rawnext.results.comparison import comparison
from rawnext.results.rows import read_rows, title_of


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables to FILE, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", action="append",
                        help="draw EER against duration, too, as .png or .pdf (may be repeated)")
    parser.add_argument("--test", action="store_true",
                        help="add the difference of each EER from the first system's, with 95 %% interval and p")
    parser.add_argument("--seeds", action="store_true", help="the experiments are trainings of one system with "
                        "different seeds: add their means and standard deviations")
    parser.add_argument("exp", type=Path, nargs="+", help="experiments, in the order of the table's lines")
    args = parser.parse_args()
    lines = comparison(args.exp, args.test, args.seeds)
    if args.plot:
        from rawnext.results.analysis.plots import duration_lines, plot_durations

        rows = ((exp.name, row) for exp in args.exp for row in read_rows(exp) if not row["backend"].endswith("+cal"))
        plot_durations(duration_lines((title_of(row), name, row, "eer") for name, row in rows), *args.plot)
    if args.out:
        write_lines(args.out, lines)
    print(*lines, sep="\n")


if __name__ == "__main__":
    run_main(main)
