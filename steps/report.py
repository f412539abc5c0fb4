#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write one HTML page on one or several experiments: results, figures, and the worst errors to listen to.

steps/report.py exp/rawnext exp/resnext

Each experiment must have completed stage 8. The page is one file, opens in any browser and works offline. The errors
are those of the first experiment on one list, at its longest and its shortest duration.
"""

import argparse
from pathlib import Path

from rawnext.errors import ArgumentParser, run_main
from rawnext.files import write_lines
from rawnext.pipeline.tasks import PAPER


def count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"want 0 to 100, got {number}")
    return number


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html in the first EXP)")
    parser.add_argument("--errors", type=count, default=10, metavar="N",
                        help="number of errors of each kind, 0 for none (default %(default)s)")
    parser.add_argument("--errors-in", default="", metavar="WORDS",
                        help="list, data set, protocol and backend of the errors, for example 'trials test_noisy "
                             "native cosine' (default: the ones with most evaluations)")
    parser.add_argument("exp", type=Path, nargs="+", help="experiments, with config.yaml and scores/**/*.json")
    args = parser.parse_args()

    from rawnext.results.analysis.html_report import report_page

    out = args.out or args.exp[0] / "report.html"
    page, lacks = report_page(args.exp, PAPER, args.errors, args.errors_in)
    write_lines(out, [page])
    for lack in lacks:
        print(f"{out}: without {lack}")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_main(main)
