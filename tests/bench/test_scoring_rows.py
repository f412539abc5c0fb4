# SPDX-License-Identifier: Apache-2.0
"""bench/scoring.py: the loop and the recipe's programs find the same scores and EER on its lists."""

import re

import pytest

from bench import scoring


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(scoring, "SIZES", (scoring.Size("E", 1200, 400), ))
    monkeypatch.setattr(scoring, "COHORT", 320)
    monkeypatch.setattr(scoring, "FIRST", 50)
    yield scoring
    scoring.lists.cache_clear()


@pytest.mark.slow
def test_rows(bench):
    plain, alone, asnorm = bench.rows()
    for row in (plain, asnorm):
        assert float(re.search(r"within (\S+),", row.kept)[1]) < 3e-5
        assert re.search(r"peak [\d,]+ -> [\d,]+ MiB", row.kept)
    loops, ours = re.search(r"EER ([0-9.]+) -> ([0-9.]+) %", plain.kept).groups()
    assert loops == ours and 0 < float(ours) < 25
    assert all(row.ratio == pytest.approx(row.rate_after / row.rate_before, rel=0.5) for row in (plain, alone, asnorm))
    assert alone.rate_after > plain.rate_after


def test_sizes_of_lists(bench):
    size = bench.Size("x", 1000, 300)
    bench.lists().add(size)
    trials = bench.read_trials(bench.lists().folder / "x")
    assert len(trials.enroll) == 1000 and len({*trials.enroll, *trials.test}) == 300
    same = [one.split("-")[0] == other.split("-")[0] for one, other in zip(trials.enroll, trials.test)]
    assert same == trials.is_target.tolist() and sum(same) == 500
