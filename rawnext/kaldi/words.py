# SPDX-License-Identifier: Apache-2.0
"""Ids, numbers and paths in Kaldi's tables, as every program reads them. Needs only Python's standard library."""

import re

from rawnext.errors import InputError
from rawnext.files import PathLike

ID_LIMIT = 200  # bytes
BAD_ID = re.compile(r"[\s\"'\\]|(?:^|/)\.\.(?:/|$)|^/|^-")
NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def check_id(text: str, path: PathLike, line: int | None = None) -> str:
    """Return an utt or spk id unchanged if it is valid in Kaldi's tables and file names; else raise InputError."""
    if not text.isprintable() or BAD_ID.search(text) or not 1 <= len(text.encode()) <= ID_LIMIT:
        raise InputError(path, line, f"{text[:60]!r} cannot be an id: 1-{ID_LIMIT} bytes, printable, without spaces, "
                                     "quotes, backslashes or '..', not starting with '/' or '-'")
    return text


def to_number(text: str) -> float:
    """A number in the form that every program reads; NaN for anything else (only Python also reads 1_000)."""
    return float(text) if NUMBER.fullmatch(text) else float("nan")


def refusal(path: str, allow_pipes: bool) -> str:
    """Why a path of wav.scp is refused; empty if it is accepted."""
    if path.endswith("|") and not allow_pipes:
        return "is a command; --allow-pipes runs it, if you trust the author of this list"
    if path.startswith("|") or path == "-":
        return f"is {path[:60]!r}, not a file"
    if path.startswith("~"):
        return f"is {path}; write it without '~', as Kaldi requires"
    return ""
