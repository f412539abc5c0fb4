# SPDX-License-Identifier: Apache-2.0
"""`rawnext verify`: do two files have the same speaker?"""

import argparse

from rawnext.cli.options import add_audio, add_command, add_operating, load_extractor, load_judge, operating
from rawnext.cli.output import print_doubts, print_json
from rawnext.scoring.decision import doubts_of

DESCRIPTION = """Do two recordings have the same speaker?

rawnext verify -m exp/rawnext a.wav b.m4a
rawnext verify -m exp/rawnext --prior 0.01 --cost-false-alarm 10 a.wav b.wav --json

Prints the cosine of the two embeddings and the durations. If the model has a calibration, also prints the
log-likelihood ratio (natural logarithm) and the decision for the given prior and costs. Without a calibration there
is no decision, because the right threshold on the cosine depends on the model and the durations."""


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = add_command(commands, "verify", run, "score, LLR and decision of two files", DESCRIPTION)
    parser.add_argument("enroll", metavar="AUDIO")
    parser.add_argument("test", metavar="AUDIO")
    add_operating(parser)
    add_audio(parser)


def run(args: argparse.Namespace) -> None:
    from rawnext.cli.inputs import embed_listed, files

    point = operating(args)
    judge = load_judge(args)
    x, seconds, of_file, _ = embed_listed(files([args.enroll, args.test], args.channel),
                                          lambda: load_extractor(args, judge))
    verdict = judge.decide(x[0], x[1], seconds[0], seconds[1], point)
    score, llr, threshold, same, outside = verdict
    of_pair = doubts_of(verdict, judge, point)
    if same is not None:
        print_doubts(of_pair)
    of_files = [f"{name}: {doubt}" for name, found in of_file.items() for doubt in found]
    if args.json:
        print_json(enroll=args.enroll, test=args.test, score=round(score, 6), llr=llr, same_speaker=same,
                   threshold=threshold, **point._asdict(), enroll_seconds=float(seconds[0]),
                   test_seconds=float(seconds[1]), outside_calibration=outside, doubts=of_files + of_pair)
        return
    print(f"score     {score:.4f} (cosine)")
    print(f"durations {seconds[0]:.2f} s and {seconds[1]:.2f} s")
    if judge.why:
        print(f"decision  none: {judge.why}")
        return
    print(f"LLR       {llr:.3f}{'  (a duration is outside the range of the calibration and was clipped)' * outside}")
    print(f"decision  {'same speaker' if same else 'different speakers'}: the LLR is "
          f"{'at least' if same else 'below'} {threshold:.3f} ({point})")
    if doubts := len(of_files + of_pair):
        print(f"doubtful  {doubts} warning{'s' * (doubts > 1)} above")
