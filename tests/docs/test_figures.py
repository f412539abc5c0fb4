# SPDX-License-Identifier: Apache-2.0
"""The pictures of the pages show the current code and its numbers."""

import re
import tomllib

import pytest
import torch

from rawnext.models import MODELS
from rawnext.training.info import COUNTED_SAMPLES, gmacs


def words(path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def test_parameters_and_costs_of_the_network_sum_to_the_models(root):
    with torch.device("meta"):
        model = MODELS.build("rawnext", {})
    labels = words(root / "docs/figures/network.svg")
    parameters = [int(t.replace(",", "")) for t in labels if re.fullmatch(r"[\d,]+", t)]
    costs = [float(t) for t in labels if re.fullmatch(r"\d+\.\d{3}", t)]
    assert sum(parameters) == sum(p.numel() for p in model.parameters())
    assert sum(costs) == pytest.approx(gmacs(model, COUNTED_SAMPLES), abs=0.0005 * len(costs))
    assert len(parameters) == len(costs) == 8


def test_durations_are_those_of_the_results(root):
    label = re.search(r'aria-label="[^:]*: ([^"]*)"', (root / "docs/figures/durations.svg").read_text())[1]
    section = (root / "egs/speechocean762/RESULTS.md").read_text().split("### test, trials (native, cosine)\n\n")[1]
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in
                       section.split("\n\n")[0].splitlines()]
    rows = {cells[0]: dict(zip(head, cells)) for cells in lines}
    for system in label.split("; "):
        name, points = system.split(" ", 1)
        for point in points.split(", "):
            eer, length = point.split(" % at ")
            assert rows[name][f"EER % {length}"].split()[0] == eer


def test_packages_are_those_of_the_import_rules(root):
    rules = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(rule["layers"] for rule in rules if rule.get("containers") == ["rawnext"])
    names = [name for layer in layers for name in re.split(r" *[|:] *", layer)]
    assert words(root / "docs/figures/packages.svg")[1::2] == names
    found = {path.name.removesuffix(".py") for path in (root / "rawnext").iterdir() if path.suffix in ("", ".py")}
    assert set(names) == found - {"__init__", "__pycache__", "pretrained"}
