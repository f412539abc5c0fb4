# SPDX-License-Identifier: Apache-2.0
"""A model with rounded weights: nearly the same embeddings, and an export of half the size that loses nothing."""

import json
import subprocess
import sys

import pytest
import torch
from programs import forking
from safetensors.torch import load_file
from tiny_model import write_experiment

from rawnext import Extractor
from rawnext.export.release import export_safetensors
from rawnext.training import checkpoint


def run(root, *args):
    return subprocess.run([sys.executable, root / "steps/round_weights.py", *map(str, args)], env=forking(),
                          capture_output=True, text=True)


@pytest.fixture(scope="module")
def folders(root, tmp_path_factory):
    """An experiment, the rounded one and the exports of both."""
    base = tmp_path_factory.mktemp("models")
    write_experiment(base / "exp")
    (base / "exp/train_info.json").write_text(json.dumps({"steps": 7, "seed": 3}))
    done = run(root, base / "exp", base / "rounded")
    assert done.returncode == 0, done.stderr
    for name in ("exp", "rounded"):
        export_safetensors(base / name, base / f"{name}_release", "cc0-1.0")
    return base


def test_matrices_take_16_bits_and_nothing_else_changes(folders):
    old = checkpoint.load_state(folders / "exp")["model"]
    stored = load_file(folders / "rounded_release/model.safetensors")
    assert stored.keys() == old.keys()
    for name, tensor in stored.items():
        assert tensor.dtype == (torch.float16 if tensor.ndim > 1 else old[name].dtype), name
        assert tensor.equal(old[name].half() if tensor.ndim > 1 else old[name]), name
    sizes = [(folders / f"{name}_release/model.safetensors").stat().st_size for name in ("exp", "rounded")]
    matrices = sum(tensor.numel() for tensor in stored.values() if tensor.ndim > 1)
    assert sizes[0] - sizes[1] == pytest.approx(2 * matrices, abs=512)    # headers differ in the digits of offsets


def test_the_export_is_the_rounded_model(folders):
    wave = torch.randn(20000).numpy() * 0.05
    exp, rounded, release = (Extractor.from_pretrained(folders / name, device="cpu")
                             for name in ("exp", "rounded", "rounded_release"))
    assert (rounded.embed(wave, 16000) == release.embed(wave, 16000)).all()
    assert rounded.fingerprint == release.fingerprint != exp.fingerprint
    assert rounded.embed(wave, 16000) == pytest.approx(exp.embed(wave, 16000), rel=0.02, abs=0.02)


def test_what_is_known_of_the_training_stays(folders):
    info = json.loads((folders / "rounded/train_info.json").read_text())
    assert (info["steps"], info["seed"]) == (7, 3)


def test_an_unrounded_export_keeps_32_bits(folders):
    stored = load_file(folders / "exp_release/model.safetensors")
    assert torch.float16 not in {tensor.dtype for tensor in stored.values()}


def test_faults_are_one_line(root, folders, tmp_path):
    done = run(root, folders / "exp", folders / "rounded")
    assert (done.returncode, done.stderr) == (1, f"round_weights.py: {folders}/rounded/model.pt: already exists; "
                                                 "name another folder\n")
    state = checkpoint.load_state(write_experiment(tmp_path / "exp"))
    name = next(name for name, tensor in state["model"].items() if tensor.ndim > 1)
    state["model"][name][0] = 1e5
    checkpoint.save(tmp_path / "exp/model.pt", state)
    done = run(root, tmp_path / "exp", tmp_path / "rounded")
    assert (done.returncode, done.stderr) == (1, f"round_weights.py: {tmp_path}/exp: {name} has values above 65504, "
                                                 "the largest in 16 bits\n")
    assert not (tmp_path / "rounded").exists()
