# SPDX-License-Identifier: Apache-2.0
"""bench/extraction.py: every way embeds the same speech, and the result column shows which differ."""

import runpy

import pytest
import torch

from rawnext.models import MODELS

SMALL = {"channels": [8] * 6, "blocks": [1] * 6, "embedding_dim": 8}


@pytest.fixture
def bench(root, monkeypatch):
    return runpy.run_path(str(root / "bench/extraction.py"))


def test_ways_and_their_differences(bench, tmp_path):
    model = MODELS.build("rawnet2", SMALL).eval()
    waves = [wave[: 20000 + 999 * i] for i, wave in enumerate(bench["noise"](4))]
    (tmp_path / "trials").write_text("a b target\na c nontarget\nb d nontarget\n")
    options = bench["ways"](model, 1)
    assert {name for pair in bench["WHOLE"] + bench["SEGMENTS"] + bench["SHORT"] for name in pair} == set(options)
    rows = {row.after: row for row in bench["pairs"]("x", options, waves, bench["WHOLE"] + bench["SHORT"], (), "", 1)}
    for name in ("batches", "one at a time, folded", "batches, folded", "ONNX Runtime"):
        assert float(rows[name].kept) < 1e-4, name
    for name in ("ONNX Runtime, int8", "bfloat16"):
        assert 1e-4 < float(rows[name].kept) < 0.5, name
    seconds = sum(map(len, waves)) / 16000
    assert rows["batches"].unit == "h/s" and bench["hours"](waves) == pytest.approx(seconds / 3600)
    kept = next(bench["pairs"]("x", options, waves, bench["WHOLE"][:1], "abcd", str(tmp_path / "trials"), 1)).kept
    before, after = kept.split(" -> ")
    assert before == after and before.startswith("EER ")


def test_lengths_are_those_of_voxceleb(bench):
    seconds = torch.tensor([len(wave) for wave in bench["noise"](60)]) / 16000
    assert seconds.min() >= 4 and seconds.max() <= 20 and 7 < seconds.mean() < 9.5
