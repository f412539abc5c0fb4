# SPDX-License-Identifier: Apache-2.0
"""An exclusive lock on a folder."""

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
def lock_folder(folder: PathLike) -> Iterator[None]:
    """Hold an exclusive lock on `folder/.lock` during the block.

    The system releases the lock when the process ends for any reason, so a leftover file does not block. It is a POSIX
    record lock, which data workers do not inherit and which works across machines over NFS.

    Raises: InputError: another process holds the lock.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise InputError(path, None, "is not a file")
    with open(path, "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise InputError(folder, None, f"is in use by {holder}; wait for it, or stop it") from None
        except OSError as error:  # of a file system without locks
            raise InputError(path, None, f"cannot be locked: {error.strerror}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
        yield
