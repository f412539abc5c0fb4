# SPDX-License-Identifier: Apache-2.0
"""Options shared by several commands."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rawnext.data.vad import KINDS
from rawnext.errors import as_input_error
from rawnext.identity import VAD, network_of, one_model
from rawnext.scoring.decision import Judge, Operating, read_judge

if TYPE_CHECKING:
    from rawnext.inference.extractor import Extractor

MODEL_VARIABLE = "RAWNEXT_MODEL"


def add_command(commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], None],
                summary: str, description: str) -> argparse.ArgumentParser:
    """A subcommand that calls `run`; `description` keeps its lines."""
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run)
    return parser


def add_audio(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that embed whole files."""
    add_channel(parser)
    add_vad(parser)
    add_model(parser)
    add_json(parser)


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", metavar="MODEL", default=os.environ.get(MODEL_VARIABLE) or None,
                        help=f"folder or address of the trained model (default: ${MODEL_VARIABLE}, or the model of the "
                             "package)")
    parser.add_argument("--device", default="auto",
                        help="cpu, cuda, cuda:1, ...; auto (the default): a GPU if available")
    parser.add_argument("--longest", type=float, metavar="SECONDS",
                        help="longer audio is cut into equal pieces, whose embeddings are averaged (default: about one "
                             "minute)")


def add_vad(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vad", choices=KINDS, default="",
                        help="embed the speech alone, found by its energy or by the network of silero-vad (default: "
                             "all of the audio)")


def add_channel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channel", type=int, default=0, metavar="N",
                        help="channel of files that have several, counted from 0 (default: 0)")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def load_extractor(args: argparse.Namespace, judge: Judge | None = None) -> "Extractor":
    """The model named by the options.   Raises: InputError: it cannot be loaded, or the calibration is for another."""
    folder = model_folder(args)
    from rawnext.inference.extractor import LONGEST_S, Extractor

    with as_input_error("--longest"):
        extractor = Extractor.from_pretrained(folder, args.device, args.longest or LONGEST_S, warn=False,
                                              vad=getattr(args, "vad", ""))
    if judge and judge.model:
        one_model({folder: network_of(extractor.fingerprint), judge.path: network_of(judge.model)})
    return extractor


def load_judge(args: argparse.Namespace) -> Judge:
    """The calibration of the model named by the options; that of other voice activity detection is doubtful."""
    judge = read_judge(model_folder(args))
    fitted = judge.model.partition(VAD)[2]
    if judge.calibration is None or fitted == args.vad:
        return judge
    then, now = (f"with --vad {kind}" if kind else "without --vad" for kind in (fitted, args.vad))
    return judge._replace(doubts=(*judge.doubts, f"The calibration was fitted {then} and is used {now}."))


def model_folder(args: argparse.Namespace) -> Path:
    """The folder of the model named by the options; without a name that of the package, which is reported once."""
    from rawnext import config

    if args.model is None:  # an empty name is an error, as of a shell's variable that is not set
        args.model = config.PRETRAINED
        print(f"rawnext: no --model: using the model of the package ({args.model}/README.md)", file=sys.stderr)
    args.model = config.model_folder(args.model)
    return args.model


def ark_scp(text: str) -> tuple[Path, Path]:
    """`ARK,SCP`, optionally with Kaldi's prefix `ark,scp:`.   Raises: argparse.ArgumentTypeError: any other form."""
    names = text.removeprefix("ark,scp:").split(",")
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise argparse.ArgumentTypeError(f"want ARK,SCP such as emb.ark,emb.scp, got {text!r}")
    return Path(names[0]), Path(names[1])


def add_operating(parser: argparse.ArgumentParser) -> None:
    default = Operating()
    parser.add_argument("--prior", type=float, default=default.prior, metavar="P",
                        help="prior probability of a target pair (default %(default)s)")
    parser.add_argument("--cost-miss", type=float, default=default.cost_miss, metavar="C",
                        help="cost of a miss (default %(default)s)")
    parser.add_argument("--cost-false-alarm", type=float, default=default.cost_false_alarm, metavar="C",
                        help="cost of a false alarm (default %(default)s)")


def operating(args: argparse.Namespace) -> Operating:
    """Prior and costs from the options.   Raises: InputError: out of range."""
    point = Operating(args.prior, args.cost_miss, args.cost_false_alarm)
    point.check()
    return point
