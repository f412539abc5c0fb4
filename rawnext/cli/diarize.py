# SPDX-License-Identifier: Apache-2.0
"""`rawnext diarize`: who speaks when in a recording."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rawnext.cli.options import (
    add_channel,
    add_command,
    add_json,
    add_model,
    add_operating,
    ark_scp,
    load_extractor,
    model_folder,
    operating,
)
from rawnext.cli.output import print_json
from rawnext.data.vad import KINDS, check_kind
from rawnext.errors import InputError, printable
from rawnext.identity import network_of, one_model
from rawnext.inference.clustering import COSINE, LLR, Options
from rawnext.kaldi.rttm import write_rttm
from rawnext.scoring.decision import Judge, read_judge

if TYPE_CHECKING:
    from rawnext.inference.diarization import Windows

DESCRIPTION = """Who speaks when in a recording?

rawnext diarize -m exp/rawnext meeting.wav -o meeting.rttm
rawnext diarize -m exp/rawnext --num-speakers 3 --vad silero meeting.wav --json
rawnext diarize -m exp/rawnext --gallery gallery.ark,gallery.scp meeting.wav

Writes lines `SPEAKER RECORDING 1 START SECONDS <NA> <NA> speaker1 <NA> <NA>` (RTTM), or a JSON object for each turn.
With a gallery of rawnext enroll, speakers have the names of those enrolled speakers whom the calibration accepts for
the given prior and costs. Each moment has one speaker at most."""


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = add_command(commands, "diarize", run, "who speaks when in a recording", DESCRIPTION)
    parser.add_argument("input", metavar="AUDIO", help="recording")
    parser.add_argument("-o", "--output", metavar="RTTM", type=Path, help="output file (default: standard output)")
    parser.add_argument("--vad", dest="detector", choices=KINDS, default="energy",
                        help="find speech by its energy (default) or by the network of silero-vad")
    add_settings(parser)
    add_channel(parser)
    add_model(parser)
    add_json(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options of windows, clustering and names."""
    default = Options()
    parser.add_argument("--num-speakers", type=int, default=default.num_speakers, metavar="N",
                        help="number of speakers; 0: it is estimated (default)")
    parser.add_argument("--max-speakers", type=int, default=default.max_speakers, metavar="N",
                        help="upper limit of the estimate (default %(default)s)")
    parser.add_argument("--threshold", type=float, metavar="SIMILARITY",
                        help="mean similarity below which two groups of windows are two speakers: LLR if the model has "
                             f"a calibration (default {LLR:g}), otherwise cosine (default {COSINE:g})")
    parser.add_argument("--window", type=float, default=default.window, metavar="SECONDS",
                        help="length of the windows that are embedded (default %(default)s)")
    parser.add_argument("--shift", type=float, default=default.shift, metavar="SECONDS",
                        help="shift between windows (default %(default)s)")
    parser.add_argument("-g", "--gallery", type=ark_scp, metavar="ARK,SCP", help="name the speakers of this gallery")
    add_operating(parser)


def settings(args: argparse.Namespace) -> Options:
    """The settings of the options.   Raises: InputError: out of range."""
    found = Options(args.window, args.shift, args.num_speakers, args.max_speakers, args.threshold)
    found.check()
    return found


def window_judge(args: argparse.Namespace, model: Path) -> Judge:
    """What decides which windows are of one speaker, and which speakers get a name of --gallery.

    Raises: InputError: there is no such gallery, or no calibration for it; a prior or cost is out of range.
    """
    operating(args)
    if args.gallery and not args.gallery[1].exists():
        raise InputError(args.gallery[1], None, "no such file; rawnext enroll makes it")
    judge = read_judge(model)
    if args.gallery and judge.calibration is None:
        raise InputError("--gallery", None, f"names need a calibration: {judge.why}")
    return judge


def window_llrs(judge: Judge, options: Options, model: Path,
                fingerprint: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """The function that gives the LLRs of windows, see cluster; None without a calibration.

    A stretch of speech shorter than a window counts as a whole one.

    Args: judge: from window_judge.   model, fingerprint: the folder of the model, and what is in it.
    Raises: InputError: the calibration is of another model.
    """
    if judge.calibration is None:
        return None
    if judge.model:
        one_model({model: network_of(fingerprint), judge.path: network_of(judge.model)})
    return lambda x: judge.pair_llrs(x, options.window)


def naming(args: argparse.Namespace, judge: Judge,
           fingerprint: str) -> "Callable[[Windows, np.ndarray], dict[int, str]]":
    """The function that returns the names of a recording's groups of windows: {group: name}.

    Args: judge: from window_judge.   fingerprint: of the model.   Raises: InputError: the gallery is of another model.
    """
    from rawnext.inference.diarization import speakers_of
    from rawnext.scoring.gallery import Gallery

    if not args.gallery:
        return lambda windows, labels: {}
    gallery, threshold = Gallery(args.gallery, fingerprint, any_vad=True), operating(args).threshold
    return lambda windows, labels: gallery.name(*speakers_of(windows, labels), judge, threshold)


def run(args: argparse.Namespace) -> None:
    from rawnext.cli.inputs import as_id, files
    from rawnext.data.wav import check_sources
    from rawnext.inference.diarization import diarize, turns_of

    options = settings(args)
    check_kind(args.detector)
    source, = files([args.input], args.channel)
    name = as_id(Path(args.input).stem, args.input)
    check_sources([source])
    folder = model_folder(args)
    judge = window_judge(args, folder)
    extractor = load_extractor(args)
    names_of = naming(args, judge, extractor.fingerprint)
    llrs = window_llrs(judge, options, folder, extractor.fingerprint)
    windows, labels = diarize(extractor.model, source, args.detector, options, llrs)
    if not len(labels):
        raise InputError(args.input, None, f"no speech was found by the voice activity detection ({args.detector})")
    turns = turns_of(name, windows, labels, names_of(windows, labels))
    if args.output:
        write_rttm(args.output, turns)
    if args.json:
        for turn in turns:
            print_json(recording=name, start=round(turn.start, 3), end=round(turn.end, 3), speaker=turn.speaker)
    elif args.output:
        print(printable(f"rawnext: {len(turns)} turns of {len({turn.speaker for turn in turns})} speakers in "
                        f"{args.output}"), file=sys.stderr)
    else:
        print(*(turn.line() for turn in turns), sep="\n")
