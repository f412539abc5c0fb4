# SPDX-License-Identifier: Apache-2.0
"""RawNeXt: parity with the released code, any length, a batch equals its utterances."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_checks import activation_error, check_training_step, error, state_dict
from torch.utils.flop_counter import FlopCounterMode

from rawnext.models import MODELS
from rawnext.models.block import Block, Gate
from rawnext.models.features import pre_emphasis, tile_short
from rawnext.models.official import convert, rawnext_options

NARROW = {"channels": (8, 8, 16, 16, 16, 16), "cardinality": 8, "embedding_dim": 8}
ROWS = ["row1_resnext", "row2_dla", "row3_elastic", "row4_dla_elastic", "row5_dla_elastic_gate", "row6_dla_elastic_up",
        "row7_rawnext"]
PLAIN = {"elastic": False, "up": False, "gate": False}
SWITCHES = [{**PLAIN, "dla": False}, PLAIN, {"dla": False, "up": False, "gate": False}, {"up": False, "gate": False},
            {"up": False}, {"gate": False}, {}]


@functools.lru_cache(maxsize=1)
def weights(path):
    """(fixture, its weights), which take a second to make; of the last file only, since some have 80 MB."""
    z = np.load(path)
    return z, convert(state_dict(z))


def official(path, fast: bool):
    """(fixture, its model in float64)"""
    z, state = weights(path)
    options = rawnext_options(state)
    options.pop("name")
    model = MODELS.build("rawnext", {**options, "fast": fast}).double()
    model.load_state_dict(state)
    return z, model


def settle(model, seed: int = 0):
    """Random BatchNorm statistics, gains and biases, so that all have an effect; float64, evaluation mode."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return model.double().eval()


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("row", ROWS)
def test_equals_released_code(parity, row, fast):
    z, model = official(parity / f"{row}.npz", fast)
    x = torch.from_numpy(z["x"]).squeeze(1)
    seen = {}
    for name in ("level0", "level1", "level2", "level3", "level4", "level5", "bn_agg"):
        model.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        assert error(model.eval().embed(x.double()), z["emb_f64"]) < 1e-9
        for name, value in seen.items():
            assert activation_error(value if value.ndim == 2 else value.transpose(1, 2), z, name) < 1e-9, name
        assert error(model.float().embed(x), z["emb_f64"]) < 2e-3


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("row", ROWS)
def test_training_step_equals_released_code(parity, row, fast):
    z, model = official(parity / f"{row}.npz", fast)
    model.embedding_norm = 0
    check_training_step(z, model, convert, 1e-9)


@pytest.mark.parametrize("row", ROWS)
def test_pre_emphasis_equals_released_code(shared, row):
    z, model = official(shared / "parity" / f"{row}.npz", True)
    wave = torch.from_numpy(z["wav"])
    with torch.no_grad():
        assert error(model.eval().frontend(wave)[0], z["x"][:, 0]) < 1e-6
        assert error(model(wave.double()), z["emb_f64"]) < 2e-3  # the fixture's pre-emphasis ran in float32


def test_training_embedding_has_length_9(shared):
    z, model = official(shared / "parity/row7_rawnext.npz", True)
    e = torch.from_numpy(z["emb_f64"])
    assert error(9 * torch.nn.functional.normalize(e), z["emb_len9"]) < 2e-3
    assert torch.allclose(model.train()(torch.randn(4, 4375).double()).norm(dim=1), torch.tensor(9.0).double())


def test_block_equals_released_code(shared):
    z, model = official(shared / "parity/row7_rawnext.npz", False)
    block, seen = model.eval().level2.tree1, {}
    block.gate.register_forward_hook(lambda m, i, out: seen.update(gate=out))
    block.high.bn2.register_forward_hook(lambda m, i, out: seen.update(high=out))
    x = torch.from_numpy(z["block/in"]).double().transpose(1, 2)
    with torch.no_grad():
        original, low, high = (b.transpose(1, 2) for b in block.branches(x, None))
        out = block(x)
        unpooled = torch.nn.functional.linear(torch.relu(seen["high"]), block.high.conv3.weight.squeeze(-1))
    assert error(original, z["block/conv3"]) < 1e-5
    assert error(low, z["block/conv_t"]) < 1e-5
    assert error(unpooled.view(1, -1, 64).transpose(1, 2), z["block/conv3_u"]) < 1e-5
    assert error(torch.cat([original, low, high], 1), z["block/gate_in"]) < 1e-5
    assert error(seen["gate"], z["block/gate_moduel.attention"]) < 1e-5
    assert error(out.transpose(1, 2), z["block/out"]) < 1e-5


def test_gate_follows_the_paper_by_default(parity):
    z, model = official(parity / "row7_rawnext.npz", True)
    for module in model.modules():
        if isinstance(module, Gate):
            module.official = False
    with torch.no_grad():
        assert error(model.eval().embed(torch.from_numpy(z["x"]).double().squeeze(1)), z["emb_f64"]) > 0.5


@pytest.mark.parametrize(("options", "num"), zip(SWITCHES, [4_837_696, 7_594_816, 10_740_544, 13_497_664, 15_475_264,
                                                            18_662_848, 19_977_646]))
def test_parameter_counts(options, num):
    assert sum(p.numel() for p in MODELS.build("rawnext", options).parameters()) == num


@pytest.mark.parametrize(("options", "gmacs"), zip(SWITCHES, [2.9225, 3.9099, 3.1911, 4.1785, 4.1824, 7.0506, 7.0545]))
def test_multiplications(options, gmacs):
    def count(fast, batch):
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            MODELS.build("rawnext", {**options, "fast": fast}).eval()(torch.empty(batch, 59050))
        return counter.get_total_flops() / 2e9 / batch

    assert count(False, 1) == pytest.approx(gmacs, abs=1e-4)
    assert count(True, 320) < (0.6 if options.get("up", True) else 1) * gmacs + 0.01


