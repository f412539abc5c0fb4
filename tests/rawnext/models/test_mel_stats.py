# SPDX-License-Identifier: Apache-2.0
"""The baseline without a network, and steps/fit_lda.py."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from corpus import write_corpus
from programs import forking

from rawnext.files import write_lines
from rawnext.inference.extract import load_model
from rawnext.models import MODELS


@pytest.mark.parametrize("quietest", [1, 0.2])
def test_a_batch_equals_its_utterances(quietest):
    torch.manual_seed(0)
    model = MODELS.build("mel_stats", {"quietest": quietest}).double().eval()
    waves = [torch.randn(n).double() for n in (1600, 9001, 5000)]
    batch = torch.full((3, 9100), 1e3).double()
    for row, wave in zip(batch, waves):
        row[: len(wave)] = wave
    single = torch.cat([model(wave[None]) for wave in waves])
    assert torch.allclose(model(batch, torch.tensor([1600, 9001, 5000])), single, atol=1e-9, rtol=0)


def test_statistics_are_those_of_the_frames():
    torch.manual_seed(0)
    wave = torch.randn(1, 8000) * torch.cat([torch.full((4000,), 0.01), torch.ones(4000)])
    every, quiet = (MODELS.build("mel_stats", {"quietest": share}) for share in (1, 0.4))
    frames = every.mel(wave)[0][0]
    expected = torch.cat([frames.mean(0), frames.std(0, unbiased=False)])
    assert torch.allclose(every.statistics(wave, None)[0], expected, atol=1e-4)
    assert (quiet.statistics(wave, None)[0, :80] < frames[-20:].mean(0) - 5).all(), "no frame of the loud half"


def fit(root, *args):
    return subprocess.run([sys.executable, root / "steps/fit_lda.py", *map(str, args)], capture_output=True, text=True,
                          env=forking({"PYTHONPATH": str(root), "PATH": ""}))


def test_fitted_model_separates_speakers(root, tmp_path):
    data = write_corpus(tmp_path / "train", num_speakers=6, num_utts=4)
    write_lines(tmp_path / "lda.yaml", ["model: {name: mel_stats, bands: 20, embedding_dim: 4}"])
    done = fit(root, "--config", tmp_path / "lda.yaml", "--train", data, tmp_path / "exp")
    assert done.returncode == 0, done.stderr
    model, _ = load_model(tmp_path / "exp", torch.device("cpu"))
    assert model.projection.shape == (40, 4) and model.mean.any()
    info = json.loads((tmp_path / "exp/train_info.json").read_text())
    assert (info["num_params"], info["num_speakers"], info["num_utts"]) == (0, 6, 24)
    assert info["gmacs"] > 0
    from corpus import voice
    e = torch.nn.functional.normalize(torch.stack([model(torch.from_numpy(voice(s, 9, 1.2))[None])[0]
                                                   for s in (0, 0, 3)]), dim=1)
    other = torch.nn.functional.normalize(model(torch.from_numpy(voice(0, 8, 1.0))[None]), dim=1)[0]
    assert float(other @ e[0]) > float(other @ e[2]) + 0.3


@pytest.mark.parametrize(("config", "why"), [("{name: rawnext}", "not mel_stats"),
                                             ("{name: mel_stats, embedding_dim: 90}", "cannot have 90 directions"),
                                             ("{name: mel_stats, quietest: 0}", "quietest")])
def test_one_error_line_for_bad_input(root, tmp_path, config, why):
    data = write_corpus(tmp_path / "train", num_speakers=3, num_utts=2, seconds=0.3)
    write_lines(tmp_path / "lda.yaml", [f"model: {config}"])
    done = fit(root, "--config", tmp_path / "lda.yaml", "--train", data, tmp_path / "exp")
    assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr
    assert not np.any([path.exists() for path in (tmp_path / "exp").glob("*.pt")])
