# SPDX-License-Identifier: Apache-2.0
"""Zip and tar archives as one list of members."""

import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from parts import Fault, Parts

ZIP = (b"PK\3\4", b"PK\5\6")  # with members, without
TAR = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2", b"\xfd7zXZ\0": "r:xz"}  # others are plain
LINK_BYTES = 4096  # of a symbolic link's target
HEADER_BYTES = 1 << 20  # of a tar's extended header, which is read into memory
MOST_REST = 1 << 26  # bytes behind a tar's end mark
# what Python's readers raise for damaged archives, besides their own errors
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError,
          NotImplementedError, OverflowError, IndexError, KeyError)


class Member(NamedTuple):
    """kind: file, folder, symlink, hardlink or other; target: where a link leads; handle: what opens it."""

    name: str
    kind: str
    size: int
    mode: int
    target: str
    handle: Any


class Archive(NamedTuple):
    """members: may be walked once, in the order of the archive; open: gives a member's bytes while they are walked."""

    members: Iterator[Member]
    open: Callable[[Member], IO[bytes]]


@contextmanager
def open_archive(paths: list[Path]) -> Iterator[Archive]:
    """A zip or tar (plain, gz, bz2, xz), told by its content.

    Raises: Fault: it cannot be opened or is none.
    """
    with io.BufferedReader(Parts(paths), 1 << 20) as file:
        start = file.read(6)
        if start.startswith(ZIP):  # the end alone would take a tar for the zip that it ends with
            try:
                archive = zipfile.ZipFile(file)
            except zipfile.BadZipFile:
                raise Fault("is damaged, or its end is missing (is that the last part?)") from None
            with archive:
                yield Archive(zip_members(archive), lambda member: archive.open(member.handle))
            return
        file.seek(0)
        # not "r:*", which also tries old .lzma: any bytes may be one, with a dictionary of gigabytes
        mode: Any = next((mode for magic, mode in TAR.items() if start.startswith(magic)), "r:")
        try:
            tar = tarfile.open(fileobj=file, mode=mode, tarinfo=StrictInfo)  # noqa: SIM115 (the with stands below)
        except tarfile.ReadError:
            raise Fault("is no zip or tar archive, or damaged") from None
        with tar:
            yield Archive(tar_members(tar), lambda member: tar.extractfile(member.handle) or io.BytesIO())


def zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind, mode, target = stat.S_IFMT(info.external_attr >> 16), info.external_attr >> 16, ""
        if info.flag_bits & 1:
            raise Fault(f"{info.filename!r} is locked by a password")
        name = {stat.S_IFLNK: "symlink", stat.S_IFREG: "file", stat.S_IFDIR: "folder", 0: "file"}.get(kind, "other")
        if name == "symlink":
            if info.file_size > LINK_BYTES:
                raise Fault(f"{info.filename!r} is a damaged link")
            target = archive.read(info).decode()
        elif info.is_dir():
            name = "folder"
        yield Member(info.filename, name, info.file_size if name == "file" else 0, mode, target, info)


class StrictInfo(tarfile.TarInfo):
    """A tar's header. Python's reader takes a damaged one for the end, and reads extended ones whatever their size."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        info = super().frombuf(buf, encoding, errors)
        extended = info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME,
                                 tarfile.GNUTYPE_LONGLINK)
        if info.size < 0 or (extended and info.size > HEADER_BYTES):
            raise tarfile.ReadError(f"damaged header: size {info.size}")
        return info

    @classmethod
    def fromtarfile(cls, tarfile_):
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged or cut off: {error}") from None


def tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    last = -1
    for info in tar:
        if info.offset_data <= last or info.size < 0:
            raise Fault(f"{info.name!r} has a damaged header")
        last = info.offset_data
        kind = ("symlink" if info.issym() else "hardlink" if info.islnk() else "folder" if info.isdir() else
                "file" if info.isreg() and not info.issparse() else "other")
        yield Member(info.name, kind, info.size if kind == "file" else 0, info.mode, info.linkname, info)
    rest = 0
    while tar.fileobj and (block := tar.fileobj.read(1 << 16)):  # the checksum of a compressed one stands at its end
        if (rest := rest + len(block)) > MOST_REST:
            raise Fault("goes on behind its end")