def test_resnext_depths():
    count = {blocks: sum(p.numel() for p in MODELS.build("resnext", {"blocks": blocks}).parameters())
             for blocks in ((2, 4, 4, 2), (1, 2, 2, 1))}
    assert count == {(2, 4, 4, 2): 4_837_696, (1, 2, 2, 1): 2_765_632}


@pytest.mark.parametrize("options", SWITCHES)
def test_fast_form_equals_plain_form(options):
    torch.manual_seed(0)
    fast = MODELS.build("rawnext", {**NARROW, **options, "fast": True})
    plain = MODELS.build("rawnext", {**NARROW, **options, "fast": False})
    plain.load_state_dict(fast.state_dict())
    wave, weight = torch.randn(4, 4000).double(), torch.randn(4, 8).double()
    for model in (settle(fast), settle(plain)):
        (model.train()(wave) * weight).sum().backward()
    grads = dict(plain.named_parameters())
    largest = max(float(p.grad.abs().max()) for p in grads.values())
    for name, parameter in fast.named_parameters():
        assert float((parameter.grad - grads[name].grad).abs().max()) < 1e-9 * largest, name
    lengths = torch.tensor([4000, 1600, 3333, 2950])
    with torch.no_grad():
        assert error(fast.eval()(wave), plain.eval()(wave)) < 1e-11
        assert error(fast(wave, lengths), plain(wave, lengths)) < 1e-11


@settings(max_examples=12, deadline=None)
@given(lengths=st.lists(st.integers(1600, 9000), min_size=1, max_size=4), switches=st.sampled_from(SWITCHES),
       fast=st.booleans(), seed=st.integers(0, 99))
def test_any_length_and_batch_equals_single(lengths, switches, fast, seed):
    model = settle(MODELS.build("rawnext", {**NARROW, **switches, "fast": fast}), seed)
    waves = [torch.randn(n).double() for n in lengths]
    batch = torch.full((len(waves), max(lengths) + seed), 1e3).double()  # the padding's values must not matter
    for row, wave in zip(batch, waves):
        row[: len(wave)] = wave
    with torch.no_grad():
        single = torch.cat([model(wave[None]) for wave in waves])
        assert torch.isfinite(single).all()
        assert error(model(batch, torch.tensor(lengths)), single) < 1e-9
        low = model.float()
        single = torch.cat([low(wave[None].float()) for wave in waves])
        assert error(low(batch.float(), torch.tensor(lengths)), single) < 1e-4


def test_unequal_lengths_are_refused_in_training():
    model = MODELS.build("rawnext", NARROW)
    with pytest.raises(ValueError, match="one length"):
        model.train()(torch.randn(2, 4000), torch.tensor([4000, 3000]))


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    model = MODELS.build("rawnext", {**NARROW, "channels": (8, 8, 16, 16, 16, 64)})  # some ReLUs are active
    (model(torch.randn(4, 6562)) * torch.randn(8)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_quiet_init():
    torch.manual_seed(0)
    model = MODELS.build("rawnext", {**NARROW, "quiet_init": True})
    x = torch.randn(2, 30, 16)
    block = model.level3.tree1.tree1
    assert torch.equal(block(x), torch.relu(x)), "a block passes its input on"
    assert torch.allclose(block.gate([torch.randn(2, 16)] * 3), torch.tensor(1 / 3))
    (model(torch.randn(4, 6562)) * torch.randn(8)).sum().backward()
    assert block.bn3.weight.grad.any(), "bn3 still gets a gradient"


def test_tiling_of_short_signals():
    x = torch.arange(1.0, 5).repeat(2, 1)
    tiled, lengths = tile_short(x, torch.tensor([4, 3]), 7)
    assert tiled.tolist() == [[1, 2, 3, 4, 1, 2, 3], [1, 2, 3, 1, 2, 3, 1]]
    assert lengths.tolist() == [7, 7]
    assert tile_short(x, None, 7)[0].tolist()[0] == [1, 2, 3, 4, 1, 2, 3]
    long, lengths = tile_short(torch.arange(9.0).repeat(2, 1), torch.tensor([9, 3]), 7)
    assert long[1, :7].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert lengths.tolist() == [9, 7]


def test_pre_emphasis():
    y, lengths = pre_emphasis(torch.tensor([[1.0, 2, 4]]), torch.tensor([3]))
    assert torch.allclose(y, torch.tensor([[2 - 0.97, 4 - 0.97 * 2]]))
    assert lengths.tolist() == [2]


@pytest.mark.parametrize(("options", "why"), [
    ({"channels": (8, 16, 16, 16, 16, 16)}, "equal"), ({"cardinality": 5}, "cardinality"),
    ({"blocks": (2, 3, 4, 2)}, "dla"), ({"elastic": False}, "elastic"), ({"blocks": (2, 4, 4)}, "4 blocks")])
def test_incompatible_options(options, why):
    with pytest.raises(ValueError, match=why):
        MODELS.build("rawnext", {**NARROW, **options})


def test_block_keeps_odd_lengths():
    block = Block(8, 16, 8, True, True, True, False, True)
    for num in (1, 2, 3, 4, 80):
        assert block(torch.randn(2, num, 8)).shape == (2, num, 16)


def test_bfloat16_is_close_to_float32():
    torch.manual_seed(0)
    model = MODELS.build("rawnext", {**NARROW, "quiet_init": True})
    wave = 0.1 * torch.randn(8, 6562)
    full = model(wave)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(wave)
        half.square().sum().backward()
    assert float(torch.nn.functional.cosine_similarity(full, half.float()).detach().min()) > 0.95
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
