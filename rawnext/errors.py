# SPDX-License-Identifier: Apache-2.0
"""Errors in the user's input, and the exit codes of programs."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class InputError(Exception):
    """The user's input is wrong: printed as one line `path:line: why`, without a traceback."""

    def __init__(self, path: str | os.PathLike[str], line: int | None, why: str):
        self.path, self.line, self.why = os.fspath(path), line, why
        text = f"{self.path}:{line}: {why}" if line else f"{self.path}: {why}"
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:1000]))

    def __reduce__(self):  # an exception raised in a worker process is pickled on its way back
        return type(self), (self.path, self.line, self.why)


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # disk full, quota reached
UNWRITABLE = FULL | {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}  # no permission, no folder


# Exit codes of training, from sysexits.h
EXIT_FAULT = 65  # EX_DATAERR: a restart would fail the same way, so steps/torchrun.py does not restart
EXIT_AGAIN = 75  # EX_TEMPFAIL: everything is saved, run it again (the launchers requeue such a job)


def run_main(main: Callable[[], None], fault_code: int = 1) -> NoReturn:
    """Run a program's `main`: an InputError prints its one line and exits 1; any other exception is a bug."""
    try:
        main()
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(fault_code)
    except BrokenPipeError:  # `... | head` closed our output
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # from a library that writes its own files, such as tensorboard
        if error.errno not in FULL:
            raise
        print(f"{Path(sys.argv[0]).name}: {error.strerror}", file=sys.stderr)
        sys.exit(fault_code)
    sys.exit(0)
