# SPDX-License-Identifier: Apache-2.0
"""The quick way to read text tables: whole blocks of lines at a time, where nothing in a file is odd.

What is odd (a fault, doubled spaces, an id with two dots) ends in OddFile: rawnext.tables then reads line by line, and
takes what is fair or names the line at fault. So these functions tell what is certainly good, never what is wrong.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

T = TypeVar("T")

ID_LIMIT = 200  # bytes; utils/validate_data_dir.py has the same rule, tests/fuzz/test_ids.py compares them
BLOCK = 1 << 22  # bytes of a file that are in memory at a time
PLAIN = bytes(range(32, 127)) + b"\t\n"
TAB_IS_SPACE = bytes.maketrans(b"\t", b" ")
NO_SEPARATOR = bytes(set(range(256)) - set(b" \t\n"))
MARKS = ("\"", "'", "\\", "..", "\n/", "\n-")  # without these, and not too long, printable words are ids


class Ids(list[str]):
    """A column of N ids, not to be changed. names: the distinct ones, and maybe more.   which: (N,) of the names."""

    def __init__(self, names: list[str], which: np.ndarray):
        super().__init__(map(names.__getitem__, which.tolist()))
        self.names, self.which = names, which

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Ids":
        """Any ids as such a column."""
        if isinstance(ids, cls):
            return ids
        numbers = Numbers()
        which = np.array([numbers[utt] for utt in ids], np.int64)
        return cls(list(numbers), which)

    def distinct(self) -> set[str]:
        """The names that do stand in the column."""
        there = np.zeros(len(self.names), bool)
        there[self.which] = True
        return {self.names[row] for row in np.flatnonzero(there)}


class Numbers(dict[str, int]):
    """Numbers words by their first appearance."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class OddFile(ValueError):
    """A file that wants to be read line by line."""


def words(path: os.PathLike[str] | str, num: int) -> Iterator[list[str]]:
    """The words of the next lines, `num` on each line, in blocks.

    Raises: OddFile: other lines, characters that no table may have, a pipe (nobody reads it twice).
        OSError, UnicodeDecodeError: see open and bytes.decode.
    """
    if not os.path.isfile(path):
        raise OddFile
    with open(path, "rb") as file:
        at_once = min(BLOCK, os.fstat(file.fileno()).st_size + 1)  # read() takes the memory before it reads
        while raw := file.read(at_once):
            raw += file.readline()
            raw += b"" if raw.endswith(b"\n") else b"\n"
            text = raw.decode()
            if raw.translate(None, PLAIN) and not text.translate({9: 32, 10: 32}).isprintable():
                raise OddFile
            block = text.split()
            # As many separators as words: no two stand side by side, so that their pattern is that of the lines.
            if raw.translate(TAB_IS_SPACE, NO_SEPARATOR) != (b" " * (num - 1) + b"\n") * (len(block) // num):
                raise OddFile
            yield block


def check_ids(ids: list[str]) -> None:
    """Raise OddFile if one of these words may be no id."""
    text = "\n" + "\n".join(ids)
    most_bytes = max(map(len, ids), default=0) * (1 if text.isascii() else 4)
    if most_bytes > ID_LIMIT or any(mark in text for mark in MARKS):
        raise OddFile


def pairs(path: os.PathLike[str] | str, convert: Callable[[list[str]], T]) -> tuple[Ids, Ids, list[T]]:
    """Columns of lines `enroll test word`; the words of a block become `convert(words)`.

    Raises: OddFile: an enroll or test word that may be no id; see `words`.
    """
    numbers, third = Numbers(), []
    sides: tuple[list[np.ndarray], ...] = [], []
    for block in words(path, 3):
        for column, new in zip(sides, (block[::3], block[1::3])):
            column.append(np.fromiter(map(numbers.__getitem__, new), np.int64, len(new)))
        third.append(convert(block[2::3]))
    check_ids(names := list(numbers))
    enroll, test = (Ids(names, np.concatenate(column or [np.empty(0, np.int64)])) for column in sides)
    return enroll, test, third


def thirds(path: os.PathLike[str] | str, enroll: list[str], test: list[str],
           convert: Callable[[list[str]], T]) -> list[T]:
    """What `pairs` makes of the third column of a file whose lines begin with these N good ids, in this order.

    Raises: OddFile: they begin otherwise; see `words`.
    """
    found, start = [], 0
    for block in words(path, 3):
        part = slice(start, start := start + len(block) // 3)
        if block[::3] != enroll[part] or block[1::3] != test[part]:
            raise OddFile
        found.append(convert(block[2::3]))
    if start != len(enroll):
        raise OddFile
    return found


def table(path: os.PathLike[str] | str) -> dict[str, str]:
    """Entries `key value` of single words.

    Raises: OddFile: a key that may be no id, or stood before; see `words`.
    """
    entries, lines = dict[str, str](), 0
    for block in words(path, 2):
        entries.update(zip(block[::2], block[1::2]))
        lines += len(block) // 2
    check_ids(list(entries))
    if len(entries) < lines:
        raise OddFile
    return entries


def numbers(texts: list[str]) -> np.ndarray:
    """(N,) float64 of N words.

    Raises: OddFile: one is not finite, or written as only Python reads it.   ValueError: one is no number.
    """
    together = "".join(texts)
    values = np.fromiter(map(float, texts), np.float64, len(texts))
    if "_" in together or not together.isascii() or not np.isfinite(values).all():
        raise OddFile
    return values
