# SPDX-License-Identifier: Apache-2.0
"""One training at a time in a folder."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from rawnext.errors import InputError
from rawnext.files import PathLike


@contextlib.contextmanager
def alone_in(folder: PathLike) -> Iterator[None]:
    """Hold `folder/.lock` for the length of the block.

    The system frees the lock when its process ends, however it ends: a file that was left behind does not block. It is
    a POSIX record lock, which a data worker does not inherit and which NFS carries from machine to machine.

    Raises: InputError: another process holds it.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(folder, None, f"is in use by {holder}; wait for it, or end it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
        yield
