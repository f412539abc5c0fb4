# SPDX-License-Identifier: Apache-2.0
"""State dicts of released code under our names."""

import re
from collections.abc import Mapping

from torch import Tensor

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


def convert(official: Mapping[str, Tensor], renames: Renames = RAWNEXT) -> dict[str, Tensor]:
    """The same tensors under our keys; renames: the table of the model."""
    return {ours: tensor for key, tensor in official.items() if (ours := our_key(key, renames)) is not None}
