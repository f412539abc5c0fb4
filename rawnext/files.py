# SPDX-License-Identifier: Apache-2.0
"""Text files: written by atomic rename, read line by line or as JSON with checks."""

import contextlib
import errno
import json
import math
import os
import re
import select
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rawnext.errors import UNWRITABLE, InputError

PathLike = str | os.PathLike[str]

STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")  # standard input, and the pipes of a shell's <(...)
OPEN_FILES = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")
JSON_BYTES = 1 << 26
FIFO_S = 5
NEW = ".new"
NAME_BYTES = 255  # of a file's name, on Linux


@contextlib.contextmanager
def readable(path: PathLike, fifo: bool = False) -> Iterator[None]:
    """Turn an OSError of the block, which reads `path`, into an InputError.

    A folder is refused before the block, and so are a device and, without `fifo`, a FIFO: they may never end or answer.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(path, None, "is not a file but a folder")
        known = stat.S_ISREG(mode) or (fifo and stat.S_ISFIFO(mode))
        if not known and os.fspath(path) != os.devnull and not os.fspath(path).startswith(STREAMS):
            raise InputError(path, None, "is not a file but a FIFO, device or socket")
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


def is_special(path: PathLike) -> bool:
    """Is this a FIFO, device, socket or the name of an open file, such as /dev/stdout?"""
    if os.fspath(path).startswith(OPEN_FILES):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:  # it will be reported when the file is written
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def refuse_special(*paths: PathLike) -> None:
    """Raise InputError if a file to be written is a FIFO, device or socket."""
    for path in paths:
        if is_special(path):
            raise InputError(path, None, "cannot be written: it is not a file but a FIFO, device or socket")


@contextlib.contextmanager
def atomic_path(path: PathLike, stream: bool = False) -> Iterator[Path]:
    """A temporary name in the folder of `path`, renamed to `path` if the block succeeds and deleted if it fails.

    A symbolic link stays; its target is replaced. A FIFO or device is never replaced: with `stream`, for writers that
    write from start to end, the block gets its own name.
    Raises: InputError: `path` is a FIFO, device or socket, without `stream`; or it cannot be written.
    """
    if not stream:
        refuse_special(path)
    elif is_special(path):
        with writable(path, Path(path)):
            yield Path(path)
        return
    final = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if not final.name:
        raise InputError(path, None, "is not the name of a file")
    end = f".{os.getpid()}.tmp"  # after the name, which is shortened if both together would be too long for a name
    begin = os.fsencode(final.name)[:NAME_BYTES - 1 - len(end)] if len(os.fsencode(final.name)) <= NAME_BYTES else b"x"
    temporary = final.with_name(f".{os.fsdecode(begin)}{end}")
    with writable(final, temporary):
        try:
            yield temporary
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_together(folder: PathLike) -> Iterator[Path]:
    """A temporary folder, whose files replace those in `folder` at the end of the block: for `newest`, all at once.

    It is renamed to `.new` in `folder`, from where the files are moved. After a kill, the next call moves the rest.
    """
    folder = Path(folder)
    temporary = folder / f".new.{os.getpid()}.tmp"
    with writable(folder, folder, temporary):
        folder.mkdir(exist_ok=True)
        try:
            shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with this id
            temporary.mkdir()
            yield temporary
            for path in temporary.iterdir():
                if (final := folder / path.name).exists() and not final.is_file():
                    raise InputError(final, None, "cannot be written: it is not a file")
            move_new(folder)
            os.rename(temporary, folder / NEW)
            move_new(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def move_new(folder: Path) -> None:
    """Move the files of `.new`, if there is such a folder, to their places. Links stay."""
    if (folder / NEW).is_dir():
        for path in (folder / NEW).iterdir():
            shutil.move(path, os.path.realpath(folder / path.name))
        (folder / NEW).rmdir()


def newest(path: PathLike) -> Path:
    """The file, or its new version if `replaced_together` was killed before it was moved."""
    new = Path(path).parent / NEW / Path(path).name
    return new if new.exists() else Path(path)


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    """Write text lines (without newlines) to a temporary file and rename it; a FIFO or device gets them directly."""
    with atomic_path(path, stream=True) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def open_or_time_out(path: str, flags: int) -> int:
    """Open a file; waits a few seconds for the first byte of a named FIFO.   Raises: TimeoutError: nothing comes."""
    if path.startswith(STREAMS) or not stat.S_ISFIFO(os.stat(path).st_mode):
        return os.open(path, flags)
    file = os.open(path, flags | os.O_NONBLOCK)
    if not select.select([file], [], [], FIFO_S)[0]:
        os.close(file)
        raise TimeoutError(errno.ETIMEDOUT, f"a FIFO to which nothing is written for {FIFO_S} s")
    os.set_blocking(file, True)
    return file


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """(line number, line without newline) of a text file.

    Raises: InputError: missing, unreadable, not UTF-8, an empty line, Windows line ends, control characters or
        unusual spaces.
    """
    with readable(path, fifo=True), open(path, encoding="utf-8", newline="\n", opener=open_or_time_out) as file:
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


# Tables of a data directory that have a line for each utterance
UTT_TABLES = ("utt2spk", "segments", "utt2dur", "utt2num_frames", "utt2lang", "utt2uniq", "utt2session", "utt2corpus",
              "text", "feats.scp", "vad.scp")


def condition_tables(folder: PathLike) -> list[Path]:
    """The tables utt2X and spk2X of a data directory that give a property of its utterances or speakers, by name."""
    other = ("utt2spk", "spk2utt", "utt2num_frames", "utt2uniq")
    return sorted(path for path in Path(folder).glob("*2*") if re.fullmatch(r"(?:utt|spk)2\w+", path.name)
                  and path.name not in other and path.is_file())


def read_json(path: PathLike, what: str = "JSON") -> Any:
    """The value in a JSON file that others may have made.

    Raises: InputError: the file is missing, over 64 MB or not JSON (`is not WHAT`), is nested too deeply to be read, or
        has a number that is not finite, such as NaN or 1e999.
    """
    def finite(text: str) -> float:
        if not math.isfinite(number := float(text)):
            raise ValueError(text)
        return number

    with readable(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size if os.path.isfile(path) else JSON_BYTES
        data = file.read(min(size, JSON_BYTES) + 1)  # read() takes the memory before it reads
    try:
        if len(data) > JSON_BYTES:
            raise ValueError("too large")
        return json.loads(data.decode("utf-8"), parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        raise InputError(path, None, f"is not {what}") from None


def read_object(path: PathLike) -> dict[str, Any]:
    """The JSON object in a file; empty without the file.   Raises: InputError: see read_json, or another value."""
    value = read_json(path) if os.path.exists(path) else {}
    if not isinstance(value, dict):
        raise InputError(path, None, "is not a JSON object")
    return value
