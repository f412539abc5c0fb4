# SPDX-License-Identifier: Apache-2.0
"""`rawnext eval`: EER, detection costs and Cllr of a score file, with intervals."""

import argparse
import sys
from functools import partial
from pathlib import Path

from rawnext.cli.options import add_command, add_json
from rawnext.cli.output import print_json
from rawnext.errors import InputError, as_input_error, warn
from rawnext.kaldi.trial_forms import read_any_scores
from rawnext.results.evaluation import TITLES, check_kinds, evaluation
from rawnext.scoring.metrics import EER_DEFINITION, EER_DEFINITIONS, act_dcf_of, min_cllr_of, min_dcf, min_dcf_of
from rawnext.scoring.trial_speakers import known_speakers, speaker_tables

DESCRIPTION = """Evaluate a score file of any program: EER, minDCF, minimum Cllr and, of LLRs, actual DCF and Cllr.

rawnext eval scores trials
rawnext eval scores trials --llr --p-target 0.001 --c-fa 10 --json

SCORES has lines `enroll test score` in any order, or `score` in the order of TRIALS. TRIALS has lines
`enroll test target|nontarget`, `1|0 enroll test` as for VoxCeleb, or is a CSV. Without TRIALS, the lines of SCORES are
`score target|nontarget`, as Kaldi's compute-eer reads them. Higher scores must mean more similar.

95 % intervals, a bootstrap over speakers, need the speakers of the utterances: --utt2spk, or the file utt2spk in the
folder of TRIALS."""


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = add_command(commands, "eval", run, "EER, detection costs and Cllr of a score file", DESCRIPTION)
    parser.add_argument("scores", metavar="SCORES", help="lines `enroll test score`, or `score`")
    parser.add_argument("trials", metavar="TRIALS", nargs="?", help="trial list")
    parser.add_argument("--llr", action="store_true",
                        help="scores are log-likelihood ratios (natural logarithm): also actual DCF and Cllr")
    parser.add_argument("--p-target", type=float, metavar="P",
                        help="prior of a target trial: also the DCF at this prior, in addition to 0.01 and 0.05")
    parser.add_argument("--c-miss", type=float, metavar="C", help="cost of a miss in this DCF (default 1)")
    parser.add_argument("--c-fa", type=float, metavar="C", help="cost of a false alarm in this DCF (default 1)")
    parser.add_argument("--eer-definition", choices=EER_DEFINITIONS, default=EER_DEFINITION,
                        help="definition of the EER (default %(default)s)")
    parser.add_argument("--utt2spk", type=Path, metavar="FILE", help="lines `utt spk`, for intervals")
    parser.add_argument("--enroll-utt2spk", type=Path, metavar="FILE", help="the same of the enroll side, if different")
    add_json(parser)


def run(args: argparse.Namespace) -> None:
    more, point = {"min_cllr": min_cllr_of}, {}
    if any(value is not None for value in (args.p_target, args.c_miss, args.c_fa)):
        if args.p_target is None:
            raise InputError("--c-miss and --c-fa", None, "need --p-target")
        point = {"p_target": args.p_target, "c_miss": 1.0 if args.c_miss is None else args.c_miss,
                 "c_fa": 1.0 if args.c_fa is None else args.c_fa}
        with as_input_error("--p-target, --c-miss and --c-fa"):
            min_dcf([0.0], [0.0], **point)
        more |= {"min_dcf": partial(min_dcf_of, **point)} | (
            {"act_dcf": partial(act_dcf_of, **point)} if args.llr else {})
    trials, is_target, scores = read_any_scores(args.scores, args.trials)
    check_kinds(is_target, args.trials or args.scores)
    speakers = None
    if trials:
        speakers = known_speakers(trials, args.trials, *speaker_tables(args.trials, args.utt2spk, args.enroll_utt2spk),
                                  required=bool(args.utt2spk or args.enroll_utt2spk))
    elif args.utt2spk or args.enroll_utt2spk:
        raise InputError("--utt2spk", None, "needs TRIALS, because these scores have no names")
    row = {"scores": args.scores, "trials": args.trials, "num_trials": len(scores), "num_target": int(is_target.sum()),
           **point, **evaluation(scores, is_target, args.eer_definition, args.llr, speakers, more)}
    if speakers is None:
        row["interval_note"] = "no intervals: the speakers are not known (--utt2spk)"
    if args.json:
        print_json(**row)
    else:
        print_row(row)
    if "warning" in row:
        warn(args.scores, row["warning"])


def print_row(row: dict) -> None:
    """The measures as text, one a line."""
    at = "({:g}; {:g}, {:g})".format(*(row.get(name, 0) for name in ("p_target", "c_miss", "c_fa")))
    titles = TITLES | {"eer": "EER", "min_dcf": f"minDCF{at}", "act_dcf": f"actual DCF{at}"}
    width = max(len(title) for name, title in titles.items() if name in row)
    print(f"{'trials':{width}}  {row['num_trials']:,}, of them {row['num_target']:,} target"
          + (f"; {row['num_speakers']:,} speakers" if "num_speakers" in row else ""))
    for name, title in titles.items():
        if name in row:
            digits, unit = (2, " %") if name == "eer" else (3, "")
            between = "  [{:.{d}f}, {:.{d}f}]".format(*row[f"{name}_interval"], d=digits) \
                if f"{name}_interval" in row else ""
            print(f"{title:{width}}  {row[name]:.{digits}f}{unit}{between}")
    if "interval_note" in row:
        print(f"rawnext: {row['interval_note']}", file=sys.stderr)
