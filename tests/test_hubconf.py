# SPDX-License-Identifier: Apache-2.0
"""torch.hub loads the extractor and the network from this checkout."""

import sys

import torch
from tiny_model import write_experiment

from rawnext import Extractor
from rawnext.config import PRETRAINED


def test_torch_hub_loads_the_extractor_and_the_network(root, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(root)])
    load = torch.hub.load
    extractor = load(str(root), "rawnext", source="local", device="cpu", warn=False)
    assert isinstance(extractor, Extractor) and extractor.folder == PRETRAINED and not extractor.warn
    network = load(str(root), "rawnext_network", source="local")
    wave = 0.1 * torch.randn(16000)
    with torch.inference_mode():
        x = network(wave[None], torch.tensor([16000]))[0]
    assert torch.allclose(x, torch.from_numpy(extractor.embed(wave)), atol=1e-4 * x.abs().max().item())
    assert not network.training and len(x) == extractor.embedding_dim
    exp = write_experiment(tmp_path / "exp")
    assert load(str(root), "rawnext_network", str(exp), source="local").embedding_dim == 8
