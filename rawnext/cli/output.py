# SPDX-License-Identifier: Apache-2.0
"""Output shared by several commands."""

import json
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rawnext.errors import printable


def print_doubts(doubts: Iterable[str], about: str = "") -> None:
    """Warnings on standard error.   about: the file; empty: the result."""
    for doubt in doubts:
        print(printable(": ".join(filter(None, ("rawnext", about, doubt)))), file=sys.stderr)


def print_json(**values: Any) -> None:
    """Print one line of JSON; None, NaN and infinity become null."""
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value
              for key, value in values.items()}
    text = json.dumps(finite, ensure_ascii=False)
    print(text if text.isprintable() else json.dumps(finite))


def print_facts(facts: Mapping[str, Any], as_json: bool) -> None:
    """Facts as JSON, or one a line, the parts of lists and dicts on their own lines."""
    if as_json:
        print_json(**facts)
        return
    for key, value in facts.items():
        nested = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if nested is None:
            print(printable(f"{key}: {value}"))
        else:
            print(f"{key}:{'' if value else ' none'}")
            for name, part in nested:
                print(printable(f"  {'-' if isinstance(value, list) else f'{name}:'} {part}"))
