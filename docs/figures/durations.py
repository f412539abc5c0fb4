# SPDX-License-Identifier: Apache-2.0
"""EER against the test side's length, with its 95 % interval, from the tables of a RESULTS.md."""

import re
from collections.abc import Sequence
from pathlib import Path

from svg import Drawing

from rawnext.errors import InputError
from rawnext.results.analysis.plots import COLOURS

LENGTHS = ("1 s", "2 s", "5 s", "full")
Row = list[tuple[float, float, float]]     # (EER %, low, high) for each of LENGTHS
LEFT, RIGHT, TOP, BOTTOM = 42, 348, 24, 232   # edges of the plot
TICK = 5                                      # EER % between two lines of the grid


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
    top = 1.05 * max(high for name in systems for _, _, high in rows[name])
    for eer in range(0, int(top) + 1, TICK):
        y = level(eer, top)
        draw.add(f'<path d="M{LEFT},{y:.1f}H{RIGHT}" style="stroke:#dde1e6"/>')
        draw.text(LEFT - 5, y + 4, str(eer), "small", "end")
    for i, length in enumerate(LENGTHS):
        draw.text(column(i), 248, length, "small")
    draw.text(4, 14, "EER %, 95 % interval", "small", "start")
    draw.text(RIGHT, 264, "test side", "small", "end")
    for number, name in enumerate(systems):
        draw_line(draw, rows[name], top, COLOURS[number], 0.09 * (number - (len(systems) - 1) / 2))
        x, y = 20 + 112 * (number % 3), 286 + 17 * (number // 3)
        draw.add(f'<path d="M{x},{y - 4}h16" style="stroke:{COLOURS[number]};stroke-width:3"/>')
        draw.text(x + 22, y, name, "small", "start")
    draw.height = 286 + 17 * ((len(systems) + 2) // 3)
    return draw


def draw_line(draw: Drawing, row: Row, top: float, colour: str, shift: float) -> None:
    """Markers with whiskers, shifted so that no system hides another, and a line through them."""
    points = [(column(i + shift), *(level(value, top) for value in cell)) for i, cell in enumerate(row)]
    line = "L".join(f"{x:.1f},{eer:.1f}" for x, eer, _, _ in points)
    draw.add(f'<path d="M{line}" style="stroke:{colour};stroke-width:1.6"/>')
    for x, _, low, high in points:
        draw.add(f'<path d="M{x:.1f},{low:.1f}V{high:.1f}" style="stroke:{colour};stroke-opacity:.55"/>')
    for x, eer, _, _ in points:
        draw.add(f'<circle cx="{x:.1f}" cy="{eer:.1f}" r="2.6" fill="{colour}"/>')


def column(place: float) -> float:
    """x of a place on the axis of lengths, on which LENGTHS are at 0, 1, ..."""
    return LEFT + (RIGHT - LEFT) * (place + 0.4) / (len(LENGTHS) - 0.2)


def level(eer: float, top: float) -> float:
    """y of an EER in %; top: the EER at the upper edge of the plot."""
    return BOTTOM - (BOTTOM - TOP) * eer / top
