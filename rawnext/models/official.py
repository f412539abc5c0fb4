# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of released code: their state dicts under our names, and the options of our model that fits them."""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

State = Mapping[str, Tensor]
# (pattern, replacement), applied in order; replacement None: the key is dropped, because our model does not have it
Renames = list[tuple[str, str | None]]

# what DataParallel and the trainers (voxceleb_trainer, NeXt-TDNN's, ECAPA-TDNN's) add to the names of any network
TRAINERS: Renames = [
    (r"^(module\.|__S__\.|speaker_net\.|speaker_encoder\.)+", ""),
    (r"^(__L__|loss_function|speaker_loss)\.", None),
]

# the released code marks the low branch's layers with _d, the high branch's with _u
RAWNEXT: Renames = [
    (r"\.project\.", None),
    (r"^attention\.", "pooling.attention."),
    (r"gate_moduel\.", "gate."),
    (r"shortcut\.0\.", "shortcut."),
    (r"\bconv_t_u\.", "high.transposed."),
    (r"\bconv_t\.", "low.transposed."),
    (r"\b((?:conv|bn)[123])_d\.", r"low.\1."),
    (r"\b((?:conv|bn)[123])_u\.", r"high.\1."),
    (r"^(level[2-5]\..*)(?<!low\.)(?<!high\.)\b(conv[123]|bn[12])\.", r"\1original.\2."),
]

NEXT_TDNN: Renames = [
    (r"^feature_extractor\.pre_emphasis\.", None),
    (r"^feature_extractor\.mel_spectrogram\.", "features.mel."),
    (r"^model\.stem\.0\.", "stem."),
    (r"^model\.", ""),
    (r"^aggregate\.conv_1\.", "pooling.attention.0."),
    (r"^aggregate\.bn1\.", "pooling.attention.1."),
    (r"^aggregate\.conv_2\.", "pooling.attention.3."),
    (r"^aggregate\.bn2\.", "bn_agg."),
    (r"^aggregate\.fc\.", "fc."),
    (r"^aggregate\.bn3\.", "bn_code."),
]

RAWNET2: Renames = [
    (r"^class_head\.", None),
    (r"^attention\.", "pooling.attention."),
    (r"shortcut\.0\.", "shortcut."),
]

# constants that follow from the options; rounded alike, so that nothing is lost
SINC: Renames = [
    (r"^preprocess\.0\.flipped_filter$", None),
    (r"\.filterbank\.(n|window)_$", None),
    (r"\.filterbank\.(low_hz|band_hz)_$", r".\1"),
    (r"^preprocess\.1\.", "wave_norm."),
    (r"^attention\.", "pooling.attention."),
]

RAWNET3: Renames = [
    *SINC,
    (r"^bn[16]\.", None),
    (r"^conv1\.", "sinc."),
    (r"\.residual\.0\.", ".shortcut."),
]

MR_RAWNET: Renames = [
    *SINC,
    (r"^speed_perturbation\.", None),
    (r"^conv1(\d)\.", r"branches.\1.sinc."),
    (r"^conv_1x1(\d)\.", r"branches.\1.project."),
    (r"^conv2_relu_bn(\d)\.0\.", r"branches.\1.conv."),
    (r"^conv2_relu_bn(\d)\.2\.", r"branches.\1.bn."),
    *((rf"^tcn_block(\d)\.{r}\.{x}\.", rf"branches.\1.tcn.{4 * r + x}.") for r in range(3) for x in range(4)),
    (r"\.net\.0\.", ".reduce."),
    (r"\.net\.1\.", ".prelu1."),
    (r"\.net\.2\.", ".norm1."),
    (r"\.net\.3\.reduce\.", ".depthwise."),
    (r"\.net\.3\.prelu1\.", ".prelu2."),
    (r"\.net\.3\.norm1\.", ".norm2."),
    (r"\.net\.3\.net\.3\.", ".expand."),
    (r"^stage(\d)\.", r"stages.\1."),
    (r"\.block\.", ".original."),
    (r"\.block_up\.0\.", ".high_transposed."),
    (r"\.block_up\.1\.", ".high."),
    (r"\.block_down\.1\.", ".low."),
    (r"\.block_down\.2\.", ".low_transposed."),
    (r"\.gate_moduel\.", ".gate."),
]

ECAPA_TDNN: Renames = [
    (r"^torchfbank\.0\.", None),
    (r"^torchfbank\.1\.", "features.mel."),
    (r"^attention\.", "pooling.attention."),
    (r"\.se\.se\.1\.", ".se.0."),
    (r"\.se\.se\.3\.", ".se.2."),
]

