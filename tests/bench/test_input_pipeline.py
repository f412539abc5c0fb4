# SPDX-License-Identifier: Apache-2.0
"""bench/input_pipeline.py: both programs do the same work, on a corpus in VoxCeleb's form."""

import re

import numpy as np
import pytest

from bench import input_pipeline
from rawnext.data.cuts import CutTable


@pytest.fixture
def bench(monkeypatch):
    """The module, with a corpus of a tenth of the size."""
    whole = input_pipeline.lengths()
    small = {name: [(utt, spk, seconds / 5) for utt, spk, seconds in files[:8]] for name, files in whole.items()}
    small["train"] = [file for file in whole["train"] if file[1] < "id00016"]
    monkeypatch.setattr(input_pipeline, "lengths", lambda: small)
    monkeypatch.setattr(input_pipeline, "ROUNDS", 1)
    monkeypatch.setattr(input_pipeline, "SPEAKERS", 16)
    return input_pipeline


@pytest.mark.slow
def test_rows(bench, tmp_path):
    rows = bench.rows(str(tmp_path))
    assert len(rows) == 8 and not list(tmp_path.iterdir())
    assert all(row.rate_before > 0 and row.rate_after > 0 for row in rows)
    apart = [float(found[1]) for row in rows if (found := re.match(r"differs by (\S+)", row.kept))]
    assert len(apart) == 5 and max(apart) < 1e-5
    lines = bench.notes(str(tmp_path))
    rate = float(re.search(r"([\d,]+) utts/s per core", lines[0])[1].replace(",", ""))
    assert float(re.search(r"cores: (\S+) for 1,000", lines[0])[1]) == pytest.approx(1000 / rate, abs=0.1)
    assert lines[1].startswith("augment_on device: ")


def test_the_same_amount_of_work(bench, tmp_path):
    folder = bench.write_corpora(tmp_path)
    durations = [cut.num_samples / 16000 for cut in map(CutTable(folder / "train").__getitem__, range(64))]
    assert 4 <= min(durations) < 6 and 12 < max(durations) <= 20 and 7 < np.mean(durations) < 10
    for config in (bench.configuration(), bench.configuration(augment=False)):
        plain, ours = bench.Plain(folder, config).run(64), np.asarray(bench.Ours(folder, config).run(64))
        assert plain.shape == ours.shape == (32, 59050) and plain.dtype == ours.dtype == np.float32
        spreads = plain.std(axis=1).mean(), ours.std(axis=1).mean()
        assert max(spreads) < 0.102 if not config.augment else min(spreads) > 0.104, "noise was added by both"
    loop = bench.Plain(folder, bench.configuration())
    wave = loop.stretch(loop.files["train"][0])
    added = loop.noisy(wave, "musan_noise", 7, 7, 1, 1) - wave
    assert 10 * np.log10((np.mean(wave**2) + 1e-4) / np.mean(added**2)) == pytest.approx(7, abs=0.1)
    assert loop.reverberated(wave).shape == wave.shape
