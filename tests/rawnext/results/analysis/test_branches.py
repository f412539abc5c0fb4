# SPDX-License-Identifier: Apache-2.0
"""Variation scores of the branches against the definition written out, and the program that draws them."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from corpus import voice
from matplotlib.image import imread

from rawnext.config import load_config, save_config, split_name
from rawnext.files import write_lines
from rawnext.models import MODELS
from rawnext.models.block import Block
from rawnext.results.analysis import branches
from rawnext.training import checkpoint

pytestmark = pytest.mark.usefixtures("forked_programs")

NARROW = {"channels": [8, 8, 16, 16, 16, 16], "cardinality": 8, "embedding_dim": 8, "blocks": [2, 2, 2, 2]}
ROWS = [{}, {"gate": False}, {"up": False}, {"dla": False, "up": False, "gate": False}]  # 7, 6, 5, 3 of Table 4


def build(options):
    """A model with BatchNorm statistics as after a training, that looks at its input."""
    torch.manual_seed(1)
    model = MODELS.build("rawnext", {**NARROW, **options})
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def by_hand(model, signal):
    """[block][branch] mean over t and c of what it contributes, from convolutions written out; (T,) -> (K, R)."""
    found, taken = [], []
    for name, module in model.named_modules():
        if isinstance(module, Block):
            taken.append((name, module, module.register_forward_pre_hook(
                lambda block, inputs, found=found: found.append((block, inputs[0].transpose(1, 2).double())))))
    with torch.no_grad():
        model.embed(signal[None])
    for _, _, hook in taken:
        hook.remove()
    rows = {id(block): contributions(block, x) for block, x in found}
    return np.array([rows[id(block)] for _, block, _ in taken])


def path(branch, x):
    """1x1, BatchNorm, ReLU, grouped 3, BatchNorm, ReLU, 1x1: (1, C, L) -> (1, O, L)."""
    def norm(bn, y):
        return F.batch_norm(y, bn.running_mean.double(), bn.running_var.double(), bn.weight.double(), bn.bias.double())

    y = norm(branch.bn1, F.conv1d(x, branch.conv1.weight.double())).relu()
    y = norm(branch.bn2, F.conv1d(y, branch.conv2.weight.double(), padding=1, groups=branch.conv2.groups)).relu()
    return F.conv1d(y, branch.conv3.weight.double())


@torch.no_grad()
def contributions(block, x):
    num = x.shape[2]
    up = F.pad(x, (0, -num % 3))
    counts = F.pad(torch.ones_like(x), (0, -num % 3))
    thirds = F.avg_pool1d(up, 3) / F.avg_pool1d(counts, 3)
    ends = [path(block.original, x)]
    if block.low is not None:
        low = block.low.transposed
        thrice = F.conv_transpose1d(path(block.low, thirds), low.weight.double(), low.bias.double(), stride=3)
        ends.append(thrice[..., :num])
    if block.high is not None:
        high = block.high.transposed
        tripled = F.conv_transpose1d(x, high.weight.double(), high.bias.double(), stride=3)
        ends.append(F.avg_pool1d(path(block.high, tripled), 3))
    weights = torch.ones(1, ends[0].shape[1], len(ends)).double()
    if block.gate is not None:
        weights = block.gate([end.mean(2) for end in ends])
    return [float((weights[..., i, None] * end).mean()) for i, end in enumerate(ends)]


def middle(signal, seconds, longest):
    """As eq. 8 is fed: the middle, repeated up to the longest."""
    num, most = round(seconds * 16000), round(longest * 16000)
    start = max(0, len(signal) // 2 - num // 2)
    part = signal[start : start + num]
    return np.concatenate([part] * (most // len(part) + 1))[:most]


@pytest.mark.parametrize("options", ROWS)
def test_equals_the_definition_written_out(options):
    model, durations = build(options).double(), [0.3, 1, 1.1]
    waves = [voice(0, 0, 1.2).astype(float), voice(1, 1, 1.101).astype(float), voice(2, 0, 1.13).astype(float)]
    found = branches.variation(model, waves, durations, "tiled")
    expected = []
    for wave in waves:
        signal = model.frontend(torch.from_numpy(wave)[None])[0][0].numpy()
        means = [by_hand(model, torch.from_numpy(middle(signal, s, 1.1))) for s in (*durations, 1)]
        expected.append(np.stack(means[:-1]) - means[-1])
    assert found.shape == np.shape(expected) == (3, 3, 8, 1 + ("up" not in options) + 1)
    scale = np.abs(expected).max()
    assert scale > 1e-4 and np.abs(found - expected).max() < 1e-9 * scale
    assert not found[:, 1].any(), "at 1 s there is no difference"


def test_native_input_is_not_repeated_and_short_speech_is():
    model = build({})
    wave = voice(0, 0, 0.8)
    tiled, native = (branches.variation(model, [wave], [0.5, 1.5], policy) for policy in ("tiled", "native"))
    assert np.isfinite(native).all() and np.abs(tiled - native).max() > 1e-6
    signal = model.frontend(torch.from_numpy(wave)[None])[0][0].numpy()
    with branches.watched(model) as found, torch.no_grad():
        def contributions(num):
            model.embed(torch.from_numpy(np.resize(signal, num))[None])
            return torch.stack([found[name][0] for name in branches.blocks_of(model)]).numpy()

        assert np.allclose(native[0, 1], contributions(24000) - contributions(16000), atol=1e-7)


def test_the_model_is_left_as_it_was():
    model = build({})
    wave = torch.from_numpy(voice(0, 0, 1.0))[None]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        before = model(wave)
        branches.variation(model, [voice(1, 0, 1.1)], [0.5], "tiled")
        assert torch.equal(model(wave), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not [m for m in model.modules() if m._forward_pre_hooks]
    with pytest.raises(ZeroDivisionError), branches.watched(model):
        raise ZeroDivisionError
    assert not [m for m in model.modules() if m._forward_pre_hooks], "not even after a fault"


@pytest.mark.parametrize(("name", "options"), [("resnext", NARROW), ("rawnet2", {"channels": [4] * 6})])
def test_models_without_branches_are_refused(name, options):
    with pytest.raises(ValueError, match="no branches at several resolutions"):
        branches.check_branches(MODELS.build(name, options))


def test_table_averages_blocks_and_utterances():
    scores = np.arange(2 * 2 * 3 * 2, dtype=float).reshape(2, 2, 3, 2)
    lines = list(csv.DictReader(branches.table(scores, [1, 2.5], ["a", "b", "c"], ["low", "high"]), delimiter="\t"))
    assert [line["block"] for line in lines] == [name for name in ("all", "a", "b", "c") for _ in range(4)]
    by = {(line["block"], line["branch"], line["seconds"]): line for line in lines}
    part = scores[:, 1, :, 1].mean(1)
    assert float(by["all", "high", "2.5"]["score"]) == part.mean()
    assert float(by["all", "high", "2.5"]["stderr"]) == pytest.approx(part.std(ddof=1) / 2**0.5, rel=1e-5)
    assert float(by["b", "low", "1"]["score"]) == scores[:, 0, 1, 0].mean()


# --- the program

def write_exp(exp, model):
    save_config(load_config([], [f"model={model}".replace("'", "")]), exp / "config.yaml")
    torch.manual_seed(0)
    checkpoint.save(exp / "model.pt", {"model": MODELS.build(*split_name(model)).state_dict(), "speakers": [],
                                       "epoch": 0, "step": 0})


@pytest.mark.slow
def test_program(root, tmp_path):
    write_exp(tmp_path / "exp", {"name": "rawnext", **NARROW})
    for i in range(4):
        soundfile.write(tmp_path / f"u{i}.wav", voice(i, 0, 0.7 + 0.3 * i), 16000)
    write_lines(tmp_path / "data/wav.scp", (f"u{i} {tmp_path}/u{i}.wav" for i in range(4)))

    def run(*args):
        return subprocess.run([sys.executable, root / "steps/branch_variation.py", *args], cwd=tmp_path,
                              capture_output=True, text=True)

    done = run("--durations", "0.5 1 1.2", "exp", "data")
    assert done.returncode == 0 and "2 utterances; 2 of data are shorter than 1.2 s" in done.stdout, done.stderr
    names = ["branch_variation.pdf", "branch_variation.png", "branch_variation.tsv"]
    assert sorted(path.name for path in (tmp_path / "exp/analysis").iterdir()) == names
    lines = (tmp_path / "exp/analysis/branch_variation.tsv").read_text().splitlines()
    assert len(lines) == 1 + (1 + 8) * 3 * 3 and "all\tlow\t1\t0\t0\t2" in lines
    assert (tmp_path / "exp/analysis/branch_variation.pdf").read_bytes().startswith(b"%PDF")
    assert min(imread(tmp_path / "exp/analysis/branch_variation.png").shape[:2]) > 300

    write_exp(tmp_path / "exp", {"name": "resnext", **NARROW})
    done = run("exp", "data")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "exp/config.yaml: RawNeXt has no branches" in done.stderr
