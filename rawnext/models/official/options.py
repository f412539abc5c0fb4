# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of released code: which system they are of, and the options with which our model takes their weights."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from rawnext.models.official.keys import NEXT_TDNN, RENAMES, RESNET34, Renames, convert

State = Mapping[str, Tensor]


class Family(NamedTuple):
    """Released code.   mark: pattern of a key that no other has.   options: of a converted state dict."""

    name: str
    mark: str
    renames: Renames
    options: Callable[[State], dict[str, Any]]


def recognise(official: State) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options of our model and the state dict under our keys, of a state dict of released code.

    Raises: KeyError: it is of none of these, with what is missing.
    """
    for family in FAMILIES:
        if any(re.search(family.mark, key) for key in official):
            state = convert(official, family.renames)
            try:
                return family.options(state), state
            except (KeyError, IndexError, ValueError) as error:
                raise KeyError(f"looks like {family.name}, but: {error}") from None
    raise KeyError(f"none of {', '.join(family.name for family in FAMILIES)}")


def next_tdnn_options(state: State) -> dict[str, Any]:
    blocks = [count(state, rf"stages\.{stage}\.(\d+)\.norm\.weight") for stage in
              range(count(state, r"stages\.(\d+)\.0\.norm\.weight"))]
    light = "stages.0.0.dwconv.weight" in state
    filters = ["stages.0.0.dwconv.weight"] if light else [
        f"stages.0.0.mscconv.{i}.weight" for i in range(count(state, r"stages\.0\.0\.mscconv\.(\d+)\.weight"))]
    return {"name": "next_tdnn", "channels": len(state["stem.0.weight"]), "blocks": blocks,
            "kernels": [state[key].shape[-1] for key in filters], "light": light,
            "embedding_dim": len(state["fc.weight"])}


def dtdy_options(state: State) -> dict[str, Any]:
    """The pooling is told by its layers and by how many numbers a frame's channels and bands become."""
    widths = [len(state[f"layer{stage}.0.bn1.weight"]) for stage in range(1, 5)]
    bands = state["features.mel.mel_scale.fb"].shape[1]
    frame = widths[-1] * math.ceil(bands / 8)  # the stem and two stages halve the bands
    pooled = state["fc.weight"].shape[1]
    attentive = any(key.startswith("pooling.attention.") for key in state)
    kinds = {(False, frame): "avg", (True, frame): "sap", (True, 2 * frame): "asp"}
    if (attentive, pooled) not in kinds:
        raise ValueError(f"a pooling that is not here: {pooled} numbers of {frame} in a frame")
    return {"name": "dtdy_resnet34", "widths": widths,
            "blocks": [count(state, rf"layer{stage}\.(\d+)\.bn1\.weight") for stage in range(1, 5)],
            "pooling": kinds[attentive, pooled], "bands": bands, "embedding_dim": len(state["fc.weight"])}


def count(state: State, pattern: str) -> int:
    """How many keys match, whose numbers must be 0, 1, 2...   Raises: KeyError: there are none, or one is missing."""
    numbers = sorted(int(match[1]) for key in state if (match := re.fullmatch(pattern, key)))
    if not numbers or numbers != list(range(len(numbers))):
        raise KeyError(f"keys {pattern} are numbered {numbers}")
    return len(numbers)


def rawnext_options(state: State) -> dict[str, Any]:
    """Of a RawNeXt, a ResNeXt or what lies between them.

    Raises: KeyError: the keys are not those of a RawNeXt or ResNeXt.
    """
    keys = set(state)
    dla = any(".tree1." in key for key in keys)
    first = {level: f"level{level}." + blocks(keys, level)[0] for level in range(2, 6)}
    stem = [sum(bool(re.fullmatch(rf"level{i}\.\d+\.running_mean", key)) for key in keys) for i in (0, 1)]
    elastic, up = (f"{first[2]}.{path}.conv1.weight" in keys for path in ("low", "high"))
    conv2 = state[f"{first[2]}.original.conv2.weight"]  # (width, width / groups, 3)
    return {"name": "rawnext",
            "channels": [len(state["base_layer.0.weight"]), len(state["level1.0.weight"]),
                         *(len(state[f"{first[level]}.bn3.weight"]) for level in range(2, 6))],
            "blocks": [len(blocks(keys, level)) for level in range(2, 6)], "stem": stem,
            "embedding_dim": len(state["fc.weight"]),
            "cardinality": conv2.shape[0] // conv2.shape[1] * (2 if elastic else 1), "dla": dla, "elastic": elastic,
            "up": up, "gate": any(".gate." in key for key in keys), "official_gate": True}


def blocks(keys: set[str], level: int) -> list[str]:
    """Paths of a level's blocks, such as `tree1.tree2`, in order."""
    found = (re.fullmatch(rf"level{level}\.(.+)\.bn3\.weight", key) for key in keys)
    paths = sorted(match[1] for match in found if match)
    if not paths:
        raise KeyError(f"level{level} has no block")
    return paths


FAMILIES = (
    Family("NeXt-TDNN", r"(^|\.)stages\.0\.0\.grn\.", NEXT_TDNN, next_tdnn_options),
    Family("DTDY-ResNet34", r"\.fc_phi\.", RESNET34, dtdy_options),
    Family("RawNeXt or ResNeXt", r"(^|\.)level5\.", RENAMES, rawnext_options),
)
