# SPDX-License-Identifier: Apache-2.0
"""CSV files with commas, semicolons or tabs, with or without a header line."""

import csv
import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rawnext.errors import InputError
from rawnext.files import readable

log = logging.getLogger(__name__)

# content of a column -> pattern of its name, and its index if no name matches (None: a name must match)
Columns = Mapping[str, tuple[str, int | None]]
FILE = re.compile(r"\.\w{2,5}$")  # a cell that ends like this is a file name


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line that is not empty."""
    try:
        with readable(path), open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
            try:
                for row in reader:
                    if any(row):
                        yield reader.line_num, [cell.strip() for cell in row]
            except csv.Error as error:
                raise InputError(path, reader.line_num, str(error)) from None
    except UnicodeDecodeError:
        raise InputError(path, None, "not UTF-8 text") from None


def read_csv(path: Path, columns: Columns, asked: str, option: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells of these columns) of each row after the header; a first line with a file name is no header.

    Args: asked: columns by names or numbers (from 1), separated by commas; empty: found by their names.   option: of
        the program, which sets `asked`.
    Raises: InputError: not a CSV in UTF-8, a missing column, an empty or missing cell.
    """
    rows = rows_of(path)
    line, first = next(rows, (0, []))
    header = [] if any(map(FILE.search, first)) else first
    body = itertools.chain([(line, first)] if first and not header else [], rows)
    if (row := next(body, None)) is None:
        raise InputError(path, None, "has no rows")
    indices = find_columns(path, header or [""] * len(first), columns, asked, option)
    log.info("%s: %s", path, ", ".join(f"{name} is column {i + 1}{f' ({header[i]})' if header else ''}"
                                       for name, i in zip(columns, indices)))
    for line, cells in itertools.chain([row], body):
        for name, i in zip(columns, indices):
            if i >= len(cells) or not cells[i]:
                raise InputError(path, line, f"has no {name} (column {i + 1})")
        yield line, [cells[i] for i in indices]


def find_columns(path: Path, header: Sequence[str], columns: Columns, asked: str, option: str) -> list[int]:
    """The index of each column, from 0."""
    names = [cell.lower() for cell in header]
    if asked:
        indices = [int(name) - 1 if name.isdecimal() else names.index(name) if name in names else -1
                  for name in (word.strip().lower() for word in asked.split(","))]
        if len(indices) != len(columns) or not all(0 <= i < len(names) for i in indices):
            raise InputError(path, 1, f"want the columns {', '.join(columns)}, got {asked!r}; there are "
                                      f"{', '.join(header) if any(header) else f'{len(header)} without names'}")
        return indices
    found = [[i for i, name in enumerate(names) if re.search(pattern, name)] for pattern, _ in columns.values()]
    if all(len(indices) == 1 for indices in found) and len({indices[0] for indices in found}) == len(found):
        return [indices[0] for indices in found]
    known = [i for _, i in columns.values() if i is not None and i < len(names)]
    if any(header) or len(known) < len(columns):
        there = f" ({', '.join(header)})" if any(header) else ""
        raise InputError(path, 1, f"cannot tell which of {len(names)} columns{there} are {', '.join(columns)}; "
                                  f"name them with {option}")
    return known
