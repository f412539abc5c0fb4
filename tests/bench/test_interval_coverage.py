# SPDX-License-Identifier: Apache-2.0
"""bench/interval_coverage.py: its trials, and a round of its table."""

import runpy

import numpy as np


def test_a_round(root):
    bench = runpy.run_path(str(root / "bench/interval_coverage.py"))
    random = np.random.default_rng(0)
    scores, is_target, speakers = bench["trials"](random, 30, 4000)
    assert ((speakers[0] == speakers[1]) == is_target).all() and is_target.mean() == 0.5
    rates = [bench["eer_of"](bench["det_points"](s[is_target], s[~is_target])) for s in scores]
    assert np.allclose(rates, 0.08, atol=0.04) and rates[0] != rates[1], "two systems, equally good"
    sure = bench["one_round"](random, 30, 50, np.array([0.08, 0.63, 0.44]))
    assert len(sure) == 7 and sure[0] and sure[2]
    assert not any(bench["one_round"](random, 30, 50, np.ones(3))[:4]), "no interval holds an EER of 100 %"
