# SPDX-License-Identifier: Apache-2.0
"""A file that came as parts, cut off one after another, read as if it were one."""

import bisect
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Fault(Exception):
    """Something is wrong with what the user gave, in one line."""


class Parts(io.RawIOBase):
    """Files read as if they were one."""

    def __init__(self, paths: list[Path]):
        self.files = [open(path, "rb") for path in paths]  # noqa: SIM115 (closed with this)
        self.starts = [0]
        for file in self.files:
            self.starts.append(self.starts[-1] + file.seek(0, io.SEEK_END))
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + (0, self.position, self.starts[-1])[whence]
        if self.position < 0:
            raise ValueError("before the beginning")
        return self.position

    def readinto(self, buffer: Any) -> int:
        number = bisect.bisect_right(self.starts, self.position) - 1
        if number >= len(self.files):
            return 0
        file = self.files[number]
        file.seek(self.position - self.starts[number])
        count = file.readinto(memoryview(buffer)[:self.starts[number + 1] - self.position])
        self.position += count
        return count

    def close(self) -> None:
        for file in self.files:
            file.close()
        super().close()


def group_parts(paths: list[Path]) -> list[list[Path]]:
    """Archives, each as the files that make it: `x_partaa x_partab ...` and `x.zip.001 x.zip.002 ...` belong together.

    Raises: Fault: a part is missing between others, or the first one.
    """
    groups: dict[str, list[Path]] = {}
    for path in dict.fromkeys(paths):
        match = re.fullmatch(r"(.*[._-]?part)[a-z]{2}|(.*\.)[0-9]{3}", path.name)
        groups.setdefault(str(path.parent / (match[1] or match[2])) if match else str(path), []).append(path)
    for stem, group in groups.items():
        group.sort()
        for path, expected in zip(group, part_names(group[0].name[len(Path(stem).name):])):
            if str(path) != stem and not path.name.endswith(expected):
                raise Fault(f"{stem}{expected}: this part is missing before {path.name}")
    return list(groups.values())


def part_names(first: str) -> Iterator[str]:
    """aa ab ... az ba ..., or 001 002 ..."""
    if first.isdigit():
        yield from (f"{number:03}" for number in range(min(int(first), 1), 1000))
    else:
        letters = "abcdefghijklmnopqrstuvwxyz"
        yield from (one + other for one in letters for other in letters)
