# SPDX-License-Identifier: Apache-2.0
"""`rawnext score`: LLRs of a trial list over audio files."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rawnext.cli.options import add_audio, add_command, load_extractor, load_judge
from rawnext.cli.output import print_doubts, print_json
from rawnext.errors import InputError
from rawnext.identity import write_origin
from rawnext.kaldi.tables import indices_of, write_scores
from rawnext.kaldi.trial_forms import read_any_pairs
from rawnext.scoring.cosine import cosine_scores

if TYPE_CHECKING:
    from rawnext.data.wav import Source

DESCRIPTION = """Score a trial list over audio files: lines `enroll test LLR`.

rawnext score -m exp/rawnext trials wav.scp -o scores
rawnext score -m exp/rawnext trials recordings -o scores   # trials such as `anna/1.wav bert/2.wav`

TRIALS has lines `enroll test`, `enroll test target|nontarget`, `1|0 enroll test` as for VoxCeleb, or is a CSV; labels
are not used. WAV is a list of lines `utt path` as in wav.scp, or the folder of the files that TRIALS names (default:
the current folder). Each file is embedded once. The scores are log-likelihood ratios (natural logarithm) by the model's
calibration, or cosines (--cosine)."""


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = add_command(commands, "score", run, "score a trial list over audio files", DESCRIPTION)
    parser.add_argument("trials", metavar="TRIALS", help="pairs of utterances or files, with or without labels")
    parser.add_argument("wav", metavar="WAV", nargs="?", default=".", help="list `utt path`, or folder of the files")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="score file to write")
    parser.add_argument("--cosine", action="store_true", help="write cosines instead of LLRs")
    add_audio(parser)


def run(args: argparse.Namespace) -> None:
    from rawnext.cli.inputs import embed_sources
    from rawnext.data.wav import check_sources

    if Path(args.output).is_dir():
        raise InputError(args.output, None, "is a folder; name a file")
    sides = read_any_pairs(args.trials)
    sources = sources_of({*sides[0], *sides[1]}, args.wav, args.channel)
    enroll, test = (indices_of(side, {source.utt: row for row, source in enumerate(sources)}, args.trials, args.wav)
                    for side in sides)
    judge = load_judge(args)
    if judge.why and not args.cosine:
        raise InputError(args.model, None, f"{judge.why}; --cosine writes cosines")
    check_sources(sources)
    extractor = load_extractor(args, None if args.cosine else judge)
    x, seconds = embed_sources(sources, extractor)
    scores, num_outside, doubts = cosine_scores(x, x, enroll, test), 0, list[str]()
    if not args.cosine:
        scores, outside = judge.llr(scores, x, x, enroll, test, seconds[enroll], seconds[test])
        num_outside, doubts = int(outside.sum()), list(judge.doubts)
    if num_outside:
        doubts.append(f"The calibration has not seen the durations of {num_outside:,} trials and uses the nearest that "
                      "it knows.")
    write_scores(args.output, *sides, scores)
    write_origin(args.output, extractor.fingerprint)
    print_doubts(doubts)
    kind = "cosine" if args.cosine else "llr"
    if args.json:
        print_json(scores=args.output, kind=kind, num_trials=len(scores), num_files=len(sources),
                   seconds=round(float(seconds.sum()), 3), outside_calibration=num_outside, doubts=doubts)
    else:
        print(f"rawnext: {len(scores):,} {'cosines' if args.cosine else 'LLRs'} of {len(sources):,} files in "
              f"{args.output}", file=sys.stderr)


def sources_of(utts: Iterable[str], wav: str, channel: int) -> "list[Source]":
    """The files of utterances, in Kaldi's order.

    Args: wav: list `utt path`, or the folder of files that are named as the utterances.
    Raises: InputError: the list is malformed or lists an utterance twice.
    """
    from rawnext.cli.inputs import gather
    from rawnext.data.media import file_source

    wanted = set(utts)
    if not Path(wav).is_dir():
        return [source for source in gather((), [wav], channel) if source.utt in wanted]
    return [file_source(Path(wav) / utt, channel)._replace(utt=utt)
            for utt in sorted(wanted, key=str.encode) if (Path(wav) / utt).is_file()]
