# SPDX-License-Identifier: Apache-2.0
"""steps/identification.py: its models are those of the library, and what is wrong is one line."""

import json
import runpy
import sys

import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.kaldi.ark import write_vectors
from rawnext.scoring.open_set import identification_errors

SPK = np.repeat(np.arange(8), [6] * 7 + [2])


@pytest.fixture
def step(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 6))[SPK] + rng.normal(size=(len(SPK), 6))
    utts = [f"u{number:03}" for number in range(len(SPK))]
    with open("utt2spk", "w") as file:
        file.writelines(f"{utt} s{spk}\n" for utt, spk in zip(utts, SPK))
    write_vectors("x.ark", "x.scp", zip(utts, x.astype(np.float32)))
    program = runpy.run_path(str(root / "steps/identification.py"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["identification.py", *words, ".", "x.scp"])
        program["main"]()
        return capsys.readouterr().out
    run.program, run.x = program, x
    return run


def test_models_are_means_of_unit_vectors_of_the_enrolled_utterances(step):
    rows = [json.loads(line) for line in step("--json", "--repeats", "3", "--seed", "2").splitlines()]
    units = step.x / np.linalg.norm(step.x, axis=1, keepdims=True)
    used = SPK < 7  # the last speaker has too few utterances
    enrolled = step.program["enrolled"](SPK[used], 3, 2)
    assert np.bincount(SPK[used][enrolled]).tolist() == [3] * 7
    means = np.stack([units[used][enrolled & (SPK[used] == spk)].mean(0) for spk in range(7)])
    scores = units[used][~enrolled] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    expected = identification_errors(scores, SPK[used][~enrolled], [2, 5], [0.01, 0.1], 3, 2)
    assert [(row["size"], row["fpir"]) for row in rows] == [(2, 0.01), (2, 0.1), (5, 0.01), (5, 0.1)]
    assert [row["fnir"] for row in rows] == pytest.approx([row.fnir for row in expected])
    assert {(row["num_probes"], row["num_speakers"]) for row in rows} == {(21, 7)}
    text = step("--sizes", "5", "--fpir", "0.1", "--repeats", "3", "--seed", "2").splitlines()
    assert text[0].startswith("speakers\tFPIR %") and text[1].startswith(f"5\t10\t{100 * expected[3].fnir:.2f} [")


def test_what_is_wrong_is_one_line(step):
    with pytest.raises(InputError, match="x.scp: a gallery of 7 speakers; want 1 to 6"):
        step("--sizes", "7")
    with pytest.raises(InputError, match="utt2spk: 0 speakers have more than 6 embeddings"):
        step("--enroll-utts", "6")
