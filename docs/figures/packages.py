# SPDX-License-Identifier: Apache-2.0
"""The packages of rawnext in layers, from the import rules in pyproject.toml."""

import ast
import re
from pathlib import Path

from svg import Drawing

from rawnext.errors import InputError

CONTENT = {
    "cli": "the program rawnext", "serve": "the web page of rawnext serve",
    "export": "ONNX, safetensors with a model card", "results": "rows, tables, significance tests, reports, plots",
    "scoring": "cosine, S-norm, LDA, PLDA, metrics, calibration", "inference": "embeddings with a trained model",
    "training": "batches, augmentation, trainer, checkpoints", "models": "networks and features",
    "losses": "softmax, margins, metric losses",
    "data": "manifests, reading and cutting audio", "kaldi": "tables, ark and scp, trial lists",
    "pipeline": "plan and records of stages 3 to 9",
    "config": "YAML options", "stamp": "origin of a result", "files": "atomic files", "registry": "names to classes",
    "log": "logging", "dist": "processes", "errors": "InputError, exit codes"}
WIDTH, LEFT, GAP, ROW = 460, 10, 6, 48


def read_layers(pyproject: Path) -> list[list[str]]:
    """The layers of rawnext from top to bottom, each with its packages.

    Raises: InputError: pyproject.toml has no layers of rawnext.
    """
    found = re.search(r'^containers = \["rawnext"\]\n.*?^layers = (\[.*?\])$', pyproject.read_text(), re.M | re.S)
    if not found:
        raise InputError(pyproject, None, "has no import-linter contract with the layers of rawnext")
    return [re.split(r" *[|:] *", layer) for layer in ast.literal_eval(found[1])]


def draw_packages(layers: list[list[str]]) -> Drawing:
    """One row of boxes per layer."""
    draw = Drawing("Packages of rawnext, each of which may import only those below it: "
                   + "; ".join(", ".join(layer) for layer in layers))
    draw.text(LEFT, 20, "A package may import only packages below it.", "small pale", "start")
    for row, layer in enumerate(layers):
        width = (WIDTH - GAP * (len(layer) - 1)) / len(layer)
        for column, name in enumerate(layer):
            middle = LEFT + width / 2 + column * (width + GAP)
            draw.box(middle, 30 + ROW * row, width, [name, CONTENT[name]], "block")
    draw.height = 30 + ROW * len(layers)
    return draw