# voxceleb_trainer, and the DTDY repository, which is based on it
RESNET34: Renames = [
    (r"\bflipped_filter$", None),
    (r"^torchfb\.(\d\.)?", "features.mel."),
    (r"^(attention|sap_linear)\b", r"pooling.\1"),
    (r"\.se\.fc\.", ".se."),
    (r"\.semodule\.fc\.0\.", ".gate."),
]


def our_key(key: str, renames: Renames = RAWNEXT) -> str | None:
    """Our name for an official key; None for losses, constants and layers that the released code never uses."""
    for pattern, replacement in [*TRAINERS, *renames]:
        if replacement is not None:
            key = re.sub(pattern, replacement, key)
        elif re.search(pattern, key):
            return None
    return key


def convert(official: State, renames: Renames = RAWNEXT) -> dict[str, Tensor]:
    """The same tensors under our keys; renames: the table of the model."""
    return {ours: tensor for key, tensor in official.items() if (ours := our_key(key, renames)) is not None}


def recognise(official: State) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """From a state dict of released code: the options of our model, `name` included, and the state dict under our keys.

    Raises: KeyError: an unknown system, or a known one whose keys are incomplete; the message names them.
    """
    names = convert(official, [])
    for system, key_pattern, renames, read_options in SYSTEMS:
        if any(re.search(key_pattern, key) for key in names):
            state = convert(official, renames)
            try:
                return read_options(state), state
            except (KeyError, IndexError, ValueError) as error:
                raise KeyError(f"looks like {system}, but: {error}") from None
    raise KeyError(f"none of {', '.join(system for system, *_ in SYSTEMS)}")


def next_tdnn_options(state: State) -> dict[str, Any]:
    """Options of a NeXt-TDNN or NeXt-TDNN-light."""
    blocks = [count(state, rf"stages\.{stage}\.(\d+)\.norm\.weight") for stage in
              range(count(state, r"stages\.(\d+)\.0\.norm\.weight"))]
    light = "stages.0.0.dwconv.weight" in state
    filters = ["stages.0.0.dwconv.weight"] if light else [
        f"stages.0.0.mscconv.{i}.weight" for i in range(count(state, r"stages\.0\.0\.mscconv\.(\d+)\.weight"))]
    return {"name": "next_tdnn", "channels": len(state["stem.0.weight"]), "blocks": blocks,
            "kernels": [state[key].shape[-1] for key in filters], "light": light,
            "embedding_dim": len(state["fc.weight"])}


def resnet34_options(state: State) -> dict[str, Any]:
    """Options of a ResNet34. The pooling follows from its layers and the widths of its input and output.

    Raises: ValueError: an unknown pooling.
    """
    squeezed = any(".se." in key for key in state)
    thin = "pooling.sap_linear.weight" in state
    name = ("dtdy_resnet34" if any(".fc_phi." in key for key in state) else
            "resnet34" if not squeezed else "thin_resnet34_se" if thin else "resnet34_se")
    widths = [len(state[f"layer{stage}.0.bn1.weight"]) for stage in range(1, 5)]
    bands = state["features.mel.mel_scale.fb"].shape[1]
    frame = widths[-1] * (1 if thin else math.ceil(bands / 8))  # three strides halve the bands
    pooled = state["fc.weight"].shape[1]
    attentive = any(key.startswith("pooling.attention") for key in state)
    kinds = {(False, frame): "avg", (True, frame): "sap", (True, 2 * frame): "asp"}
    kind = kinds.get((attentive, pooled))
    if kind is None or (squeezed and not attentive):
        raise ValueError(f"unknown pooling: {pooled} numbers from frames of {frame}")
    return {"name": name, "widths": widths,
            "blocks": [count(state, rf"layer{stage}\.(\d+)\.bn1\.weight") for stage in range(1, 5)],
            **({"deviation": kind == "asp"} if squeezed else {"pooling": kind}),
            "bands": bands, "embedding_dim": len(state["fc.weight"])}


def rawnet2_options(state: State) -> dict[str, Any]:
    """Options of a RawNet2."""
    return {"name": "rawnet2", "channels": [len(state[f"layer{i}.0.conv1.weight"]) for i in range(1, 7)],
            "blocks": [count(state, rf"layer{i}\.(\d+)\.conv1\.weight") for i in range(1, 7)],
            "embedding_dim": len(state["fc.weight"])}


