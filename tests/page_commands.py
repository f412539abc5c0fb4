# SPDX-License-Identifier: Apache-2.0
"""The commands of a page: code blocks, the words of their commands, and checks of a command without running it."""

import argparse
import contextlib
import importlib
import io
import re
import runpy
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from rawnext.training.system import load_system

# Programs in the pages that are not part of this project.
OUTSIDE = {"column", "head", "less", "sbatch", "ivector-plda-scoring", "pre-commit", "docker", "git", "pip",
           "cat", "cp", "unzip", "tar"}
LAST_STAGE = 10
OF_PAGES = ("conf/statistics_tdnn.yaml",)     # written by the reader of a page


class Block(NamedTuple):
    """A block of code. line: its first line in the page.   before: the text of the page before it."""

    line: int
    language: str
    code: str
    before: str


class Command(NamedTuple):
    """words: program and arguments.   folder: the block's current folder after `cd`; "" if none."""

    words: list[str]
    folder: str


def blocks(text: str) -> Iterator[Block]:
    """Fenced blocks, and indented ones as language `bash`."""
    pattern = r"^```(?P<language>[^\n`]*)\n(?P<code>.*?)^```$|(?<=\n\n)(?P<indented>(?: {4,}\S[^\n]*(?:\n|$))+)"
    for match in re.finditer(pattern, text, re.M | re.S):
        before = text[:match.start()]
        indented = match["indented"]
        yield Block(before.count("\n") + 1, "bash" if indented else match["language"],
                    textwrap.dedent(indented) if indented else match["code"], before)


def commands(code: str) -> Iterator[Command]:
    """Each simple command of a shell block, without leading assignments."""
    lines = re.sub(r"(^|\s)#.*", r"\1", code, flags=re.M).replace("\\\n", " ")
    lexer = shlex.shlex(lines, posix=True, punctuation_chars=";|&<>()\n")
    lexer.commenters, lexer.whitespace_split, lexer.whitespace = "", True, " \t"
    words: list[str] = []
    folder = ""
    for word in [*lexer, "\n"]:
        if not word or not set(word) <= set(";|&\n"):
            words.append(word)
            continue
        while words and re.fullmatch(r"\w+=.*", words[0], re.S):
            words.pop(0)
        if words:
            yield Command(words, folder)
            folder = words[1] if words[0] == "cd" else folder
        words = []


def pages(root: Path) -> list[Path]:
    """All pages with commands."""
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted(root.glob("docs/**/*.md")),
            *sorted(root.glob("egs/*/README.md"))]


def of_page(page: Path) -> list[list[str]]:
    """The words of all commands of a page."""
    return [command.words for block in blocks(page.read_text(encoding="utf-8")) if block.language == "bash"
            for command in commands(block.code)]


def example(root: Path, page: str, start: str) -> list[str]:
    """The words of the one command of a page that is, or begins with, `start`.

    A test runs them with more options that make the run small. tests/docs/test_docs_run.py searches all tests for calls
    `example(root, "page", "start")` on one line.
    """
    lines = {" ".join(words): words for words in of_page(root / page)}
    found = [start] if start in lines else [line for line in lines if line.startswith(start)]
    if len(found) != 1:
        raise Fault(f"{page} has {len(found)} commands that begin with {start}")
    return lines[found[0]]


class Fault(Exception):
    """The reason why a command of a page is wrong."""


def check(command: Command, root: Path, page: Path, before: str) -> None:
    """Raise Fault unless the program exists and accepts its options, stages and files."""
    name, *rest = command.words
    if name in ("cd", "."):
        if not (root / rest[0]).exists():
            raise Fault(f"no {rest[0]}")
    elif name == "make":
        check_make(root / "Makefile", rest)
    elif name == "rawnext":
        check_python(entry_point(root), "rawnext", rest, root)
    elif name.endswith(".sh"):
        check_shell(scripts(name, command.folder, root, page, before), rest, root)
    elif name.endswith(".py"):
        if not (root / name).is_file():
            raise Fault(f"no program {name}")
        if (root / name).read_bytes().startswith(b"#!"):     # otherwise a module mentioned in a sentence
            check_python(lambda: runpy.run_path(str(root / name))["main"](), name, rest, root)
    elif name not in OUTSIDE | {"export"}:
        raise Fault(f"unknown program {name}; text that is not a command needs a block of language text")


