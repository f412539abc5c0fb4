# SPDX-License-Identifier: Apache-2.0
"""bench/voice_activity.py: a table with a row for each kind of voice activity detection; speech between pauses."""

import runpy
import sys

import numpy as np
from corpus import voice, write_corpus
from tiny_model import write_experiment


def test_a_row_for_each_kind(root, tmp_path, monkeypatch, capsys):
    data, exp = write_corpus(tmp_path / "data", 2, 2, 0.5), write_experiment(tmp_path / "exp")
    few = ["--enroll", "1", "--test", "1", "--seconds", "0.3"]
    monkeypatch.setattr(sys, "argv", ["voice_activity.py", *few, "--noise", str(data / "audio"), str(data), str(exp)])
    bench = runpy.run_path(str(root / "bench/voice_activity.py"))
    bench["main"]()
    count, _, _, *rows = capsys.readouterr().out.splitlines()
    assert count == "4 trials, 2 of them target"
    assert [row.split("|")[1].strip() for row in rows] == ["none", "energy", "silero", "energy, context 5"]
    speech = voice(0, 0, 1.0)
    sound = bench["between_pauses"](speech, None, np.random.default_rng(0))
    assert 3 <= len(sound) / 16000 <= 7 and abs(sound[:16000]).max() < 0.01 * abs(speech).max()
    assert np.array_equal(bench["loudest"](np.pad(speech, 5000), len(speech)), speech)
