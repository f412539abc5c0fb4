# SPDX-License-Identifier: Apache-2.0
"""Line charts as SVG that stands within a page: its text is text, its colours are the page's, its legend is HTML.

A chart of ours is some kilobytes and takes a millisecond; a page has dozens, and is read on telephones too, where a
drawn legend would hide the lines. `page/chart.html.jinja` writes what is computed here.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 360, 270                     # of the drawing, in its own units: one is a pixel on a telephone
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 24, 38    # room around the axes
SQUARE = WIDTH - LEFT - RIGHT + TOP + BOTTOM  # the height with which both axes are as long
Ticks = Sequence[tuple[float, str]]


class Line(NamedTuple):
    """One line of a chart: its SVG path, and how it is drawn.

    colour: 0...6, or -1 for grey.   dash: 0 solid, 1 dashed, 2 dotted.   band: SVG path of a filled area behind it.
    dots: places (x, y) of markers.   filled: the path encloses an area.
    """

    label: str
    path: str
    colour: int
    dash: int = 0
    band: str = ""
    dots: tuple[tuple[float, float], ...] = ()
    filled: bool = False


class Axis(NamedTuple):
    """low, high: what is shown.   ticks: (value, what stands there), from low to high."""

    label: str
    low: float
    high: float
    ticks: Ticks


class Chart(NamedTuple):
    """title: above it.   alt: what a reader who does not see it is told.   x_ticks, y_ticks: (place, text)."""

    title: str
    alt: str
    height: int
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[Line]


class Plane:
    """Where numbers lie in the drawing."""

    def __init__(self, x: Axis, y: Axis, height: int = HEIGHT):
        self.x, self.y, self.height = x, y, height

    def place(self, x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Drawing's units, (K,) each, of K points; what lies far outside is brought near."""
        right = (np.asarray(x, dtype=float) - self.x.low) / (self.x.high - self.x.low)
        up = (np.asarray(y, dtype=float) - self.y.low) / (self.y.high - self.y.low)
        return (LEFT + (WIDTH - LEFT - RIGHT) * right.clip(-0.2, 1.2),
                self.height - BOTTOM - (self.height - TOP - BOTTOM) * up.clip(-0.2, 1.2))

    def path(self, x: ArrayLike, y: ArrayLike) -> str:
        """SVG path through K points, of which those are left out that fall upon the one before (to half a unit)."""
        return "M" + "L".join(f"{a:g},{b:g}" for a, b in thinned(*self.place(x, y)))

    def line(self, label: str, x: ArrayLike, y: ArrayLike, colour: int, dash: int = 0, *, dots: bool = False,
             filled: bool = False, low: ArrayLike | None = None, high: ArrayLike | None = None) -> Line:
        """A line through K points. dots: mark each.   low, high: (K,) limits of a band around it."""
        band = ""
        if low is not None and high is not None:
            band = self.path(np.r_[np.asarray(x), np.asarray(x)[::-1]], np.r_[np.asarray(low), np.asarray(high)[::-1]])
        marks = tuple((round(float(a), 1), round(float(b), 1)) for a, b in zip(*self.place(x, y))) if dots else ()
        return Line(label, self.path(x, y), colour, dash, band, marks, filled)

    def chart(self, title: str, alt: str, lines: list[Line]) -> Chart:
        x, y = self.place([v for v, _ in self.x.ticks], np.full(len(self.x.ticks), self.y.low))[0], \
            self.place(np.full(len(self.y.ticks), self.x.low), [v for v, _ in self.y.ticks])[1]
        return Chart(title, alt, self.height, self.x.label, self.y.label,
                     [(round(float(p), 1), text) for p, (_, text) in zip(x, self.x.ticks)],
                     [(round(float(p), 1), text) for p, (_, text) in zip(y, self.y.ticks)], lines)


def thinned(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """(K,) places -> fewer, on a grid of half units, without repeats and without points between their neighbours."""
    points = np.round(2 * np.stack([x, y], axis=1)) / 2
    points = points[np.r_[True, (np.diff(points, axis=0) != 0).any(axis=1)]]
    step = np.diff(points, axis=0)
    straight = ((step[1:] == 0) & (step[:-1] == 0) & (step[1:, ::-1] * step[:-1, ::-1] > 0)).any(axis=1)
    return [(a, b) for a, b in points[np.r_[True, ~straight, True][:len(points)]].tolist()]


def axis(label: str, low: float, high: float, num: int = 5, log: bool = False) -> Axis:
    """An axis from low to high with some `num` round ticks; with log, of values that are logarithms to base 10."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    if log:
        low, high = math.floor(low), math.ceil(high)
        decades = range(low, high + 1, max(1, (high - low) // num))
        return Axis(label, low, high, [(v, f"1e{v}" if v else "1") for v in decades])
    rough = (high - low) / num
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
    ticks = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
    return Axis(label, low, high, [(float(v), f"{v:.10g}") for v in ticks])
