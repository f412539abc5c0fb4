# SPDX-License-Identifier: Apache-2.0
"""`rawnext enroll`, `rawnext identify` and `rawnext gallery`: find a speaker in a gallery, list and remove speakers."""

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np

from rawnext.cli.options import add_audio, add_command, add_json, ark_scp, load_extractor, load_judge
from rawnext.cli.output import print_doubts, print_facts, print_json
from rawnext.errors import InputError
from rawnext.kaldi.words import check_id
from rawnext.scoring.decision import SAME_AUDIO, gallery_posteriors
from rawnext.training.lock import lock_folder

if TYPE_CHECKING:
    from rawnext.scoring.gallery import Gallery

ENROLL = """Enroll a speaker from one or more recordings, or the speakers of a table.

rawnext enroll -m exp/rawnext -g gallery.ark,gallery.scp anna anna1.wav anna2.wav
rawnext enroll -m exp/rawnext -g gallery.ark,gallery.scp --table data/enroll

The table is a data directory (wav.scp and utt2spk) or a file with lines `speaker path`. A speaker's model is the mean
of the recordings' unit vectors. Enrolling a name again replaces its model; --add adds recordings to it. A JSON
file with SCP's name and the ending .json has the number and duration of the recordings, and the mean norm of
their embeddings."""
IDENTIFY = """Find the speaker of each file in a gallery, or decide that the speaker is not in it.

rawnext identify -m exp/rawnext -g gallery.ark,gallery.scp who.wav
rawnext identify -m exp/rawnext -g gallery.ark,gallery.scp --prior 0.01 --exit-code calls/*.wav --json

Prints lines `AUDIO rank speaker score LLR probability`, the most probable speaker first, and a line
`AUDIO answer speaker probability`, whose speaker is - if the speaker is not in the gallery. The LLR compares this
speaker with any other. The answer is the most probable case, one of the speakers or none of them, by the LLRs and
--prior. Without a calibration of the model, LLR and probability are - and there is no answer."""
NOBODY = 3  # exit status

GALLERY = """List or remove the speakers of a gallery.

rawnext gallery list gallery.ark,gallery.scp
rawnext gallery info gallery.ark,gallery.scp
rawnext gallery remove gallery.ark,gallery.scp anna bert

list prints lines `speaker recordings seconds`. remove rewrites the three files of the gallery without these speakers'
models and names; without a remaining speaker it deletes them. Copies and backups are not touched."""


class Table(argparse.Action):
    """An option that replaces the positional arguments. Optional ones could not be given both before and after an
    option."""

    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, values)
        for action in parser._actions:
            action.required &= bool(action.option_strings)


def add_to(commands: argparse._SubParsersAction) -> None:
    for name, text, run, short in (("enroll", ENROLL, enroll, "add a speaker to a gallery"),
                                   ("identify", IDENTIFY, identify, "find the most similar speakers of a gallery")):
        parser = add_command(commands, name, run, short, text)
        parser.add_argument("-g", "--gallery", type=ark_scp, metavar="ARK,SCP", required=True,
                            help="files of the gallery")
        if name == "enroll":
            parser.add_argument("name", help="speaker id, valid in Kaldi's tables")
            parser.add_argument("--table", action=Table, metavar="LIST",
                                help="data directory, or file with lines `speaker path`")
            parser.add_argument("--add", action="store_true", help="add recordings to an enrolled speaker")
        else:
            parser.add_argument("--prior", type=float, default=0.5, metavar="P",
                                help="prior probability that the speaker is in the gallery, the same for each of its "
                                     "speakers (default %(default)s)")
            parser.add_argument("--exit-code", action="store_true",
                                help=f"exit with {NOBODY} if the speaker of a file is not in the gallery")
            parser.add_argument("--top", type=int, default=10, help="number of speakers to print (default %(default)s)")
        parser.add_argument("inputs", nargs="+", metavar="AUDIO")
        add_audio(parser)
    parser = add_command(commands, "gallery", list_speakers, "list or remove the speakers of a gallery", GALLERY)
    actions = parser.add_subparsers(required=True, metavar="list|info|remove")
    for name, run, short in (("list", list_speakers, "list the speakers"), ("info", info, "describe the gallery"),
                             ("remove", remove, "remove speakers")):
        parser = add_command(actions, name, run, short, f"{short.capitalize()}.")
        parser.add_argument("gallery", type=ark_scp, metavar="ARK,SCP", help="files of the gallery")
        if name == "remove":
            parser.add_argument("names", nargs="+", metavar="SPEAKER", help="speakers to remove")
        add_json(parser)


def existing_gallery(args: argparse.Namespace) -> "Gallery":
    """The gallery named by the options.   Raises: InputError: it does not exist, or see Gallery."""
    from rawnext.scoring.gallery import Gallery

    gallery = Gallery(args.gallery, None)
    if not gallery.speakers and not gallery.unfinished:
        raise InputError(args.gallery[1], None, "no such file; rawnext enroll makes it")
    return gallery


def list_speakers(args: argparse.Namespace) -> None:
    for name, speaker in existing_gallery(args).speakers.items():
        if args.json:
            print_json(speaker=name, utts=speaker.utts, seconds=speaker.seconds)
        else:
            print(f"{name} {speaker.utts} {speaker.seconds:.2f}")


