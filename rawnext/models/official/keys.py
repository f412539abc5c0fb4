# SPDX-License-Identifier: Apache-2.0
"""State dicts of released code as ours: each key's name here. Which options fit, options.py reads off them."""

import re
from collections.abc import Mapping

from torch import Tensor

Renames = list[tuple[str, str | None]]  # pattern, what stands in its place; None: nothing here has this key

# in order; the released code marks the low path's layers with _d, the high path's with _u
RENAMES: Renames = [
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

# voxceleb_trainer and the DTDY repository, which is built upon it
RESNET34: Renames = [
    (r"^(module\.)?__L__\.", None),
    (r"^(module\.)?__S__\.", ""),
    (r"\bflipped_filter$", None),
    (r"^torchfb\.(\d\.)?", "features.mel."),
    (r"^(attention|sap_linear)\b", r"pooling.\1"),
    (r"\.se\.fc\.", ".se."),
    (r"\.semodule\.fc\.0\.", ".gate."),
]


def our_key(key: str, renames: Renames = RENAMES) -> str | None:
    """Our name for an official key; None for what the released code never uses and for constants."""
    for pattern, new in renames:
        if new is not None:
            key = re.sub(pattern, new, key)
        elif re.search(pattern, key):
            return None
    return key


def convert(official: Mapping[str, Tensor], renames: Renames = RENAMES) -> dict[str, Tensor]:
    """The same tensors under our keys; renames: the model's table above."""
    return {ours: tensor for key, tensor in official.items() if (ours := our_key(key, renames)) is not None}
