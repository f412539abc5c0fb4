# SPDX-License-Identifier: Apache-2.0
"""Config files for launchers, in Kaldi's format: they map options such as `--mem 4G` to options of sbatch or qsub.

  command sbatch --export=PATH     the command that submits a job
  option mem=* --mem=$0            for `--mem 4G`; $0 is the value
  option num_threads=1             for this value only (here: adds nothing); precedes the line with *
  default gpu=0                    the value if the command line has no --gpu
"""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from jobs import LauncherError, Request

ROOT = Path(__file__).resolve().parents[1]
BUILT_IN = ("max_jobs_run", "num_nodes")  # handled by the launchers; lines for them in a config file have no effect


@dataclass
class Conf:
    """A parsed config file. `options` maps (name, value or *) to options of sbatch or qsub."""

    name: str
    command: str = ""
    options: dict[tuple[str, str], str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)


def read_conf(given: str | None, default: str) -> Conf:
    """Read the file given by --config, or the default file, in the current folder or else in the project.

    Raises: LauncherError: the file cannot be read or a line is malformed (code 1).
    """
    path = given or (default if Path(default).exists() else str(ROOT / default))
    try:
        return parse_conf(path, Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(f"cannot read config file {path}: {getattr(error, 'strerror', 'not text')}", 1) from None


def parse_conf(name: str, text: str) -> Conf:
    """Parse the text of a config file; # starts a comment. Raises: LauncherError: a line is malformed (code 1)."""
    conf = Conf(name)
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"\s*#.*", "", line).strip()
        if not line:
            continue
        if match := re.fullmatch(r"command\s+(.+)", line):
            conf.command = match[1]
        elif match := re.fullmatch(r"option\s+([^=\s]+)=(\S+)(?:\s+(.*))?", line):
            if match[2] == "*" and match[3] and "$0" not in match[3]:
                raise LauncherError(f"{name}:{number}: expected $0 (the option's value) in '{line}'", 1)
            conf.options[match[1], match[2]] = match[3] or ""
        elif match := re.fullmatch(r"default\s+([^=\s]+)=(\S+)", line):
            conf.defaults[match[1]] = match[2]
        else:
            raise LauncherError(f"{name}:{number}: unable to parse '{line}' (expected command, option or default)", 1)
    if not conf.command:
        raise LauncherError(f"{name}: no line 'command ...'", 1)
    return conf


def submit_command(conf: Conf, request: Request) -> list[str]:
    """The command that submits a job, with the mapped options of the command line.

    Raises: LauncherError: no line for an option or its value (code 255), or an unclosed quote (code 1).
    """
    words = conf.command
    for option, value in {**conf.defaults, **request.long_options}.items():
        if option in BUILT_IN:
            continue
        text = conf.options.get((option, value), conf.options.get((option, "*")))
        if text is None:
            raise LauncherError(f"Command line option {option} not described in {conf.name} "
                                f"(or value '{value}' not allowed)")
        words += " " + text.replace("$0", value)
    try:
        return shlex.split(words)
    except ValueError:
        raise LauncherError(f"{conf.name}: unclosed quote in '{words}'", 1) from None
