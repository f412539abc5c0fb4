# SPDX-License-Identifier: Apache-2.0
"""Kaldi's config files for launchers: how options such as `--mem 4G` become options of sbatch or qsub.

  command sbatch --export=PATH     what submits a job
  option mem=* --mem=$0            for `--mem 4G`; $0 is the value
  option num_threads=1             for just this value (here: nothing to add); wins over the line with *
  default gpu=0                    if the command line does not say --gpu
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from jobs import Refused, Request

OWN = ("max_jobs_run", "num_nodes")  # the launchers know how these are said; a file may describe them, in vain


@dataclass
class Conf:
    """A config file, read. `options`: (name, value or *) -> what it stands for."""

    name: str
    command: str = ""
    options: dict[tuple[str, str], str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)


def read_conf(given: str | None, usual: str, built_in: str) -> Conf:
    """Read the file that the user named, or the usual one if it exists, or the built-in text.

    Raises: Refused: the named file cannot be read, or a line makes no sense (1).
    """
    path = given or usual
    if not given and not Path(usual).exists():
        return parse_conf("the built-in config", built_in)
    try:
        return parse_conf(path, Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read config file {path}: {getattr(error, 'strerror', 'not text')}", 1) from None


def parse_conf(name: str, text: str) -> Conf:
    """Read the lines of a config file; # begins a comment."""
    conf = Conf(name)
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"\s*#.*", "", line).strip()
        if not line:
            continue
        if match := re.fullmatch(r"command\s+(.+)", line):
            conf.command = match[1]
        elif match := re.fullmatch(r"option\s+([^=\s]+)=(\S+)(?:\s+(.*))?", line):
            if match[2] == "*" and match[3] and "$0" not in match[3]:
                raise Refused(f"{name}:{number}: expected $0, which stands for the option's value, in '{line}'", 1)
            conf.options[match[1], match[2]] = match[3] or ""
        elif match := re.fullmatch(r"default\s+([^=\s]+)=(\S+)", line):
            conf.defaults[match[1]] = match[2]
        else:
            raise Refused(f"{name}:{number}: unable to parse line '{line}' (expected command, option or default)", 1)
    if not conf.command:
        raise Refused(f"{name}: there is no line 'command ...'", 1)
    return conf


def submit_command(conf: Conf, request: Request) -> list[str]:
    """The submitting program with what the options of the command line stand for.

    Raises: Refused: an option, or its value, is not described (255).
    """
    words = conf.command
    for option, value in {**conf.defaults, **request.given}.items():
        if option in OWN:
            continue
        text = conf.options.get((option, value), conf.options.get((option, "*")))
        if text is None:
            raise Refused(f"Command line option {option} not described in {conf.name} (or value '{value}' not allowed)")
        words += " " + text.replace("$0", value)
    try:
        return shlex.split(words)
    except ValueError:
        raise Refused(f"{conf.name}: quotes do not match in '{words}'", 1) from None
