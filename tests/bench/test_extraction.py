# SPDX-License-Identifier: Apache-2.0
"""bench/extraction.py: every way embeds the same speech, and the result column shows which differ."""

import pytest
import torch

from bench import extraction
from rawnext.models import MODELS

SMALL = {"channels": [8] * 6, "blocks": [1] * 6, "embedding_dim": 8}


def test_ways_and_their_differences():
    model = MODELS.build("rawnet2", SMALL).eval()
    waves = [wave[: 20000 + 999 * i] for i, wave in enumerate(extraction.noise(4))]
    options = extraction.ways(model)
    which = extraction.WHOLE + extraction.SEGMENTS
    assert {name for pair in which for name in pair} == set(options)
    rows = {row.after: row for row in extraction.pairs("x", options, waves, extraction.WHOLE, 1)}
    for name in ("batches", "one at a time, folded", "batches, folded"):
        assert float(rows[name].kept) < 1e-4, name
    row = next(extraction.pairs("x", options, waves, [("batches", "ten segments")], 1))
    assert 1e-4 < float(row.kept) < 2, "another protocol"
    seconds = sum(map(len, waves)) / 16000
    assert row.unit == "h/s" and extraction.hours(waves) == pytest.approx(seconds / 3600)


def test_lengths_are_those_of_voxceleb():
    seconds = torch.tensor([len(wave) for wave in extraction.noise(60)]) / 16000
    assert seconds.min() >= 4 and seconds.max() <= 20 and 7 < seconds.mean() < 9.5
