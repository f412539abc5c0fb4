# SPDX-License-Identifier: Apache-2.0
"""Kaldi's `command |` in wav.scp, run by bash, and other programs whose standard output is kept in memory."""

import io
import logging
import os
import subprocess
from collections.abc import Sequence
from typing import IO

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 31  # of one command's output: 18 hours of 16-bit audio at 16 kHz
READ_BYTES = 1 << 20  # at a time
ERROR_BYTES = 4096  # of the end of what a command says


def run_pipe(command: str) -> io.BytesIO:
    """What a command writes to its standard output. Any part of its pipe that fails makes it fail (pipefail).

    Raises: OSError: see output_of.
    """
    return output_of(["bash", "-o", "pipefail", "-c", command], "its command", command.strip())


def output_of(words: Sequence[str], name: str, about: str) -> io.BytesIO:
    """What a program writes to its standard output.

    Args: words: the program and its arguments, which no shell reads.   name: for errors.   about: for its warnings.
    Raises: OSError: it failed, was killed, wrote nothing, or more than MOST_BYTES; with the last line that it said.
    """
    output = io.BytesIO()
    with open(os.memfd_create("errors"), "w+b") as errors:  # in memory
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout
            while block := process.stdout.read(READ_BYTES):
                output.write(block)
                if output.tell() > MOST_BYTES:
                    process.kill()  # and what it started ends at its next write
                    raise OSError(f"{name} writes more than {MOST_BYTES} bytes")
        said = last_line(errors)
    if process.returncode < 0:
        raise OSError(f"{name} was killed by signal {-process.returncode}{said and ': '}{said}")
    if process.returncode > 0:
        raise OSError(f"{name} failed (exit status {process.returncode}){said and ': '}{said}")
    if output.tell() == 0:
        raise OSError(f"{name} wrote nothing{said and ': '}{said}")
    if said:
        log.warning("%s: %s", about, said)
    output.seek(0)
    return output


def last_line(file: IO[bytes]) -> str:
    """The last line of a file that holds more than white space, made printable."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - ERROR_BYTES))
    lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(c if c.isprintable() else " " for c in last)
