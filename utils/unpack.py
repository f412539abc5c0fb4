#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Unpack corpora that came as zip, tar, tar.gz, tar.bz2 or tar.xz, whole or cut into parts.

  utils/unpack.py /corpora/VoxCeleb2 downloads/vox2_dev_aac_part* downloads/vox2_test_aac.zip

Parts (x_partaa x_partab ..., x.zip.001 x.zip.002 ...) are joined while they are read. All members are looked at before
anything is written: names and links that leave OUT_DIR, devices, and more data than --max-size or the disk holds are
refused. Files that are there with the right size are left alone, so an unpacking that was stopped goes on.
"""

import argparse
import os
import re
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from archives import DAMAGE, Archive, Member, open_archive
from parts import Fault, group_parts

BLOCK = 1 << 20
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
REPORT_S = 20  # seconds between lines of progress


def inside(name: str) -> list[str]:
    """The components of a member's name.

    Raises: Fault: it cannot be a path below the target.
    """
    if not name or not name.isprintable():
        raise Fault(f"{name[:200]!r}: an empty name or one with control characters")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise Fault(f"{name[:200]!r} leaves the target")
    if any(len(part.encode()) > 255 for part in parts):
        raise Fault(f"{name[:200]!r}: a name of more than 255 bytes")
    return parts


def check_symlink(member: Member, depth: int) -> None:
    """Raise Fault unless a link at this depth leads to a place below the target, whatever other links there are.

    As no member lies behind a link, `..` at the beginning means what it says; elsewhere it could not be trusted.
    """
    parts = [part for part in member.target.split("/") if part not in ("", ".")]
    up = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    if member.target.startswith("/") or not member.target.isprintable() or ".." in parts[up:] or up > depth:
        raise Fault(f"{member.name!r} is a link that leaves the target: {member.target[:200]!r}")


class Plan:
    """What has been seen of an archive."""

    def __init__(self, out: Path, max_size: int):
        self.out, self.max_size = out, max_size
        self.leaves: dict[str, str] = {}  # name -> kind of what is no folder
        self.folders: set[str] = set()
        self.size = self.size_to_write = 0

    def add(self, member: Member) -> None:
        """Raise Fault unless the member may be written."""
        parts = inside(member.name)
        name = "/".join(parts)
        if member.kind == "other":
            raise Fault(f"{member.name!r} is no file, folder or link")
        self._add_folders(parts[:-1], member)
        if member.kind == "folder":
            self._add_folders(parts, member)
            return
        if not parts or name in self.leaves or name in self.folders:
            raise Fault(f"{member.name!r} stands twice")
        self.leaves[name] = member.kind
        if member.kind == "symlink":
            check_symlink(member, len(parts) - 1)
        elif member.kind == "hardlink" and self.leaves.get("/".join(inside(member.target))) != "file":
            raise Fault(f"{member.name!r} is a link to no file before it: {member.target[:200]!r}")
        self.size += member.size
        if not is_there(self.out / name, member):
            self.size_to_write += member.size
        if self.size > self.max_size:
            raise Fault(f"holds more than --max-size ({show(self.max_size)})")

    def _add_folders(self, parts: list[str], member: Member) -> None:
        for i in range(len(parts), 0, -1):
            if (name := "/".join(parts[:i])) in self.folders:
                break
            if name in self.leaves or (self.out / name).is_symlink():
                raise Fault(f"{member.name!r} lies behind {name!r}, which is no folder")
            self.folders.add(name)


def is_there(path: Path, member: Member) -> bool:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return member.kind == "file" and path.is_file() and not path.is_symlink() and status.st_size == member.size


def unpack(paths: list[Path], out: Path, max_size: int) -> str:
    """Check an archive, then write it; returns what was done, in words."""
    plan = Plan(out, max_size)
    with open_archive(paths) as archive:
        for member in archive.members:
            plan.add(member)
    if not plan.leaves:
        raise Fault("holds no file")
    if plan.size_to_write > (free := shutil.disk_usage(out).free):
        raise Fault(f"needs {show(plan.size_to_write)}, {out} has {show(free)} free")
    written = num = num_new = 0
    reported = time.monotonic()
    with open_archive(paths) as archive:
        for member in archive.members:
            path = out.joinpath(*inside(member.name))
            if member.kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
                continue
            num += 1
            if not is_there(path, member):
                write(member, path, archive, out)
                num_new += 1
                written += member.size
            if time.monotonic() > reported + REPORT_S:
                say(f"{paths[0]}: {show(written)} of {show(plan.size_to_write)}")
                reported = time.monotonic()
    return f"{num} files, {show(plan.size)}" + (f" ({num - num_new} were there)" if num_new < num else "")


def write(member: Member, path: Path, archive: Archive, out: Path) -> None:
    """Write a file or link under a temporary name and rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.resolve() != path.parent:  # someone made a link meanwhile
        raise Fault(f"{member.name!r} lies behind a link")
    temporary = path.with_name(f".unpack.{os.getpid()}.tmp")
    try:
        if member.kind == "symlink":
            os.symlink(member.target, temporary)
        elif member.kind == "hardlink":
            os.link(out.joinpath(*inside(member.target)), temporary, follow_symlinks=False)
        else:
            mode = 0o644 | member.mode & 0o111  # no setuid, nothing that others may write
            with (archive.open(member) as source,
                  open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as target):
                copy(source, target, member)
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def copy(source: IO[bytes], target: IO[bytes], member: Member) -> None:
    """Copy exactly the bytes that were promised."""
    left = member.size
    while block := source.read(min(BLOCK, left + 1)):  # the byte behind the last: checksums are compared at the end
        left -= len(block)
        if left < 0:
            break
        target.write(block)
    if left:
        raise Fault(f"{member.name!r} is not {member.size} bytes long as its header says")


def show(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def say(message: str) -> None:
    print(f"unpack.py: {message}", file=sys.stderr, flush=True)


def parse_size(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([KMGT]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"a number of bytes such as 800G, got {text!r}")
    return int(match[1]) * UNITS[match[2]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-size", type=parse_size, default="1T", help="of an archive's contents; default: 1T")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("archives", type=Path, nargs="+", metavar="archive")
    options = parser.parse_args()
    paths = options.archives[:1]
    try:
        for path in options.archives:
            if not path.is_file():
                paths = [path]
                raise Fault("is not a file" if path.exists() else "no such file")
        for paths in group_parts(options.archives):
            options.out_dir.mkdir(parents=True, exist_ok=True)
            say(f"{paths[0]}: {unpack(paths, options.out_dir.resolve(), options.max_size)}")
    except Fault as fault:
        sys.exit(f"unpack.py: {paths[0]}: {fault}")
    except DAMAGE as error:
        sys.exit(f"unpack.py: {paths[0]}: damaged: {' '.join(str(error).split()) or type(error).__name__}")
    except OSError as error:
        sys.exit(f"unpack.py: {error.filename or paths[0]}: {error.strerror or error}")


if __name__ == "__main__":
    main()
