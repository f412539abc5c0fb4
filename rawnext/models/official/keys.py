# SPDX-License-Identifier: Apache-2.0
"""State dicts of released code under our names."""

import re
from collections.abc import Mapping

from torch import Tensor

# (pattern, replacement), applied in order; replacement None: the key is dropped, because our model does not have it
Renames = list[tuple[str, str | None]]

# the released code marks the low branch's layers with _d, the high branch's with _u
RAWNEXT: Renames = [
    (r"\.project\.", None),
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

NEXT_TDNN: Renames = [
    (r"(^|\.)loss_function\.", None),
    (r"^speaker_net\.", ""),
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

ECAPA_TDNN: Renames = [
    (r"^speaker_loss\.", None),
    (r"\btorchfbank\.0\.", None),
    (r"^speaker_encoder\.", ""),
    (r"^torchfbank\.1\.", "features.mel."),
    (r"^attention\.", "pooling.attention."),
    (r"\.se\.se\.1\.", ".se.0."),
    (r"\.se\.se\.3\.", ".se.2."),
]

# voxceleb_trainer, and the DTDY repository, which is based on it
RESNET34: Renames = [
    (r"^(module\.)?__L__\.", None),
    (r"^(module\.)?__S__\.", ""),
    (r"\bflipped_filter$", None),
    (r"^torchfb\.(\d\.)?", "features.mel."),
    (r"^(attention|sap_linear)\b", r"pooling.\1"),
    (r"\.se\.fc\.", ".se."),
    (r"\.semodule\.fc\.0\.", ".gate."),
]


def our_key(key: str, renames: Renames = RAWNEXT) -> str | None:
    """Our name for an official key; None for losses, constants and layers that the released code never uses."""
    for pattern, replacement in renames:
        if replacement is not None:
            key = re.sub(pattern, replacement, key)
        elif re.search(pattern, key):
            return None
    return key


def convert(official: Mapping[str, Tensor], renames: Renames = RAWNEXT) -> dict[str, Tensor]:
    """The same tensors under our keys; renames: the table of the model."""
    return {ours: tensor for key, tensor in official.items() if (ours := our_key(key, renames)) is not None}
