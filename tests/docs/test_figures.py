# SPDX-License-Identifier: Apache-2.0
"""The figures of the pages show the current code and its numbers."""

import re
import sys

import pytest
import torch

from rawnext.errors import InputError
from rawnext.models import MODELS
from rawnext.training.info import COUNTED_SAMPLES, gmacs

PICTURES = ("block.svg", "network.svg", "durations.svg", "packages.svg")


@pytest.fixture(scope="module")
def figures(root):
    """The modules of docs/figures."""
    sys.path.insert(0, str(root / "docs/figures"))
    import draw
    import durations
    import packages
    import walk

    yield {"draw": draw, "durations": durations, "packages": packages, "walk": walk}
    sys.path.remove(str(root / "docs/figures"))


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        return MODELS.build("rawnext", {})


def words(path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


@pytest.mark.slow
def test_committed_figures_are_current(figures, root, tmp_path):
    figures["draw"].draw_all(tmp_path)
    for name in PICTURES:
        assert (tmp_path / name).read_text() == (root / "docs/figures" / name).read_text(), "make docs redraws it"


def test_costs_sum_to_those_of_the_network(root, model):
    labels = words(root / "docs/figures/network.svg")
    parameters = [int(t.replace(",", "")) for t in labels if re.fullmatch(r"[\d,]+", t)]
    costs = [float(t) for t in labels if re.fullmatch(r"\d+\.\d{3}", t)]
    assert sum(parameters) == sum(p.numel() for p in model.parameters())
    assert sum(costs) == pytest.approx(gmacs(model, COUNTED_SAMPLES), abs=0.0005 * len(costs))
    assert len(parameters) == len(costs) == 8


def test_shapes_of_a_block(figures, model):
    """Three resolutions and widths follow from the constructor."""
    block = model.level2.tree1
    steps = figures["walk"].branch_steps(model, COUNTED_SAMPLES)
    frames = COUNTED_SAMPLES // 3**3
    assert [s.frames for s in steps["original"]] == [frames] * 3
    assert [s.frames for s in steps["low"]] == [frames // 3] * 4 + [frames]
    assert [s.frames for s in steps["high"]] == [3 * frames] * 4 + [frames]
    for name in ("original", "low", "high"):
        branch = getattr(block, name)
        assert [s.groups for s in steps[name] if s.what == "conv1d"] == [branch.conv2.groups]
        assert {branch.conv1.out_channels, branch.conv3.out_channels} <= {s.channels for s in steps[name]}


def test_inputs_of_the_roots(figures, model):
    """In a stage of four, the last root takes two blocks, the root of the first half, and the stage's input."""
    stages = {stage.name: stage.nodes for stage in figures["walk"].stages(model, COUNTED_SAMPLES, batch=1)}
    assert [node.kind for node in stages["level3"]] == ["block", "block", "root", "block", "block", "root"]
    assert [node.feeds for node in stages["level3"]] == [[-1], [0], [1, 0], [2], [3], [4, 3, -1, 2]]
    assert [node.feeds for node in stages["level2"]] == [[-1], [0], [1, 0]]     # the first stage does not use its input


def test_durations_match_the_results(figures, root, tmp_path):
    results = root / "egs/speechocean762/RESULTS.md"
    rows = figures["durations"].read_rows(results, "test, trials (native, cosine)")
    assert rows["rawnext"][-1] == (5.30, 4.0, 6.5) and rows["ecapa_tdnn"][0] == (10.47, 8.9, 12.7)
    text = (root / "docs/figures/durations.svg").read_text()
    for name in figures["draw"].SYSTEMS:
        labels = [f"{eer:.2f} % at {at}" for (eer, _, _), at in zip(rows[name], figures["durations"].LENGTHS)]
        assert f"{name} {', '.join(labels)}" in text
    head = "| system | EER % 1 s | EER % 2 s | EER % 5 s | EER % full |"
    (tmp_path / "R.md").write_text(f"### a\n\n{head}\n|-|\n| x | 1 | 2 | 3 | 4 |\n")
    for heading, why in (("a", "expected EER"), ("b", "no table under")):
        with pytest.raises(InputError, match=why):
            figures["durations"].read_rows(tmp_path / "R.md", heading)


def test_packages_are_those_of_the_import_rules(figures, root, tmp_path):
    layers = figures["packages"].read_layers(root / "pyproject.toml")
    assert layers[0] == ["cli"] and layers[-1] == ["errors"] and ["models", "losses"] in layers
    found = {path.name.removesuffix(".py") for path in (root / "rawnext").iterdir() if path.suffix in ("", ".py")}
    assert {name for layer in layers for name in layer} == found - {"__init__", "__pycache__"}
    assert words(root / "docs/figures/packages.svg")[1::2] == [name for layer in layers for name in layer]
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(InputError, match="import-linter"):
        figures["packages"].read_layers(tmp_path / "pyproject.toml")
