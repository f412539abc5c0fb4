# SPDX-License-Identifier: Apache-2.0
"""CSV files as people have them: with commas, semicolons or tabs, with or without names of the columns."""

import csv
import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rawnext.errors import InputError

log = logging.getLogger(__name__)

# what a column holds -> what its name has in it, and its place where the names do not tell (None: they must)
Columns = Mapping[str, tuple[str, int | None]]
FILE = re.compile(r"\.\w{2,5}$")  # a cell that ends so names a file


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line that is not empty."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
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
    except OSError as error:
        raise InputError(path, None, f"cannot be read: {error.strerror}") from None


def read_csv(path: Path, columns: Columns, asked: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, the cells of these columns) of each row behind the header; a first line that names a file is none.

    Args: asked: columns by their names or numbers (from 1), separated by commas; empty: found.
    Raises: InputError: not a CSV in UTF-8, a column that is not there, a cell that is empty or missing.
    """
    rows = rows_of(path)
    line, first = next(rows, (0, []))
    header = [] if any(map(FILE.search, first)) else first
    body = itertools.chain([(line, first)] if first and not header else [], rows)
    if (row := next(body, None)) is None:
        raise InputError(path, None, "has no rows")
    places = find_columns(path, header or [""] * len(first), columns, asked)
    log.info("%s: %s", path, ", ".join(f"{name} is column {place + 1}{f' ({header[place]})' if header else ''}"
                                       for name, place in zip(columns, places)))
    for line, cells in itertools.chain([row], body):
        for name, place in zip(columns, places):
            if place >= len(cells) or not cells[place]:
                raise InputError(path, line, f"has no {name} (column {place + 1})")
        yield line, [cells[place] for place in places]


def find_columns(path: Path, header: Sequence[str], columns: Columns, asked: str) -> list[int]:
    """The place of each column, from 0."""
    names = [cell.lower() for cell in header]
    if asked:
        places = [int(name) - 1 if name.isdecimal() else names.index(name) if name in names else -1
                  for name in (word.strip().lower() for word in asked.split(","))]
        if len(places) != len(columns) or not all(0 <= place < len(names) for place in places):
            raise InputError(path, 1, f"want the columns {', '.join(columns)}, got {asked!r}; there are "
                                      f"{', '.join(header) if any(header) else f'{len(header)} without names'}")
        return places
    found = [[place for place, name in enumerate(names) if re.search(pattern, name)] for pattern, _ in columns.values()]
    if all(len(places) == 1 for places in found) and len({places[0] for places in found}) == len(found):
        return [places[0] for places in found]
    known = [place for _, place in columns.values() if place is not None and place < len(names)]
    if len(known) < len(columns):
        there = f" ({', '.join(header)})" if any(header) else ""
        raise InputError(path, 1, f"cannot tell which of {len(names)} columns{there} are {', '.join(columns)}")
    return known
