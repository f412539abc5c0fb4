# SPDX-License-Identifier: Apache-2.0
"""Shared by the fuzz tests: their duration, how a valid file is damaged, and what a parser may return.

In `make test` each test draws the same few hundred inputs; `make fuzz` draws FUZZ_TIMES times that, new in each run.
"""

import contextlib
import importlib
import os
import signal
import sys
import tracemalloc
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from rawnext.errors import InputError

TIMES = int(os.environ.get("FUZZ_TIMES", "0"))
HANG_S = 20
ODD = [b"", b"\0", b" ", b"\t", b"\n", b"\r\n", b"\xff", b"\xef\xbb\xbf", b"\xc2\xa0", b"\xed\xa0\x80", b"\x1b[2J",
       b"-", b"..", b"/", b"|", b"'", b'"', b"\\", b":", b"nan", b"inf", b"1e999", b"9" * 400, b"\xff\xff\xff\x7f",
       b"\xff\xff\xff\xff", b"[" * 2000, b"{" * 50, b"x" * 5000]


def fuzz(examples: int = 150):
    """Settings of a fuzz test; `examples`: their number in `make test`, where they are the same in each run."""
    return settings(max_examples=examples * (TIMES or 1), derandomize=not TIMES, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))


@st.composite
def damaged(draw, *valid: bytes) -> bytes:
    """One of the valid files with a few bytes changed, removed or inserted; sometimes unchanged or random."""
    data = bytearray(draw(st.sampled_from(valid)))
    if draw(st.integers(0, 30)) == 0:
        return draw(st.binary(max_size=300))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 2, 4, 30])))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            data[start:stop] = draw(st.binary(max_size=8))
        elif kind == 1:
            data[start:stop] = draw(st.sampled_from(ODD))
        elif kind == 2:
            del data[start:]
        elif kind == 3 and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == 4:
            data[start:start] = data[: draw(st.integers(0, 60))]
        else:
            data[start:stop] = b""
    return bytes(data)


def answer(parse, path, max_bytes: int = 0):
    """The result of `parse()`, or None if it refuses in one line that names the file.

    Fails if it raises anything else, hangs, or takes more than max_bytes of memory (0: not measured).
    """
    def hang(*_):
        raise AssertionError(f"no answer in {HANG_S} s")

    signal.signal(signal.SIGALRM, hang)
    signal.alarm(HANG_S)
    with contextlib.ExitStack() as stack:
        stack.callback(signal.alarm, 0)
        if max_bytes:
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
        try:
            result = parse()
        except InputError as error:
            text, result = str(error), None
            assert text.startswith(f"{path}") and "\n" not in text and text.isprintable() and len(text) < 2000, text
        if max_bytes:
            peak = tracemalloc.get_traced_memory()[1]
            assert peak < max_bytes, f"{peak} bytes"
    return result


def utils_module(name: str):
    """A module of utils/, whose files import each other by name."""
    folder = str(Path(__file__).resolve().parents[2] / "utils")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)
