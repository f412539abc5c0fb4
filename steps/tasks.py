#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The plan of an experiment, and the commands of a stage: which are to be run, by EXP/plan.tsv and the records in
EXP/made/, and running them.

steps/tasks.py plan --eval data/vox1_test:trials_O --durations "5 2 1" --backends "cosine asnorm" --dev data/dev exp/x
steps/tasks.py todo --out exp/x/log/score.todo score exp/x   # which score files are not up to date
steps/tasks.py run --job 2 --num-jobs 4 exp/x/log/score.todo # runs every fourth of them, from the second on
steps/tasks.py record exp/x/log/train.todo                   # records that they were run by other means

steps/verification.sh calls it. The plan has a row for each score file that stages 4 to 9 make. Rows may be deleted: an
edited plan is kept while the options stay the same (docs/reference/recipes.md). A command is left out if its outputs
were made by the same command line and code, from inputs with the present contents. EXP/made may be deleted: then all is
done again.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.pipeline.plan import ROLES, check_folders, make_plan, read_plan, settle_plan
from rawnext.pipeline.records import EMBEDDINGS, Pending, begin, finish, pending, read_pending, write_pending
from rawnext.pipeline.tasks import STEPS, Experiment


def plan(args: argparse.Namespace) -> None:
    if not args.exp.is_dir():
        raise InputError(args.exp, None, "no such folder")
    rows = make_plan(args.protocols, args.eval, args.cut, args.durations, args.backends, args.calibrate, args.dev,
                     args.sides, args.cut_data)
    print(settle_plan(args.exp, rows), file=sys.stderr)


def todo(args: argparse.Namespace) -> None:
    rows = read_plan(args.exp / "plan.tsv")
    if adapt := args.adapt.rstrip("/"):
        if not Path(adapt, "wav.scp").is_file():
            raise InputError("--adapt", None, f"no such file {adapt}/wav.scp")
        check_folders("--adapt", [*(side for row in rows for side in (row.enroll, row.test)), adapt])
    experiment = Experiment(args.exp, rows, args.conf, args.set, args.init, args.teacher, args.train, args.dev,
                            args.cohort_utts, args.measures, args.checksum, adapt, args.adaptation)
    what, tasks_of = STEPS[args.step]
    tasks = list({task.outputs[0]: task for task in tasks_of(experiment, args.role)}.values())  # each output once
    items = pending(args.exp, tasks, args.again)
    if args.step == "train":
        for item in items:
            begin(item, not args.again and any((args.exp / name).exists() for name in ("checkpoints", "model.pt")))
    write_pending(args.out, items)
    if len(tasks) == 1:
        print(f"the {what} is to be made" if items else f"nothing to do, the {what} is up to date")
    elif items:
        print(f"{len(items)} of {len(tasks)} {what}s are to be made")
    elif tasks:
        print(f"nothing to do, all {len(tasks)} {what}s are up to date")


def record_one(item: Pending) -> None:
    if warning := finish(item):
        print(f"WARNING: {warning}", file=sys.stderr)


def run(args: argparse.Namespace) -> None:
    for item in read_pending(args.todo)[args.job - 1::args.num_jobs]:
        for path in item.task.stale:
            Path(path).unlink(missing_ok=True)
        folder = item.task.outputs[0]
        if (args.again or item.spoilt) and folder.startswith(EMBEDDINGS):  # extraction continues what is there
            shutil.rmtree(folder.removeprefix(EMBEDDINGS), ignore_errors=True)
        program, *words = item.task.command
        # The lock of the experiment is passed on, so that it is held until the last of the processes has ended.
        code = subprocess.run([program, *args.options, *words], close_fds=False).returncode
        if code:
            sys.exit(code if code > 0 else 1)
        record_one(item)


def record(args: argparse.Namespace) -> None:
    for item in read_pending(args.todo):
        record_one(item)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="plan|todo|run|record")
    action = actions.add_parser("plan", help="write EXP/plan.tsv")
    action.set_defaults(run=plan)
    action.add_argument("--protocols", default="native", help="paper, native or both (default %(default)s)")
    action.add_argument("--eval", required=True, help="lists TEST_DIR:TRIALS[:ENROLL_DIR], separated by spaces")
    action.add_argument("--cut", default="", help="those of --eval that are also cut (default: the first)")
    action.add_argument("--durations", default="", help="seconds that they are cut to (default: none)")
    action.add_argument("--sides", default="test", help="which side is cut: test, enroll, both (default %(default)s)")
    action.add_argument("--cut-data", default="", metavar="DIR", help="take the cuts from DIR/2s, ..., written by "
                        "steps/cut_data_dir.py, and the calibrations that EXP has")
    action.add_argument("--backends", default="cosine", help="(default %(default)s)")
    action.add_argument("--calibrate", default="all",
                        help="some of --backends, or all of them if --dev has trials (default)")
    action.add_argument("--dev", default="", help="data directory of held-out speakers, with the list `trials`")
    action.add_argument("exp", type=Path, help="experiment folder")

    action = actions.add_parser("todo", help="find what is to be done, and write it to --out")
    action.set_defaults(run=todo)
    action.add_argument("--again", action="store_true", help="all of it, up to date or not")
    action.add_argument("--role", choices=ROLES, default=ROLES[0], help="which rows of the plan (default %(default)s)")
    for name in ("conf", "set", "init", "teacher", "train", "dev", "measures", "adapt"):
        action.add_argument(f"--{name}", default="", help="as in steps/verification.sh")
    action.add_argument("--cohort-utts", type=int, default=10, help="as in steps/verification.sh")
    action.add_argument("--adaptation", choices=("coral", "plda"), default="coral", help="as in steps/verification.sh")
    action.add_argument("--checksum", action="store_true", help="compare the content of audio, not sizes and times")
    action.add_argument("--out", type=Path, required=True, metavar="FILE",
                        help="file of commands, for run and record")
    action.add_argument("step", choices=STEPS)
    action.add_argument("exp", type=Path, help="experiment folder with plan.tsv")

    action = actions.add_parser("run", help="run a share of the commands")
    action.set_defaults(run=run)
    action.add_argument("--job", type=int, default=1, help="which share (default 1)")
    action.add_argument("--num-jobs", type=int, default=1, help="number of shares (default 1)")
    action.add_argument("--again", action="store_true", help="delete embeddings that are there")
    action.add_argument("todo", type=Path, help="file that todo wrote")
    action.add_argument("options", nargs="*", help="further options of the commands, after --")

    action = actions.add_parser("record", help="record the commands as done")
    action.set_defaults(run=record)
    action.add_argument("todo", type=Path, help="file that todo wrote")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    run_main(main)
