# SPDX-License-Identifier: Apache-2.0
"""A centred model gives the old one's embeddings minus their mean."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from model_checks import SMALL, randomise
from programs import forking
from tiny_model import write_experiment

from rawnext.inference.extract import load_model
from rawnext.kaldi.ark import write_vectors
from rawnext.models import MODELS
from rawnext.training import checkpoint
from steps.center_model import subtract


def run(root, *args):
    done = subprocess.run([sys.executable, root / "steps/center_model.py", *map(str, args)], env=forking(),
                          capture_output=True, text=True)
    return done.returncode, done.stderr


def write_embeddings(folder, vectors, model=""):
    """Embeddings of utts 0, 1, ... by the model with this fingerprint.   Returns: their scp."""
    folder.mkdir()
    write_vectors(folder / "embedding.1.ark", folder / "embedding.scp", zip("0123456789", vectors))
    if model:
        (folder / "embedding.1.sources").write_text(f"fingerprint {model}\n")
    return folder / "embedding.scp"


def experiment(folder, options):
    """An experiment with random weights, and its model."""
    model, _ = load_model(write_experiment(folder, model=options))
    checkpoint.save(folder / "model.pt", {"model": randomise(model).float().state_dict(), "speakers": ["a", "b"],
                                          "losses": {"softmax": {"w": torch.ones(2)}}, "student": {"b": torch.ones(2)}})
    return model


@pytest.mark.parametrize("name", SMALL)
def test_every_network_can_subtract_a_mean(name):
    model, mean = randomise(MODELS.build(name, SMALL[name])).float(), torch.randn(8)
    wave, lengths = torch.randn(3, 9000), torch.tensor([9000, 4000, 7000])
    with torch.inference_mode():
        expected = model(wave, lengths) - mean
        assert subtract(mean, model)
        torch.testing.assert_close(model(wave, lengths), expected, rtol=1e-4, atol=1e-4)


def test_embeddings_are_the_old_ones_minus_the_mean(root, tmp_path):
    old = experiment(tmp_path / "exp", {"name": "ecapa_tdnn", **SMALL["ecapa_tdnn"]})
    vectors = np.random.default_rng(1).normal(3, 1, (5, 8)).astype(np.float32)
    scp = write_embeddings(tmp_path / "embeddings", vectors)
    assert run(root, tmp_path / "exp", scp, tmp_path / "centred") == (0, "")
    new, config = load_model(tmp_path / "centred")
    wave = torch.randn(3, 9000)
    with torch.inference_mode():
        torch.testing.assert_close(new(wave), old(wave) - torch.from_numpy(vectors.mean(axis=0)), rtol=1e-4, atol=1e-4)
    assert config.model["name"] == "ecapa_tdnn"


def test_facts_of_the_training_stay_and_classifiers_go(root, tmp_path):
    """A classifier would see other embeddings than those that it learned with."""
    experiment(tmp_path / "exp", {"name": "ecapa_tdnn", **SMALL["ecapa_tdnn"]})
    (tmp_path / "exp/train_info.json").write_text(json.dumps({"steps": 7, "seed": 3}))
    scp = write_embeddings(tmp_path / "embeddings", np.eye(8, dtype=np.float32))
    assert run(root, tmp_path / "exp", scp, tmp_path / "centred") == (0, "")
    assert checkpoint.load_state(tmp_path / "centred").keys() == {"model", "speakers"}
    info = json.loads((tmp_path / "centred/train_info.json").read_text())
    assert (info["steps"], info["seed"]) == (7, 3)
    assert run(root, tmp_path / "exp", scp, tmp_path / "centred") == (
        1, f"center_model.py: {tmp_path}/centred/model.pt: already exists; name another folder\n")


def test_faults_are_one_line(root, tmp_path):
    exp = tmp_path / "exp"
    experiment(exp, {"name": "ecapa_tdnn", **SMALL["ecapa_tdnn"]})
    narrow = write_embeddings(tmp_path / "narrow", np.eye(5, dtype=np.float32))
    assert run(root, exp, narrow, tmp_path / "out") == (
        1, f"center_model.py: {narrow}: 5 dimensions, but those of {exp} have 8\n")
    other = write_embeddings(tmp_path / "other", np.eye(8, dtype=np.float32), "0" * 64)
    code, message = run(root, exp, other, tmp_path / "out")
    assert code == 1 and message.count("\n") == 1 and "belongs to model" in message
    scp = write_embeddings(tmp_path / "own", np.eye(8, dtype=np.float32))
    lda = write_experiment(tmp_path / "lda", model={"name": "mel_stats", "embedding_dim": 8})
    assert run(root, lda, scp, tmp_path / "out") == (
        1, f"center_model.py: {lda}: model mel_stats does not end in a layer with a bias\n")
    assert not (tmp_path / "out").exists()


def test_a_layer_before_the_last_is_no_place_for_the_mean():
    class Squared(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x[:, :4]) ** 2

    assert not subtract(torch.ones(8), Squared(4, 8))
    assert not subtract(torch.ones(8), torch.nn.Linear(16000, 8, bias=False))
