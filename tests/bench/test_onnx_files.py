# SPDX-License-Identifier: Apache-2.0
"""bench/onnx_files.py: size and EER of each file."""

import runpy
import sys

import numpy as np
from corpus import write_corpus


def test_a_table_of_two_files(root, tmp_path, monkeypatch, capsys):
    """With stand-ins for the models: the first hears the speaker, the second nothing."""
    data = write_corpus(tmp_path / "data", num_speakers=4, num_utts=2, seconds=0.3)
    utts = [line.split()[0] for line in (data / "utt2spk").read_text().splitlines()]
    (data / "trials").write_text("".join(f"{a} {b} {'target' if i // 2 == j // 2 else 'nontarget'}\n"
                                         for i, a in enumerate(utts) for j, b in enumerate(utts) if i < j))
    for name, size in (("a.onnx", 2 << 20), ("b.onnx", 1 << 19)):
        (tmp_path / name).write_bytes(bytes(size))
    calls = []

    def runtime(path):
        def run(wave, lengths):
            assert wave.shape == (1, lengths[0]) and wave.dtype == np.float32
            calls.append(path.name)
            return np.eye(4, dtype="f")[[(calls.count(path.name) - 1) // 2 % 4 if path.name == "a.onnx" else 0]]
        return run

    monkeypatch.setattr("rawnext.export.onnx.runtime", runtime)
    monkeypatch.setattr(sys, "argv", ["onnx_files.py", "--rounds", "1", "--data", str(data), str(tmp_path / "a.onnx"),
                                      str(tmp_path / "b.onnx")])
    runpy.run_path(str(root / "bench/onnx_files.py"))["main"]()
    rows = [line.strip("|").split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [[cell.strip() for cell in row[:3]] for row in rows] == [
        ["a.onnx", "2.0", "whole"], ["b.onnx", "0.5", "whole"], ["a.onnx", "2.0", "1"], ["b.onnx", "0.5", "1"]]
    assert [row[3].strip() for row in rows] == ["0.00", "50.00", "0.00", "50.00"]
    assert [row[4].split()[0] for row in rows][::2] == ["1.00", "1.00"]
