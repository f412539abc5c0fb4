# SPDX-License-Identifier: Apache-2.0
"""The quick way to read text tables: blocks of lines as arrays of words, where nothing in a file is odd.

What is odd (a fault, doubled spaces, an id with two dots) ends in OddFile: rawnext.kaldi.tables then reads by line,
and takes what is fair or names the line at fault. So these functions tell what is certainly good, never what is wrong.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, overload

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

T = TypeVar("T")

ID_LIMIT = 200  # bytes; utils/validate_data_dir.py has the same rule, tests/fuzz/test_ids.py compares them
BLOCK = 1 << 22  # bytes of a file that are in memory at a time
PLAIN = bytes(range(32, 127)) + b"\t\n"
MARKS = ("\"", "'", "\\", "..", "\n/", "\n-")  # without these, and not too long, printable words are ids
MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, its bits without a pattern (of the golden ratio): spreads words over hashes


class Ids(Sequence[str]):
    """A column of N ids. names: the distinct ones, and maybe more.   which: (N,) of the names."""

    def __init__(self, names: list[str], which: np.ndarray):
        self.names, self.which = names, which

    @classmethod
    def of(cls, ids: Iterable[str]) -> "Ids":
        """Any ids as such a column."""
        if isinstance(ids, cls):
            return ids
        numbers = Numbers()
        which = np.array([numbers[utt] for utt in ids], np.int64)
        return cls(list(numbers), which)

    def __len__(self) -> int:
        return len(self.which)

    def __iter__(self) -> Iterator[str]:
        return map(self.names.__getitem__, self.which.tolist())

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Ids": ...
    def __getitem__(self, index: int | slice) -> "str | Ids":
        which = self.which[index]
        return Ids(self.names, which) if isinstance(index, slice) else self.names[which]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Ids) and self.names == other.names:
            return np.array_equal(self.which, other.which)
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

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


def words(path: os.PathLike[str] | str, num: int) -> Iterator[list[np.ndarray]]:
    """The next lines, `num` words on each, in blocks: a column each, (n,) words of UTF-8 bytes.

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
            if raw.translate(None, PLAIN) and not raw.decode().translate({9: 32, 10: 32}).isprintable():
                raise OddFile
            text = np.frombuffer(raw, np.uint8)
            ends = np.flatnonzero(text <= ord(" "))  # spaces, tabs and newlines; no other byte so small is left
            lengths = np.diff(ends, prepend=-1) - 1
            if len(ends) % num or not lengths.all():
                raise OddFile
            ends_line = (text[ends] == ord("\n")).reshape(-1, num)
            if ends_line[:, :-1].any() or not ends_line[:, -1].all():
                raise OddFile
            yield [cut(text, (ends - lengths)[column::num], lengths[column::num]) for column in range(num)]


def cut(text: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(n,) words of a text's bytes, filled up with zeros to the same width, a multiple of 8.

    Raises: OddFile: one long word among many short ones.
    """
    width = -(-int(lengths.max()) // 8) * 8
    if width * len(starts) > 16 * len(text):
        raise OddFile
    padded = np.concatenate([text, np.zeros(width, np.uint8)])
    found = sliding_window_view(padded, width)[starts]
    found *= np.arange(width, dtype=np.int32) < lengths.astype(np.int32)[:, None]
    return found.view(f"S{width}")[:, 0]


def texts(found: np.ndarray) -> list[str]:
    """Words of bytes as strings."""
    return b"\n".join(found.tolist()).decode().split("\n") if len(found) else []


def numbered(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct of N words (their width a multiple of 8), and (N,) which of these each is.

    Raises: OddFile: two words have one hash.
    """
    hashes = np.zeros(len(found), np.uint64)
    for part in found.view(np.uint64).reshape(len(found), -1).T:
        hashes = (hashes ^ part) * MIX
        hashes ^= hashes >> np.uint64(32)
    order = np.argsort(hashes)  # of words themselves it would take ten times as long
    first = np.diff(hashes[order], prepend=~hashes[order[:1]]) != 0
    which = np.empty(len(found), np.int64)
    which[order] = np.cumsum(first) - 1
    distinct = found[order[first]]
    if not np.array_equal(distinct[which], found):
        raise OddFile
    return distinct, which


def check_ids(ids: list[str]) -> None:
    """Raise OddFile if one of these words may be no id."""
    text = "\n" + "\n".join(ids)
    most_bytes = max(map(len, ids), default=0) * (1 if text.isascii() else 4)
    if most_bytes > ID_LIMIT or any(mark in text for mark in MARKS):
        raise OddFile


def pairs(path: os.PathLike[str] | str, convert: Callable[[np.ndarray], T]) -> tuple[Ids, Ids, list[T]]:
    """Columns of lines `enroll test word`; the words of a block become `convert(words)`.

    Raises: OddFile: an enroll or test word that may be no id; see `words`.
    """
    blocks = [(enroll, test, convert(third)) for enroll, test, third in words(path, 3)]
    if not blocks:
        return Ids.of(()), Ids.of(()), []
    enroll, test, third = zip(*blocks)
    distinct, which = numbered(np.concatenate([*enroll, *test]))
    check_ids(names := texts(distinct))
    return Ids(names, which[: len(which) // 2]), Ids(names, which[len(which) // 2 :]), list(third)


def table(path: os.PathLike[str] | str) -> dict[str, str]:
    """Entries `key value` of single words.

    Raises: OddFile: a key that may be no id, or stood before; see `words`.
    """
    entries, lines = dict[str, str](), 0
    for keys, values in words(path, 2):
        entries.update(zip(texts(keys), texts(values)))
        lines += len(keys)
    check_ids(list(entries))
    if len(entries) < lines:
        raise OddFile
    return entries


def numbers(found: np.ndarray) -> np.ndarray:
    """(N,) float64 of N words.

    Raises: OddFile: one is not finite, or written as only Python reads it.   ValueError: one is no number.
    """
    values = found.astype(np.float64)
    if (found.view(np.uint8) == ord("_")).any() or not np.isfinite(values).all():
        raise OddFile
    return values


def labels(found: np.ndarray) -> np.ndarray:
    """(N,) bool of N words, `target` or `nontarget`.   Raises: OddFile: one is another."""
    is_target = found == b"target"
    if not (is_target | (found == b"nontarget")).all():
        raise OddFile
    return is_target
