# SPDX-License-Identifier: Apache-2.0
"""Errors in the user's input, and the exit codes of programs."""

import argparse
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn


def printable(text: str) -> str:
    """Text with escapes in place of characters that could change a terminal or start a new line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def warn(path: str | os.PathLike[str], why: str) -> None:
    """Print `PROGRAM: WARNING: path: why` on standard error: the result exists, but its user must know this.

    steps/verification.sh repeats these lines of its jobs' logs.
    """
    print(printable(f"{Path(sys.argv[0]).name}: WARNING: {os.fspath(path)}: {why}"), file=sys.stderr)


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, but it keeps the lines of the description, and its errors are printable, whatever was typed."""

    def __init__(self, *args: Any, **options: Any):
        options["formatter_class"] = argparse.RawDescriptionHelpFormatter
        super().__init__(*args, **options)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


class InputError(Exception):
    """The user's input is wrong: printed as one line `path:line: why`, without a traceback."""

    def __init__(self, path: str | os.PathLike[str], line: int | None, why: str):
        self.path, self.line, self.why = os.fspath(path), line, why
        text = f"{self.path}:{line}: {why}" if line else f"{self.path}: {why}"
        super().__init__(printable(text[:1000]))

    def __reduce__(self):  # an exception raised in a worker process is pickled on its way back
        return type(self), (self.path, self.line, self.why)


@contextlib.contextmanager
def as_input_error(path: str | os.PathLike[str], kinds: type[Exception] | tuple[type[Exception], ...] = ValueError,
                   ) -> Iterator[None]:
    """Turn a ValueError (or an error of these kinds) of the block into an InputError about this file or option."""
    try:
        yield
    except kinds as error:
        raise InputError(path, None, str(error)) from None


class AudioError(Exception):
    """Why audio cannot be read, in one line without the path."""


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # disk full, quota reached
UNWRITABLE = FULL | {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR,
                     errno.ENAMETOOLONG, errno.ELOOP}  # no permission, no folder, a name that cannot be

# Exit codes of training, from sysexits.h
EXIT_FAULT = 65  # EX_DATAERR: a restart would fail the same way, so steps/torchrun.py does not restart
EXIT_AGAIN = 75  # EX_TEMPFAIL: everything is saved, run it again (the launchers requeue such a job)


def run_main(main: Callable[[], None], fault_code: int = 1) -> NoReturn:
    """Run a program's `main`: an InputError prints its one line and exits 1, and so does an OSError about a file that
    the user named; any other exception is a bug."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be UTF-8 text
        sys.stdout.reconfigure(errors="backslashreplace")
    why = ""
    try:
        main()
    except InputError as error:
        why = str(error)
    except UnicodeEncodeError as error:  # Python's sign for bytes of a name or argument that are not UTF-8
        why = f"{error.object[max(0, error.start - 40):error.end]}: not UTF-8 text"
    except RuntimeError as error:  # of Path.resolve, before Python 3.13
        why = str(error)
        if not why.startswith("Symlink loop from "):
            raise
    except BrokenPipeError:  # `... | head` closed our output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # from a library that writes its own files, such as tensorboard
        if error.errno not in UNWRITABLE:
            raise
        why = f"{'' if error.filename is None else f'{error.filename}: '}{error.strerror}"
    except SystemExit as end:  # sys.exit("why")
        if isinstance(end.code, str):
            end.code = printable(end.code)
        raise
    if why:
        print(printable(f"{Path(sys.argv[0]).name}: {why}"), file=sys.stderr)
    sys.exit(fault_code if why else 0)
