# SPDX-License-Identifier: Apache-2.0
"""A widened ECAPA-TDNN computes what the narrow one does, and its copies of a channel learn different things."""

import pytest
import torch
import torch.nn.functional as F
from tiny_model import write_experiment

from rawnext.inference.extract import load_model
from rawnext.models import MODELS
from rawnext.training import checkpoint
from steps.widen_ecapa import main, widen, widen_head

NARROW = {"channels": 16, "fused": 12, "embedding_dim": 8, "bottleneck": 4, "attention": 4, "scale": 4}
WIDE = {**NARROW, "channels": 24, "fused": 20, "embedding_dim": 11}


@pytest.fixture(scope="module")
def narrow():
    """A model whose normalisation layers have seen data."""
    torch.manual_seed(1)
    model = MODELS.build("ecapa_tdnn", NARROW)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for values in (module.weight.data, module.bias.data, module.running_mean):
                values.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture
def wide(narrow):
    torch.manual_seed(2)
    model = MODELS.build("ecapa_tdnn", WIDE)
    model.load_state_dict(widen(narrow.state_dict(), model.state_dict(), 4))
    return model.eval()


def test_embeddings_are_the_same(narrow, wide):
    wave, lengths = torch.randn(3, 9000), torch.tensor([9000, 4000, 7000])
    for args in ((wave,), (wave, lengths)):
        old, new = narrow(*args), wide(*args)
        torch.testing.assert_close(new[:, :8], old, rtol=1e-4, atol=1e-4)
        assert not new[:, 8:].any()


def test_every_weight_learns_something_of_its_own(wide):
    """Copies of one channel that got equal gradients would stay copies for ever."""
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(wide.parameters(), lr=0.01)
    wave, head = torch.randn(4, 9000), torch.randn(11, 5)
    for _ in range(2):    # the added dimensions' factors are 0 before the first step
        optimizer.zero_grad()
        F.cross_entropy(wide(wave) @ head, torch.arange(4)).backward()
        optimizer.step()
    for name, weight in wide.named_parameters():
        if weight.ndim > 1 and name != "fc6.weight":
            rows = weight.grad.flatten(1)
            assert len(rows[rows.any(1)].unique(dim=0)) == int(rows.any(1).sum()), name
    assert wide.fc6.weight.grad.flatten(1).any(1).all()


def test_heads_keep_their_outputs_of_the_old_dimensions():
    head = {"weight": torch.randn(5, 8), "bias": torch.randn(5)}
    new = widen_head(head, 11)
    assert new["weight"].shape == (5, 11)
    assert new["weight"][:, :8].equal(head["weight"]) and new["bias"].equal(head["bias"])


def test_a_wide_experiment_predicts_the_teacher_as_before(tmp_path, monkeypatch):
    exp = write_experiment(tmp_path / "narrow", model={"name": "ecapa_tdnn", **NARROW})
    head = {"weight": torch.randn(3, 8), "bias": torch.randn(3)}
    checkpoint.save(exp / "model.pt", {**checkpoint.load_state(exp), "student": head})
    sizes = [f"--{name.replace('_', '-')}={WIDE[name]}" for name in ("channels", "fused", "embedding_dim")]
    monkeypatch.setattr("sys.argv", ["widen_ecapa.py", *sizes, str(exp), str(tmp_path / "wide")])
    main()
    wave, predicted = torch.randn(2, 9000), []
    for folder in (exp, tmp_path / "wide"):
        layer = checkpoint.load_state(folder)["student"]
        predicted.append(F.linear(load_model(folder)[0].eval()(wave), layer["weight"], layer["bias"]))
    torch.testing.assert_close(*predicted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("change", "why"), [
    ({"channels": 36}, "a layer of 16 channels can be widened to 16...32, not to 36"),
    ({"fused": 10}, "a layer of 12 channels can be widened to 12...24, not to 10"),
    ({"embedding_dim": 7}, "the embedding has 8 dimensions; it cannot become 7")])
def test_impossible_widths_are_refused(narrow, change, why):
    with pytest.raises(ValueError, match=why.replace("...", r"\.\.\.")):
        widen(narrow.state_dict(), MODELS.build("ecapa_tdnn", {**WIDE, **change}).state_dict(), 4)
