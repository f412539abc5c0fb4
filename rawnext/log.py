# SPDX-License-Identifier: Apache-2.0
"""The log format of all programs: `2026-11-21 02:07:18 INFO trainer.py:88 (0/4) epoch=3 step=1200 loss=1.234`."""

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any


def setup_log(level: int = logging.INFO) -> None:
    """Log to stderr; under torchrun each line has the process's rank and the number of processes."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    who = f" ({rank}/{world})" if world != "1" else ""
    logging.basicConfig(level=level, stream=sys.stderr, force=True, datefmt="%Y-%m-%d %H:%M:%S",
                        format=f"%(asctime)s %(levelname)s %(filename)s:%(lineno)d{who} %(message)s")


def progress(items: Iterable | None = None, **options: Any):
    """A tqdm progress bar on a terminal; silent in a log file."""
    from tqdm import tqdm

    return tqdm(items, disable=not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0", dynamic_ncols=True,
                **options)