def check_make(makefile: Path, words: list[str]) -> None:
    text = makefile.read_text()
    for word in words:
        if not re.search(rf"^{re.escape(word.split('=')[0])}(:| \?=)", text, re.M):
            raise Fault(f"make has no target or variable {word}")


def scripts(name: str, folder: str, root: Path, page: Path, before: str) -> list[Path]:
    """The scripts that `name` may be; for ./run.sh, that of the recipe mentioned last, or of any if there is none."""
    if not name.startswith("./"):
        found = [root / name]
    else:
        recipes = re.findall(r"egs/(\w+)", before) or re.findall(r"egs/(\w+)", f"{page}")
        recipes = [folder.removeprefix("egs/")] if folder.startswith("egs/") else recipes[-1:]
        found = [root / "egs" / recipe / name for recipe in recipes]
        if not any(path.is_file() for path in found):
            found = sorted(root.glob(f"egs/*/{name}"))
    if not found or not all(path.is_file() for path in found):
        raise Fault(f"no script {name}")
    return found


def check_shell(paths: list[Path], words: list[str], root: Path) -> None:
    """Options are the variables above `. utils/parse_options.sh`; one of the scripts must have them all."""
    shared, known = (root / "steps/options.sh").read_text(), []
    for path in paths:
        block = path.read_text().split("parse_options.sh")[0]
        block += shared if "\n. steps/options.sh\n" in block else ""
        known.append(set(re.findall(r"^([a-z]\w*)=", block, re.M)))
    given = dict(zip(words, [*words[1:], ""]))
    names = {word[2:].replace("-", "_") for word in words[:words.index("--") if "--" in words else None]
             if word.startswith("--")} - {"help", "config"}
    if not any(names <= options for options in known):
        raise Fault(f"{paths[0].name} has no option {', '.join(sorted(names - known[0]))}")
    for option in ("--stage", "--stop-stage"):
        if not 0 <= int(given.get(option, 0)) <= LAST_STAGE:
            raise Fault(f"no stage {given[option]}")
    check_config(given.get("--conf", "").split(), given.get("--set", "").split(), root)


def check_config(names: list[str], sets: list[str], root: Path) -> None:
    """The YAML files of the project load, with the options of --set.

    Files of experiments do not exist: with these, options of the model are not checked, the others are.
    """
    ours = [root / name for name in names if name.startswith("conf/") and name not in OF_PAGES]
    load_system(ours, sets if len(ours) == len(names) else [text for text in sets if not text.startswith("model")])


def entry_point(root: Path):
    """The function that the program `rawnext` calls, from pyproject.toml."""
    found = re.search(r'^rawnext = "([\w.]+):(\w+)"', (root / "pyproject.toml").read_text(), re.M)
    if not found:
        raise Fault("pyproject.toml has no program rawnext")
    return lambda: getattr(importlib.import_module(found[1]), found[2])()


class Parsed(Exception):
    """The options were parsed; the program must not go on."""


def check_python(main, name: str, words: list[str], root: Path) -> None:
    """Parse the words with the program's own parser; if `...` is among them, only compare the options."""
    real = argparse.ArgumentParser.parse_args

    def parse(parser, args=None, namespace=None):
        if "..." in words:
            unknown = {word for word in words if word.startswith("--")} - options_of(parser)
            raise Fault(f"{name} has no option {', '.join(unknown)}") if unknown else Parsed
        read = real(parser, args, namespace)
        if hasattr(read, "config") and hasattr(read, "set"):
            check_config(flat(read.config), flat(read.set), root)
        raise Parsed

    output = io.StringIO()
    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse), \
            mock.patch.object(sys, "argv", [name, *words]), \
            mock.patch.object(sys, "path", [str((root / name).parent), *sys.path]), \
            contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        try:
            main()
        except Parsed:
            return
        except SystemExit as end:
            if not end.code:  # --help
                return
    raise Fault((output.getvalue().strip().splitlines() or ["ran without parsing options"])[-1])


def flat(value: str | list | None) -> list[str]:
    """Words of an option with several values, as a string or as nested lists."""
    return value.split() if isinstance(value, str) else [word for item in value or () for word in flat(str(item))]


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """All options of a parser and of its subcommands."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for other in action.choices.values():
                found |= options_of(other)
    return found