def rawnet3_options(state: State) -> dict[str, Any]:
    """Options of a RawNet3. No weight depends on the stride of the sinc filters: it is the released one."""
    return {"name": "rawnet3", "channels": len(state["layer1.conv1.weight"]),
            "filters": state["layer1.conv1.weight"].shape[1], **fused_options(state, r"layer1\.convs")}


def mr_rawnet_options(state: State) -> dict[str, Any]:
    """Options of an MR-RawNet, with the released stride of the sinc filters."""
    return {"name": "mr_rawnet", "filters": state["branches.0.project.weight"].shape[1],
            "channels": len(state["conv3.weight"]),
            "blocks": [count(state, rf"stages\.{i}\.(\d+)\.original\.conv1\.weight") for i in range(3)],
            **fused_options(state, r"stages\.0\.0\.original\.convs")}


def ecapa_tdnn_options(state: State) -> dict[str, Any]:
    """Options of an ECAPA-TDNN."""
    return {"name": "ecapa_tdnn", "channels": len(state["conv1.weight"]), "bands": state["conv1.weight"].shape[1],
            "bottleneck": len(state["layer1.se.0.weight"]), **fused_options(state, r"layer1\.convs")}


def fused_options(state: State, convs: str) -> dict[str, Any]:
    """Options of networks that fuse three Res2 blocks; convs: pattern of the first block's convolutions."""
    return {"fused": len(state["layer4.weight"]), "attention": len(state["pooling.attention.0.weight"]),
            "embedding_dim": len(state["fc6.weight"]), "scale": count(state, rf"{convs}\.(\d+)\.weight") + 1}


def count(state: State, pattern: str) -> int:
    """How many keys match, whose numbers must be 0, 1, 2...   Raises: KeyError: no key matches, or one is missing."""
    numbers = sorted(int(match[1]) for key in state if (match := re.fullmatch(pattern, key)))
    if not numbers or numbers != list(range(len(numbers))):
        raise KeyError(f"keys {pattern} are numbered {numbers}")
    return len(numbers)


def rawnext_options(state: State) -> dict[str, Any]:
    """Options of a RawNeXt, a ResNeXt or a system between them.   Raises: KeyError: keys are missing."""
    blocks = {level: block_paths(state, level) for level in range(2, 6)}
    first = {level: f"level{level}." + paths[0] for level, paths in blocks.items()}
    elastic, up = (f"{first[2]}.{branch}.conv1.weight" in state for branch in ("low", "high"))
    conv2 = state[f"{first[2]}.original.conv2.weight"]  # (width, width / groups, 3)
    return {"name": "rawnext",
            "channels": [len(state["base_layer.0.weight"]), len(state["level1.0.weight"]),
                         *(len(state[f"{path}.bn3.weight"]) for path in first.values())],
            "blocks": [len(paths) for paths in blocks.values()],
            "stem": [sum(bool(re.fullmatch(rf"level{i}\.\d+\.running_mean", key)) for key in state) for i in (0, 1)],
            "embedding_dim": len(state["fc.weight"]),
            "cardinality": conv2.shape[0] // conv2.shape[1] * (2 if elastic else 1),
            "dla": any(".tree1." in key for key in state), "elastic": elastic, "up": up,
            "gate": any(".gate." in key for key in state), "official_gate": True}


def block_paths(state: State, level: int) -> list[str]:
    """Paths of a level's blocks, such as `tree1.tree2`, in order.   Raises: KeyError: there are none."""
    found = (re.fullmatch(rf"level{level}\.(.+)\.bn3\.weight", key) for key in state)
    paths = sorted(match[1] for match in found if match)
    if not paths:
        raise KeyError(f"level{level} has no block")
    return paths


# name, pattern of a key that no system further down has, renames, options from the converted state dict
SYSTEMS = (
    ("NeXt-TDNN", r"\bstages\.0\.0\.grn\.", NEXT_TDNN, next_tdnn_options),
    ("RawNeXt or ResNeXt", r"^level5\.", RAWNEXT, rawnext_options),
    ("RawNet2", r"^layer6\.", RAWNET2, rawnet2_options),
    ("RawNet3", r"^conv1\.filterbank\.", RAWNET3, rawnet3_options),
    ("MR-RawNet", r"^tcn_block0\.", MR_RAWNET, mr_rawnet_options),
    ("ECAPA-TDNN", r"\.se\.se\.", ECAPA_TDNN, ecapa_tdnn_options),
    ("DTDY-ResNet34 or ResNet34", r"^layer4\.0\.", RESNET34, resnet34_options),
)
