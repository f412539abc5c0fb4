#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Table 2, 3 or 4 of the paper with the results of finished experiments under its rows, as Markdown and TSV.

steps/paper_tables.py --table 4 --out exp/TABLE4 exp/resnext exp/ablation_2 exp/rawnext
steps/paper_tables.py --table 2 "RawNet2 softmax=exp/mine" exp/rawnext

An experiment is placed under the row named by its configuration (`paper:`), or by SYSTEM in SYSTEM=EXP.
"""

import sys
from pathlib import Path

from rawnext.errors import ArgumentParser, run_main
from rawnext.files import write_lines
from rawnext.results.paper import COLUMNS, assign, build, measured, page
from rawnext.results.rows import read_tsv

CONF = Path(__file__).resolve().parents[1] / "conf"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, choices=list(COLUMNS), help="number of the table")
    parser.add_argument("--protocol", default="paper", choices=("paper", "native"),
                        help="protocol of extraction (default %(default)s)")
    parser.add_argument("--backend", default="cosine", help="scoring backend (default %(default)s)")
    parser.add_argument("--data-set", help="data set to use if several have the same list")
    parser.add_argument("--list", action="append", default=[], metavar="O=NAME", dest="lists",
                        help="use list NAME as the paper's O (E, H); by default the lists have these names")
    parser.add_argument("--out", metavar="STEM", help="write STEM.md and STEM.tsv too")
    parser.add_argument("exps", nargs="*", metavar="[SYSTEM=]EXP", help="experiments that have completed stage 8")
    args = parser.parse_args()
    given = dict(text.partition("=")[::2] for text in args.lists)
    if odd := set(given) - {"O", "E", "H"}:
        parser.error(f"--list: {min(odd)!r} is not one of O, E, H")
    lists = {letter: letter for letter in "OEH" if letter not in given}
    lists |= {name: letter for letter, name in given.items()}
    from rawnext.config import read_yaml

    layout = [line for line in read_tsv(CONF / "paper_tables.tsv") if line["table"] == args.table]
    found, others = assign(layout, args.exps, lambda exp: read_yaml(exp / "config.yaml").get("paper") or "")
    for exp in others:
        print(f"paper_tables.py: {exp} belongs to no row of Table {args.table}; name one with SYSTEM={exp}",
              file=sys.stderr)
    rows = {system: {str(exp): measured(exp, args.protocol, args.backend, args.data_set, lists)
                     for exp in exps} for system, exps in found.items()}
    lines = build(args.table, layout, read_tsv(CONF / "paper.tsv"), rows)
    text = page(args.table, lines, [row for by in rows.values() for some in by.values() for row in some],
                f"protocol {args.protocol}, {args.backend}")
    if args.out:
        write_lines(f"{args.out}.md", text)
        write_lines(f"{args.out}.tsv", ("\t".join(cells) for cells in lines))
    print(*text, sep="\n")


if __name__ == "__main__":
    run_main(main)
