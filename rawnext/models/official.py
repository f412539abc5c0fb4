# SPDX-License-Identifier: Apache-2.0
"""State dicts of the released RawNeXt and ResNeXt code as ours: each key's name here, and which options fit."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# in order; the released code marks the low path's layers with _d, the high path's with _u
RENAMES = [
    (r"^module\.", ""),
    (r"^attention\.", "pooling.attention."),
    (r"gate_moduel\.", "gate."),
    (r"shortcut\.0\.", "shortcut."),
    (r"\bconv_t_u\.", "high.transposed."),
    (r"\bconv_t\.", "low.transposed."),
    (r"\b((?:conv|bn)[123])_d\.", r"low.\1."),
    (r"\b((?:conv|bn)[123])_u\.", r"high.\1."),
    (r"^(level[2-5]\..*)(?<!low\.)(?<!high\.)\b(conv[123]|bn[12])\.", r"\1original.\2."),
]


def our_key(key: str) -> str | None:
    """Our name for an official key; None for a branch that the released code never uses."""
    if ".project." in key:
        return None
    for pattern, new in RENAMES:
        key = re.sub(pattern, new, key)
    return key


def convert(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under our keys, dead branches left out."""
    return {ours: tensor for key, tensor in official.items() if (ours := our_key(key)) is not None}


def model_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of `rawnext` with which a converted state dict fits, read off its keys and shapes.

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
