# SPDX-License-Identifier: Apache-2.0
"""bench/level.py: the EER of a model that normalises the level is the same at every gain; that of another is not."""

import re
import runpy
import sys

import numpy as np
from corpus import write_corpus
from tiny_model import OPTIONS, write_experiment


def test_a_model_with_and_one_without_a_level(root, tmp_path, monkeypatch, capsys):
    data = write_corpus(tmp_path / "data", num_speakers=6, num_utts=4, seconds=0.6)
    utts = [line.split()[0] for line in (data / "utt2spk").read_text().splitlines()]
    (tmp_path / "trials").write_text("".join(
        f"{one} {other} {'target' if i // 4 == j // 4 else 'nontarget'}\n"
        for i, one in enumerate(utts) for j, other in enumerate(utts) if i < j))
    exps = [write_experiment(tmp_path / name, model=OPTIONS | {"level": level}) for name, level in
            (("steady", 0.05), ("plain", 0))]
    monkeypatch.setattr(sys, "argv", ["level.py", "--enroll", str(data), "--test", str(data), "--trials",
                                      str(tmp_path / "trials"), "--seconds", "0.3", *map(str, exps)])
    runpy.run_path(str(root / "bench/level.py"))["main"]()
    steady, plain = (np.array([float(x) for x in re.findall(r"\d+\.\d+", line)])
                     for line in capsys.readouterr().out.splitlines()[2:])
    assert len(steady) == len(plain) == 8
    assert np.ptp(steady) < 0.01 and np.ptp(plain) > 5
