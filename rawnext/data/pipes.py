# SPDX-License-Identifier: Apache-2.0
"""Standard output of programs, kept in memory: `command |` of wav.scp, run by bash, and ffmpeg."""

import io
import logging
import os
import subprocess
from collections.abc import Sequence
from typing import IO

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 31  # of one command's output: 18 hours of 16-bit audio at 16 kHz
READ_BYTES = 1 << 20  # at a time
ERROR_BYTES = 4096  # read from the end of a command's error output


def output_of(words: Sequence[str], name: str, about: str) -> io.BytesIO:
    """The standard output of a program.

    Args: words: the program and its arguments, without a shell.   name: for errors.   about: for its warnings.
    Raises: OSError: it failed, was killed, wrote nothing or more than MAX_BYTES; with its last line on stderr.
    """
    output = io.BytesIO()
    with open(os.memfd_create("errors"), "w+b") as errors:  # in memory
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout
            while block := process.stdout.read(READ_BYTES):
                output.write(block)
                if output.tell() > MAX_BYTES:
                    process.kill()  # its children end at their next write
                    raise OSError(f"{name} writes more than {MAX_BYTES} bytes")
        message = last_line(errors)
    if process.returncode < 0:
        raise OSError(f"{name} was killed by signal {-process.returncode}{message and ': '}{message}")
    if process.returncode > 0:
        raise OSError(f"{name} failed (exit status {process.returncode}){message and ': '}{message}")
    if output.tell() == 0:
        raise OSError(f"{name} wrote nothing{message and ': '}{message}")
    if message:
        log.warning("%s: %s", about, message)
    output.seek(0)
    return output


def last_line(file: IO[bytes]) -> str:
    """The last line of a file that is not blank, made printable."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - ERROR_BYTES))
    lines = file.read().decode(errors="replace").replace("\r", "\n").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(c if c.isprintable() else " " for c in last)
