# SPDX-License-Identifier: Apache-2.0
"""Charts: numbers stand where they belong, and thinning moves no line by more than half a pixel."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawnext.results.analysis.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Plane, axis, thinned

numbers = st.floats(-1e6, 1e6, allow_nan=False)


def points(path):
    return np.array([[float(x) for x in pair.split(",")] for pair in re.split("[ML]", path)[1:]])


def test_corners_and_ticks():
    plane = Plane(Axis("x", 0, 10, [(0, "0"), (10, "10")]), Axis("y", -1, 1, [(-1, "-1"), (1, "1")]))
    line = plane.line("a", [0, 10], [-1, 1], 0, dots=True, low=[-1, 0], high=[-1, 1])
    left, right, bottom, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    assert points(line.path).tolist() == [[left, bottom], [right, top]] == [list(dot) for dot in line.dots]
    assert points(line.band).tolist() == [[left, bottom], [right, (top + bottom) / 2], [right, top], [left, bottom]]
    chart = plane.chart("title", "alt", [line])
    assert chart.x_ticks == [(left, "0"), (right, "10")] and chart.y_ticks == [(bottom, "-1"), (top, "1")]


def test_far_points_are_not_far_in_the_drawing():
    plane = Plane(axis("", 0, 1), axis("", 0, 1))
    assert np.abs(points(plane.path([0, 1e300, np.inf], [0, -1e300, 1]))).max() < 1000


def distance(p, a, b):
    """From a point to a line's piece."""
    length = np.sum((b - a) ** 2)
    share = np.clip(np.dot(p - a, b - a) / length, 0, 1) if length else 0
    return np.hypot(*(p - a - share * (b - a)))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=25))
def test_thinning_keeps_the_line(steps):
    """A staircase, as a DET curve is: each of its points lies on what is left, which is no longer."""
    walk = np.cumsum([[a / 7, 0] if i % 2 else [0, b / 7] for i, (a, b) in enumerate(steps)], axis=0)
    left = np.array(thinned(*walk.T))
    assert len(left) <= len(walk)
    for p in walk:
        assert min(distance(p, a, b) for a, b in zip(left[[0, *range(len(left) - 1)]], left)) < 0.5


def test_where_a_line_turns_back_it_keeps_its_end():
    assert thinned(np.array([0.0, 5, 2]), np.zeros(3)) == [(0, 0), (5, 0), (2, 0)]


def test_a_curve_of_a_large_list_is_small():
    x = np.linspace(0, 1, 100_000)
    assert len(Plane(axis("", 0, 1), axis("", 0, 1)).path(x, x ** 2)) < 10_000


@settings(max_examples=40)
@given(numbers, numbers, st.integers(2, 9))
def test_ticks_are_round_and_inside(low, span, num):
    made = axis("", low, low + abs(span), num)
    values = [value for value, _ in made.ticks]
    assert made.low < made.high and values == sorted(values)
    slack = 1e-6 * (made.high - made.low) + 1e-9 * abs(low)
    assert all(made.low - slack <= value <= made.high + slack for value in values)
    assert 1 <= len(values) <= num + 1


@pytest.mark.parametrize("low, high, texts", [
    (0, 1, ["0", "0.2", "0.4", "0.6", "0.8", "1"]), (0, 8.43, ["0", "2", "4", "6", "8"]),
    (-0.6, 0.93, ["-0.5", "0", "0.5"])])
def test_some_ticks(low, high, texts):
    assert [text for _, text in axis("", low, high).ticks] == texts


def test_logarithmic_ticks():
    assert axis("", -6.9, -3.0, log=True).ticks == [(v, f"1e{v}") for v in range(-7, -2)]
