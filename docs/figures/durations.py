# SPDX-License-Identifier: Apache-2.0
"""EER against the test side's length, with its 95 % interval, from the tables of a RESULTS.md."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from svg import Drawing

from rawnext.errors import InputError
from rawnext.results.analysis.chart import Plane, axis
from rawnext.results.analysis.plots import COLOURS

LENGTHS = ("1 s", "2 s", "5 s", "full")
Row = list[tuple[float, float, float]]     # (EER %, low, high) for each of LENGTHS


def read_rows(path: Path, heading: str) -> dict[str, Row]:
    """System -> its EERs, from the first table after `### heading`.

    Raises: InputError: no such heading, or a cell that is not `EER [low, high]`.
    """
    section = re.search(rf"^### {re.escape(heading)}\n\n((?:\|.*\n)+)", path.read_text(encoding="utf-8"), re.M)
    if not section:
        raise InputError(path, None, f"has no table under '### {heading}'")
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section[1].splitlines()]
    columns = [head.index(f"EER % {length}") for length in LENGTHS]
    return {cells[0]: [read_cell(cells[c], path) for c in columns] for cells in lines}


def read_cell(text: str, path: Path) -> tuple[float, float, float]:
    match = re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", text)
    if not match:
        raise InputError(path, None, f"expected EER [low, high], got {text!r}")
    eer, low, high = map(float, match.groups())
    return eer, low, high


def draw_durations(rows: dict[str, Row], systems: Sequence[str]) -> Drawing:
    """A line with intervals for each system; the systems are side by side at each length."""
    draw = Drawing("EER against the length of the test side: " + "; ".join(
        f"{name} {', '.join(f'{row[0]:.2f} % at {length}' for length, row in zip(LENGTHS, rows[name]))}"
        for name in systems), 360)
    top = max(high for name in systems for _, _, high in rows[name])
    plane = Plane(axis("test side", -0.4, len(LENGTHS) - 0.6), axis("EER %", 0, top), 270)
    for value, label in plane.y.ticks:
        (left, right), (level, _) = plane.place([-0.4, len(LENGTHS) - 0.6], [value, value])
        draw.add(f'<path d="M{left:.1f},{level:.1f}H{right:.1f}" style="stroke:#dde1e6"/>')
        draw.text(left - 5, level + 4, label, "small", "end")
    for i, length in enumerate(LENGTHS):
        draw.text(float(plane.place(i, 0)[0]), 248, length, "small")
    draw.text(4, 14, "EER %, 95 % interval", "small", "start")
    draw.text(348, 264, "test side", "small", "end")
    for number, name in enumerate(systems):
        draw_line(draw, plane, rows[name], COLOURS[number], 0.09 * (number - (len(systems) - 1) / 2))
        x, y = 20 + 112 * (number % 3), 286 + 17 * (number // 3)
        draw.add(f'<path d="M{x},{y - 4}h16" style="stroke:{COLOURS[number]};stroke-width:3"/>')
        draw.text(x + 22, y, name, "small", "start")
    draw.height = 286 + 17 * ((len(systems) + 2) // 3)
    return draw


def draw_line(draw: Drawing, plane: Plane, row: Row, colour: str, shift: float) -> None:
    """Markers with whiskers, shifted so that no system hides another, and a line through them."""
    x = np.arange(len(row)) + shift
    eer, low, high = np.array(row).T
    draw.add(f'<path d="{plane.path(x, eer)}" style="stroke:{colour};stroke-width:1.6"/>')
    for (right, bottom), up in zip(np.stack(plane.place(x, low), 1), plane.place(x, high)[1]):
        draw.add(f'<path d="M{right:.1f},{bottom:.1f}V{up:.1f}" style="stroke:{colour};stroke-opacity:.55"/>')
    for right, level in np.stack(plane.place(x, eer), 1):
        draw.add(f'<circle cx="{right:.1f}" cy="{level:.1f}" r="2.6" fill="{colour}"/>')
