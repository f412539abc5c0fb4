# SPDX-License-Identifier: Apache-2.0
"""The form for inference computes the same function with fewer layers."""

import pytest
import torch
from model_checks import error, randomise
from torch import nn

from rawnext.models import MODELS
from rawnext.models.folded import folded
from rawnext.models.layers import norm_relu
from rawnext.models.masking import zero_tail

SMALL = {"channels": [8, 8, 16, 16, 16, 16], "cardinality": 8, "embedding_dim": 8}
SYSTEMS = [("rawnext", SMALL), ("rawnext", {**SMALL, "gate": False}), ("rawnext", {**SMALL, "up": False}),
           ("rawnext", {**SMALL, "official_gate": True}), ("rawnext", {**SMALL, "fast": False}), ("resnext", SMALL),
           ("rawnet2", {"channels": [8] * 6, "embedding_dim": 8}),
           ("rawnet3", {"channels": 16, "filters": 16, "fused": 24, "attention": 8, "embedding_dim": 8}),
           ("mr_rawnet", {"filters": 16, "channels": 16, "fused": 24, "attention": 8, "blocks": [1, 1, 1]}),
           ("resnet34", {"widths": [4, 4, 8, 8], "blocks": [2, 1, 1, 1]}),
           ("thin_resnet34_se", {"widths": [8, 8, 8, 16], "blocks": [2, 1, 1, 1]}),
           ("dtdy_resnet34", {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1]}),
           ("ecapa_tdnn", {"channels": 32, "fused": 32}), ("next_tdnn", {"channels": 16, "blocks": [1, 1]}),
           ("mel_stats", {})]


@pytest.mark.parametrize(("name", "options"), SYSTEMS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_same_function(name, options):
    model = randomise(MODELS.build(name, options))
    quick, wave, lengths = folded(model), torch.randn(3, 20000).double(), torch.tensor([20000, 9001, 1700])
    with torch.no_grad():  # masks are copies here, in place below
        expected = model(wave), model(wave, lengths)
        for given, there in zip((None, lengths), expected):
            assert error(quick(wave, given), there) < 1e-9
            with torch.inference_mode():
                assert error(quick(wave, given), there) < 1e-9 and error(model(wave, given), there) < 1e-9
        alone = quick(wave[1:2, :9001])
        assert error(expected[1][1:2], alone) < 1e-9
        single = error(quick.float()(wave.float(), lengths), expected[1])
        assert single < max(1e-5, 4 * error(model.float()(wave.float(), lengths), expected[1]))


def norms(model) -> int:
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())


def test_norms_are_folded_and_compositions_cached():
    model = randomise(MODELS.build("rawnext", SMALL))
    quick = folded(model)
    assert norms(model) == 108 and norms(quick) == 27  # 12 after the sums, 12 in gates, 3 in and after pooling
    for weight in (quick.level2.tree1.high.transposed.weight, quick.level2.tree1.low.transposed.weight):
        weight.data.fill_(torch.nan)  # must not be read again
    with torch.no_grad():
        assert torch.isfinite(quick(torch.randn(1, 5000).double())).all()


def test_the_original_model_is_unchanged():
    model = randomise(MODELS.build("rawnext", SMALL)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quick = folded(model)
    assert model.training and not quick.training
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any("matrix" in name for name in quick.state_dict())


def test_relu_is_in_place_without_gradients():
    for mode, in_place in ((torch.enable_grad, False), (torch.no_grad, True), (torch.inference_mode, True)):
        with mode():
            x = -torch.ones(2, 3, 1)
            y = norm_relu(nn.Identity(), x)
        assert not y.any() and (y.data_ptr() == x.data_ptr()) == in_place


def test_padding_is_zeroed_in_place_in_inference_mode_only():
    lengths = torch.tensor([2, 3])
    for mode, in_place in ((torch.no_grad, False), (torch.inference_mode, True)):
        with mode():
            x = torch.ones(2, 3, 1)
            zeroed = zero_tail(x, lengths)
        assert zeroed.flatten().tolist() == [1, 1, 0, 1, 1, 1]
        assert (zeroed is x) == in_place