def info(args: argparse.Namespace) -> None:
    gallery = existing_gallery(args)
    speakers = gallery.speakers.values()
    facts = {"speakers": len(speakers), "utts": sum(speaker.utts for speaker in speakers),
             "seconds": round(sum(speaker.seconds for speaker in speakers), 3),
             "dimensions": max((len(speaker.mean) for speaker in speakers), default=0), "model": gallery.fingerprint,
             "files": [str(path) for path in (gallery.ark, gallery.scp, gallery.json)]}
    print_facts(facts, args.json)


def remove(args: argparse.Namespace) -> None:
    if not args.gallery[1].parent.is_dir():
        raise InputError(args.gallery[1], None, "no such file; rawnext enroll makes it")
    with lock_folder(args.gallery[1].parent):
        gallery = existing_gallery(args)
        gallery.remove(args.names)
    names = list(dict.fromkeys(args.names))
    if args.json:
        print_json(removed=names, speakers=len(gallery.speakers))
    else:
        print(f"{' '.join(names)} removed; {len(gallery.speakers)} speakers in {gallery.scp}")


def enroll(args: argparse.Namespace) -> None:
    from rawnext.cli.inputs import embed_listed, files, speaker_table
    from rawnext.scoring.gallery import Gallery

    if bool(args.table) == bool(args.name) or bool(args.name) != bool(args.inputs):
        raise InputError("rawnext enroll", None, "wants either NAME and AUDIO or --table")
    if args.table:
        sources, spks = speaker_table(args.table, args.channel)
    else:
        sources, spks = files(args.inputs, args.channel), [check_id(args.name, "NAME")] * len(args.inputs)
    rows_of: dict[str, list[int]] = {}
    seen: set[tuple[str, float]] = set()
    for row, (name, source) in enumerate(zip(spks, sources)):
        rows_of.setdefault(name, []).append(row)
        if (place := (source.path, source.start_s)) in seen:
            raise InputError(args.table or "rawnext enroll", source.line, f"a file is named twice: {source.path}")
        seen.add(place)
    x, seconds, doubts, extractor = embed_listed(sources, lambda: load_extractor(args))
    with lock_folder(args.gallery[1].parent):
        gallery = Gallery(args.gallery, extractor.fingerprint)
        known = set(gallery.speakers)
        for name, rows in rows_of.items():
            gallery.enroll(name, x[rows], float(seconds[rows].sum()), args.add)
        gallery.save()
    for name, rows in rows_of.items():
        speaker, what = gallery.speakers[name], "added to" if args.add else "replaced" if name in known else "enrolled"
        if args.json:
            print_json(speaker=name, done=what, utts=speaker.utts, seconds=speaker.seconds,
                       speakers=len(gallery.speakers), doubts={sources[row].utt: doubts[sources[row].utt]
                                                               for row in rows})
        else:
            print(f"{name} {what}: {speaker.utts} recordings, {speaker.seconds:.2f} s; {len(gallery.speakers)} "
                  f"speakers in {gallery.scp}")


def identify(args: argparse.Namespace) -> None:
    from rawnext.cli.inputs import embed_listed, files
    from rawnext.scoring.gallery import Gallery

    if args.top < 1:
        raise InputError("--top", None, "must be at least 1")
    if not 0 < args.prior < 1:
        raise InputError("--prior", None, f"must be between 0 and 1, got {args.prior}")
    if not args.gallery[1].exists():
        raise InputError(args.gallery[1], None, "no such file; rawnext enroll makes it")
    judge = load_judge(args)
    if judge.why and args.exit_code:
        raise InputError("--exit-code", None, f"there is no answer: {judge.why}")
    print_doubts(filter(None, [judge.why, *judge.doubts]))
    x, seconds, doubts, extractor = embed_listed(files(args.inputs, args.channel), lambda: load_extractor(args, judge))
    gallery = Gallery(args.gallery, extractor.fingerprint)
    names, answers = list(gallery.speakers), []
    for name, scores, llrs, outside in zip(args.inputs, gallery.scores(x), *gallery.llrs(x, seconds, judge)):
        chances = gallery_posteriors(llrs, args.prior)
        best = int(chances.argmax())
        answers.append(names[best] if best < len(names) else None)
        found = []
        if outside.any():
            found.append("The calibration has not seen these durations and uses the nearest that it knows.")
        if scores.max() > SAME_AUDIO:
            found.append("This is audio of an enrolled speaker, or nearly; other recordings may score differently.")
        print_doubts(found, name)
        doubts[name] += found
        for rank, row in enumerate(np.argsort(-(scores if judge.why else llrs), kind="stable")[: args.top], 1):
            score, llr, chance = float(scores[row]), float(llrs[row]), float(chances[row])
            if args.json:
                answer = {"answer": answers[-1], "nobody": float(chances[-1])} if not judge.why else {}
                print_json(audio=name, rank=rank, speaker=names[row], score=round(score, 6), llr=llr,
                           probability=chance, **answer, doubts=[*doubts[name], *judge.doubts])
            else:
                print(f"{name} {rank} {names[row]} {score:.4f} {'- -' if judge.why else f'{llr:.3f} {chance:.4f}'}")
        if not (args.json or judge.why):
            print(f"{name} answer {answers[-1] or '-'} {chances[best]:.4f}")
    if args.exit_code and None in answers:
        sys.exit(NOBODY)
