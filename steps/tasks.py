#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The commands of a stage: which are to be run, by EXP/plan.tsv and the records in EXP/made/, and running them.

steps/tasks.py todo --out exp/rawnext/log/score.todo score exp/rawnext   # which score files are not up to date
steps/tasks.py show exp/rawnext/log/score.todo                           # their commands, tabs between the words
steps/tasks.py run --job 2 --num-jobs 4 exp/rawnext/log/score.todo       # runs every fourth of them, from the second on
steps/tasks.py record --job 3 exp/rawnext/log/score.todo                 # records that the third was run by other means

steps/verification.sh calls it. A command is left out if its outputs were made by the same command line and code, from
inputs with the present contents. EXP/made may be deleted: then all is done again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from rawnext.errors import InputError, run_main
from rawnext.pipeline.plan import ROLES, read_plan
from rawnext.pipeline.records import Pending, finish, pending, read_pending, write_pending
from rawnext.pipeline.tasks import STEPS, Experiment


def todo(args: argparse.Namespace) -> None:
    rows = read_plan(args.exp / "plan.tsv")
    experiment = Experiment(args.exp, rows, args.conf, args.set, args.init, args.teacher, args.train, args.dev,
                            args.cohort_utts, args.measures)
    what, tasks_of = STEPS[args.step]
    tasks = tasks_of(experiment, args.role)
    items = pending(args.exp, tasks, args.again)
    write_pending(args.out, items)
    if len(tasks) == 1:
        print(f"the {what} is to be made" if items else f"nothing to do, the {what} is up to date")
    elif items:
        print(f"{len(items)} of {len(tasks)} {what}s are to be made")
    elif tasks:
        print(f"nothing to do, all {len(tasks)} {what}s are up to date")


def show(args: argparse.Namespace) -> None:
    for item in read_pending(args.todo):
        print(*item.task.command, sep="\t")


def record_one(item: Pending) -> None:
    if warning := finish(item):
        print(f"WARNING: {warning}", file=sys.stderr)


def run(args: argparse.Namespace) -> None:
    for item in read_pending(args.todo)[args.job - 1::args.num_jobs]:
        for path in item.task.stale:
            Path(path).unlink(missing_ok=True)
        # The lock of the experiment is passed on, so that it is held until the last of the processes has ended.
        code = subprocess.run(item.task.command, close_fds=False).returncode
        if code:
            sys.exit(code if code > 0 else 1)
        record_one(item)


def record(args: argparse.Namespace) -> None:
    items = read_pending(args.todo)
    if args.job > len(items):
        raise InputError(args.todo, None, f"has only {len(items)} commands")
    record_one(items[args.job - 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True, metavar="todo|show|run|record")
    action = actions.add_parser("todo", help="find what is to be done, and write it to --out")
    action.set_defaults(run=todo)
    action.add_argument("--again", action="store_true", help="all of it, up to date or not")
    action.add_argument("--role", choices=ROLES, default=ROLES[0], help="which rows of the plan (default %(default)s)")
    for name in ("conf", "set", "init", "teacher", "train", "dev", "measures"):
        action.add_argument(f"--{name}", default="", help="as in steps/verification.sh")
    action.add_argument("--cohort-utts", type=int, default=10, help="as in steps/verification.sh")
    action.add_argument("--out", type=Path, required=True, metavar="FILE",
                        help="file of commands, for show, run and record")
    action.add_argument("step", choices=STEPS)
    action.add_argument("exp", type=Path, help="experiment folder with plan.tsv")

    action = actions.add_parser("show", help="print the commands")
    action.set_defaults(run=show)
    action.add_argument("todo", type=Path, help="what todo wrote")

    action = actions.add_parser("run", help="run a share of the commands")
    action.set_defaults(run=run)
    action.add_argument("--job", type=int, default=1, help="which share (default 1)")
    action.add_argument("--num-jobs", type=int, default=1, help="number of shares (default 1)")
    action.add_argument("todo", type=Path, help="what todo wrote")

    action = actions.add_parser("record", help="record one command as done")
    action.set_defaults(run=record)
    action.add_argument("--job", type=int, default=1, help="which command (default 1)")
    action.add_argument("todo", type=Path, help="what todo wrote")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    run_main(main)
