# SPDX-License-Identifier: Apache-2.0
"""Text files: written by atomic rename, read line by line with checks."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from rawnext.errors import UNWRITABLE, InputError

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def readable(path: PathLike) -> Iterator[None]:
    """Turn an OSError of the block, which reads `path`, into an InputError."""
    try:
        yield
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise InputError(path, None, "no such file" if missing else f"cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def writable(path: PathLike, *files: Path) -> Iterator[None]:
    """Make the folder of `path`; turn an OSError about it, these files or a full disk into an InputError."""
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        ours = error.filename is None or Path(error.filename) in (*files, *final.parents)
        if ours and error.errno in UNWRITABLE:
            raise InputError(final, None, f"cannot be written: {error.strerror}") from error
        raise


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """A temporary name in the folder of `path`, renamed to `path` if the block succeeds and deleted if it fails."""
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    with writable(final, temporary):
        try:
            yield temporary
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    """Write text lines (given without newlines) to a temporary file and rename it."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """(line number, line without newline) of a text file.

    Raises: InputError: missing, unreadable, not UTF-8, an empty line, Windows line ends, control characters or
        unusual spaces.
    """
    with readable(path), open(path, encoding="utf-8", newline="\n") as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                line = line.removesuffix("\n")
                if line.endswith("\r"):
                    raise InputError(path, number, "Windows line end (CRLF); convert the file with dos2unix")
                if not line.strip():
                    raise InputError(path, number, "empty line")
                # no-break spaces, byte order marks: programs disagree on where such a line splits
                if not line.isprintable() and (odd := [c for c in line if not c.isprintable() and c != "\t"]):
                    raise InputError(path, number, f"control character or unusual space (U+{ord(odd[0]):04X})")
                yield number, line
        except UnicodeDecodeError:
            raise InputError(path, number + 1, "not UTF-8 text") from None
