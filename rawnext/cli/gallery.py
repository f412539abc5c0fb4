# SPDX-License-Identifier: Apache-2.0
"""`rawnext enroll` and `rawnext identify`: find a speaker in a gallery."""

import argparse
import sys

import numpy as np

from rawnext.cli.options import (
    add_channel,
    add_json,
    add_model,
    add_vad,
    ark_scp,
    load_extractor,
    load_judge,
    print_json,
)
from rawnext.errors import InputError, printable

ENROLL = """Enroll a speaker from one or more recordings.

rawnext enroll -m exp/rawnext -g gallery.ark,gallery.scp anna anna1.wav anna2.wav

The speaker's model is the mean of the recordings' unit vectors. Enrolling a name again replaces its model; --add adds
recordings to it. A JSON file with SCP's name and the ending .json has the number and duration of the recordings."""
IDENTIFY = """Find the most similar speakers of a gallery.

rawnext identify -m exp/rawnext -g gallery.ark,gallery.scp who.wav

Prints lines `AUDIO rank speaker score LLR`, the most similar speaker first. The LLR compares this speaker with any
other; it is - if the model has no calibration. If the speaker is not in the gallery, all LLRs are low."""


def add_to(commands: argparse._SubParsersAction) -> None:
    for name, text, run, short in (("enroll", ENROLL, enroll, "add a speaker to a gallery"),
                                   ("identify", IDENTIFY, identify, "find the most similar speakers of a gallery")):
        parser = commands.add_parser(name, help=short, description=text,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("-g", "--gallery", type=ark_scp, metavar="ARK,SCP", required=True,
                            help="files of the gallery")
        if name == "enroll":
            parser.add_argument("name", help="speaker id, valid in Kaldi's tables")
            parser.add_argument("--add", action="store_true", help="add recordings to an enrolled speaker")
        else:
            parser.add_argument("--top", type=int, default=10, help="number of speakers to print (default %(default)s)")
        parser.add_argument("inputs", nargs="+", metavar="AUDIO")
        add_channel(parser)
        add_vad(parser)
        add_model(parser)
        add_json(parser)
        parser.set_defaults(run=run)


def enroll(args: argparse.Namespace) -> None:
    from rawnext.cli.inputs import embed_files
    from rawnext.kaldi.tables import check_id
    from rawnext.scoring.gallery import Gallery
    from rawnext.training.lock import lock_folder

    check_id(args.name, "NAME")
    if len(set(args.inputs)) < len(args.inputs):
        raise InputError("rawnext enroll", None, "a file is named twice")
    x, seconds, doubts, extractor = embed_files(args.inputs, args.channel, lambda: load_extractor(args))
    with lock_folder(args.gallery[1].parent):
        gallery = Gallery(args.gallery, extractor.fingerprint)
        known = args.name in gallery.speakers
        speaker = gallery.enroll(args.name, x, float(seconds.sum()), args.add)
        gallery.save()
    done = "added to" if args.add else "replaced" if known else "enrolled"
    if args.json:
        print_json(speaker=args.name, done=done, utts=speaker.utts, seconds=speaker.seconds,
                   speakers=len(gallery.speakers), doubts=doubts)
    else:
        print(f"{args.name} {done}: {speaker.utts} recordings, {speaker.seconds:.2f} s; {len(gallery.speakers)} "
              f"speakers in {gallery.scp}")


def identify(args: argparse.Namespace) -> None:
    from rawnext.cli.inputs import embed_files
    from rawnext.scoring.decision import SAME_AUDIO
    from rawnext.scoring.gallery import Gallery

    if args.top < 1:
        raise InputError("--top", None, "must be at least 1")
    if not args.gallery[1].exists():
        raise InputError(args.gallery[1], None, "no such file; rawnext enroll makes it")
    judge = load_judge(args)
    for doubt in [judge.why, *judge.doubts]:
        if doubt:
            print(f"rawnext: {doubt}", file=sys.stderr)
    x, seconds, doubts, extractor = embed_files(args.inputs, args.channel, lambda: load_extractor(args, judge))
    gallery = Gallery(args.gallery, extractor.fingerprint)
    speakers = list(gallery.speakers.values())
    for name, duration, scores in zip(args.inputs, seconds, gallery.scores(x)):
        llrs, outside = judge.llr(scores, [speaker.seconds for speaker in speakers], np.full(len(speakers), duration))
        found = []
        if outside.any():
            found.append("The calibration has not seen these durations and uses the nearest that it knows.")
        if scores.max() > SAME_AUDIO:
            found.append("This is audio of an enrolled speaker, or nearly; other recordings may score differently.")
        for doubt in found:
            print(printable(f"rawnext: {name}: {doubt}"), file=sys.stderr)
        doubts[name] += found
        for rank, row in enumerate(np.argsort(-scores, kind="stable")[: args.top], 1):
            speaker, score, llr = list(gallery.speakers)[row], float(scores[row]), float(llrs[row])
            if args.json:
                print_json(audio=name, rank=rank, speaker=speaker, score=round(score, 6), llr=llr,
                           doubts=[*doubts[name], *judge.doubts])
            else:
                print(f"{name} {rank} {speaker} {score:.4f} {'-' if np.isnan(llr) else f'{llr:.3f}'}")
