#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write EXP/plan.tsv, a row for each score file that stages 4 to 9 make; steps/verification.sh runs it.

steps/plan.py --eval data/vox1_test:trials_O --durations "5 2 1" --backends "cosine asnorm" --dev data/dev exp/rawnext

Rows may be deleted: an edited plan is kept while the options stay the same. See docs/reference/recipes.md.
"""

import argparse
import sys
from pathlib import Path

from rawnext.errors import InputError, run_main
from rawnext.pipeline.plan import make_plan, settle_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocols", default="native", help="paper, native or both (default %(default)s)")
    parser.add_argument("--eval", required=True, help="lists TEST_DIR:TRIALS[:ENROLL_DIR], separated by spaces")
    parser.add_argument("--cut", default="", help="those of --eval that are also cut (default: the first)")
    parser.add_argument("--durations", default="", help="seconds that they are cut to (default: none)")
    parser.add_argument("--sides", default="test", help="which side is cut: test, enroll, both (default %(default)s)")
    parser.add_argument("--cut-data", default="", metavar="DIR", help="take the cuts from DIR/2s, ..., written by "
                        "steps/cut_data_dir.py, and the calibrations that EXP has")
    parser.add_argument("--backends", default="cosine", help="(default %(default)s)")
    parser.add_argument("--calibrate", default="all",
                        help="some of --backends, or all of them if --dev has trials (default)")
    parser.add_argument("--dev", default="", help="data directory of held-out speakers, with the list `trials`")
    parser.add_argument("exp", type=Path, help="experiment folder")
    args = parser.parse_args()
    if not args.exp.is_dir():
        raise InputError(args.exp, None, "no such folder")
    rows = make_plan(args.protocols, args.eval, args.cut, args.durations, args.backends, args.calibrate, args.dev,
                     args.sides, args.cut_data)
    print(settle_plan(args.exp, rows), file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
