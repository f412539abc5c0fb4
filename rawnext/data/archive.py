# SPDX-License-Identifier: Apache-2.0
"""Audio inside large files, which wav.scp gives as `FILE:OFFSET`: members of tar files (Lhotse Shar), Kaldi's arks.

FILE stays open and is read by position, so reading an utterance opens nothing, and threads and forks can share it.
"""

import io
import os
import re
import stat
from functools import lru_cache

from rawnext.files import PathLike

PLACE = re.compile(r"(.+):([0-9]{1,18})", re.DOTALL)
MAX_OPEN = 256  # archives of a process, of the 1,024 files that Linux allows by default
TAR_HEADER = 512  # bytes before the content of a member
STREAMED = (0, 0x7FFFF000)  # a RIFF size below or above: written by a program that did not know it


class Archive:
    """An open file, closed when nothing refers to it."""

    def __init__(self, fd: int):
        self.fd = fd

    def __del__(self, close=os.close) -> None:  # os may be gone when Python ends
        close(self.fd)


@lru_cache(maxsize=MAX_OPEN)
def open_archive(path: str, _device: int, _inode: int) -> Archive:
    return Archive(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


class Member(io.RawIOBase):
    """`size` bytes of an archive from `start` on, as a file of its own."""

    def __init__(self, name: str, archive: Archive, start: int, size: int):
        self.name, self.archive, self.start, self.size, self.position = name, archive, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence])
        return self.position

    def readinto(self, buffer) -> int:
        view = memoryview(buffer)
        left = min(view.nbytes, self.size - self.position)
        if left <= 0:
            return 0
        num = os.preadv(self.archive.fd, [view.cast("B")[:left]], self.start + self.position)
        self.position += num
        return num


def open_member(place: PathLike) -> Member | None:
    """Open FILE:OFFSET; None if `place` has another form or FILE is not a file.

    Raises: OSError: no audio begins there, or it is cut off.
    """
    if not (parts := PLACE.fullmatch(os.fspath(place))):
        return None
    path, offset = os.path.abspath(parts[1]), int(parts[2])
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    archive = open_archive(path, status.st_dev, status.st_ino)
    start, size = locate(archive.fd, offset)
    if size <= 0:
        raise OSError("empty file")
    if start + size > status.st_size:
        raise OSError(f"cut off: {path} has {status.st_size} bytes, and this audio ends at byte {start + size}")
    return Member(os.fspath(place), archive, start, size)


def locate(fd: int, offset: int) -> tuple[int, int]:
    """First byte and size of the audio at `offset`, from the headers of a tar file, a WAV file, or kaldiio's arks."""
    before = min(offset, TAR_HEADER)
    block = os.pread(fd, before + 16, offset - before)
    header, head = block[:before], block[before:]
    if header[257:262] == b"ustar" and header[156:157] in (b"0", b"\0"):  # a file
        try:
            return offset, int(header[124:136].strip(b" \0"), 8)
        except ValueError:
            raise OSError(f"damaged header of a tar file before byte {offset}") from None
    if head[:4] == b"RIFF" and STREAMED[0] < (size := int.from_bytes(head[4:8], "little")) < STREAMED[1]:
        return offset, 8 + size
    if head[:5] == b"AUDIO" and 0 < (width := int.from_bytes(head[5:6], "little")) <= 8:
        return offset + 6 + width, int.from_bytes(head[6: 6 + width], "little")
    raise OSError(f"no audio of known size at byte {offset}; expected a member of a tar file, or a WAV file")
