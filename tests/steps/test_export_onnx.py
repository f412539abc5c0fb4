# SPDX-License-Identifier: Apache-2.0
"""steps/export_onnx.py: from an experiment folder to a file that says what it was made of."""

import subprocess

import onnx
import torch

from rawnext import checkpoint
from rawnext.config import Config, save_config, split_name
from rawnext.models import MODELS
from rawnext.stamp import sha256

OPTIONS = {"name": "rawnet2", "channels": [8] * 6, "blocks": [1] * 6, "embedding_dim": 8}


def test_an_experiment_becomes_a_file(root, tmp_path):
    command = [root / "steps" / "export_onnx.py", tmp_path, tmp_path / "out.onnx"]
    torch.manual_seed(0)
    save_config(Config(model=OPTIONS), tmp_path / "config.yaml")
    checkpoint.save(tmp_path / "model.pt", {"model": MODELS.build(*split_name(OPTIONS)).state_dict()})
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.count("\n") == 1 and "0.1 to 30 s" in done.stdout
    said = {prop.key: prop.value for prop in onnx.load(tmp_path / "out.onnx").metadata_props}
    assert said["model_sha256"] == sha256(tmp_path / "model.pt") and "rawnet2" in said["config"] and said["commit"]
