# SPDX-License-Identifier: Apache-2.0
"""Entry of the command line."""

import argparse
from collections.abc import Iterator, Sequence
from typing import NoReturn

from rawnext import __version__
from rawnext.cli import diarize, embed, evaluate, gallery, model, score, serve, verify
from rawnext.errors import ArgumentParser, run_main

DESCRIPTION = """Speaker embeddings, verification and identification with a trained model.

MODEL is an experiment folder of a recipe, a folder written by `rawnext export --safetensors`, or the address of such a
folder: hf:OWNER/NAME[@REVISION] on the Hugging Face Hub, or https://HOST/ARCHIVE#sha256=HEX, a tar archive. The
environment variable RAWNEXT_MODEL sets it for all commands. Without either, the model that comes with the package is
used."""


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser("rawnext", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}", help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for part in (embed, verify, gallery, score, evaluate, diarize, model, serve):
        part.add_to(commands)
    command = commands.add_parser("completion", help="print a shell's completion script")
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    command.set_defaults(run=lambda args: print_completion(parser, args.shell))
    return parser


def print_completion(parser: argparse.ArgumentParser, shell: str) -> None:
    import shtab

    for action in all_actions(parser):
        if action.metavar in ("AUDIO", "FILE", "LIST", "ARK,SCP"):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads this attribute
        elif action.metavar in ("MODEL", "DIR"):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(parser, shell))


def all_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Options and arguments of a parser and its subcommands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from all_actions(command)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command.   words: its command line; None: that of this process."""
    args = build_parser().parse_args(words)
    args.run(args)


def program() -> NoReturn:
    run_main(main)
