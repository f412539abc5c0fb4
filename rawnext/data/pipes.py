# SPDX-License-Identifier: Apache-2.0
"""Output of programs: `command |` of wav.scp, run by bash, and ffmpeg."""

import io
import logging
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import IO, Any

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 31  # of one command's output: 18 hours of 16-bit audio at 16 kHz
READ_BYTES = 1 << 20  # at a time
ERROR_BYTES = 1 << 16  # read from the end of a command's error output


def run_pipe(command: str) -> IO[bytes]:
    """The standard output of a shell command as a file in memory.

    If any part of the pipeline fails, the command fails (pipefail).
    Raises: OSError: see run_program.
    """
    file = memory_file()
    messages = run_program(["bash", "-o", "pipefail", "-c", command], "its command", file.write)
    file.flush()
    if message := last_line(messages):
        log.warning("%s: %s", command.strip(), message)
    return file


def memory_file() -> IO[bytes]:
    """A file that is never written to disk."""
    return open(os.memfd_create("audio"), "w+b")


def path_of(file: IO[bytes]) -> str:
    """The path by which a file in memory can be opened while it is open."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"


def run_program(words: Sequence[str], name: str, write: Callable[[bytes], Any], max_bytes: int = 0,
                cpu_s: int = 0, memory: int = 0) -> str:
    """Run a program, which ends with this process, and give its standard output to `write`, block by block.

    Args: words: the program and its arguments, without a shell.   name: for errors.   max_bytes: 0: MAX_BYTES.
        cpu_s, memory: limits of its processor time and of its address space in bytes; 0: none.
    Returns: the end of its error output.
    Raises: OSError: it failed, was killed, wrote nothing or more than max_bytes; with its last line on stderr.
    """
    num_bytes, limit = 0, max_bytes or MAX_BYTES
    if ending := shutil.which("setpriv"):  # of util-linux; without it the program ends at its next write
        words = [ending, "--pdeathsig", "KILL", *words]
    with open(os.memfd_create("errors"), "w+b") as errors:  # in memory
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout
            # in place of preexec_fn, which is not safe in a process with threads
            for kind, most in ((resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_AS, memory)):
                if most:
                    resource.prlimit(process.pid, kind, (most, most))
            while block := process.stdout.read(READ_BYTES):
                num_bytes += len(block)
                if num_bytes > limit:
                    process.kill()  # its children end at their next write
                    raise OSError(f"{name} writes more than {limit} bytes")
                write(block)
        errors.seek(max(0, errors.seek(0, io.SEEK_END) - ERROR_BYTES))
        messages = errors.read().decode(errors="replace")
    message = last_line(messages)
    if process.returncode == -signal.SIGKILL and cpu_s:
        raise OSError(f"{name} was killed; it may take {cpu_s} s of processor time")
    if process.returncode < 0:
        raise OSError(f"{name} was killed by signal {-process.returncode}{message and ': '}{message}")
    if process.returncode > 0:
        raise OSError(f"{name} failed (exit status {process.returncode}){message and ': '}{message}")
    if num_bytes == 0:
        raise OSError(f"{name} wrote nothing{message and ': '}{message}")
    return messages


def last_line(messages: str) -> str:
    """The last line that is not blank, made printable."""
    lines = messages.replace("\r", "\n").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(c if c.isprintable() else " " for c in last)
