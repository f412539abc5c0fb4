# SPDX-License-Identifier: Apache-2.0
"""Counts of a model, written to train_info.json."""

import json

import pytest
import torch

from rawnext.config import Config
from rawnext.models import MODELS
from rawnext.stamp import hardware
from rawnext.training.checkpoint import fingerprint
from rawnext.training.info import gmacs, write_info


@pytest.mark.parametrize(("options", "expected"), [({"fast": False}, 7.0545), ({"up": False, "fast": False}, 4.1824)])
def test_gmacs_of_the_published_networks(options, expected):
    assert gmacs(MODELS.build("rawnext", options)) == pytest.approx(expected, abs=1e-4)


def test_counting_does_not_change_the_model(tmp_path):
    model = MODELS.build("resnext", {"channels": [8] * 6, "cardinality": 8}).train()
    write_info(tmp_path, model, Config(), num_utts=3)
    assert model.training and next(model.parameters()).device == torch.device("cpu")
    info = json.loads((tmp_path / "train_info.json").read_text())
    assert info["num_params"] == sum(p.numel() for p in model.parameters()) and info["num_utts"] == 3
    assert info["fingerprint"] == fingerprint(Config(), model.state_dict())
    assert 0 < info["gmacs"] < 0.1 and info["hardware"] == hardware()
