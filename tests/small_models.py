# SPDX-License-Identifier: Apache-2.0
"""Every network with options that make it small, so that tests can train it."""

SMALL_MODELS = {
    "rawnext": {"channels": [8, 8, 8, 8, 8, 8], "blocks": [1, 1, 1, 1], "dla": False, "cardinality": 8},
    "resnext": {"channels": [8, 8, 8, 8, 8, 8], "blocks": [1, 1, 1, 1], "cardinality": 8},
    "rawnet2": {"channels": [8] * 6, "blocks": [1] * 6},
    "rawnet3": {"channels": 16, "filters": 16, "fused": 16, "attention": 8},
    "mr_rawnet": {"filters": 8, "channels": 16, "fused": 16, "attention": 8, "blocks": [1, 1, 1]},
    "ecapa_tdnn": {"channels": 16, "fused": 16, "bottleneck": 8, "attention": 8},
    "next_tdnn": {"channels": 16, "blocks": [1, 1, 1]},
    "convmixer": {"channels": 8, "depth": 2},
    "resnet34": {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1]},
    "resnet34_se": {"widths": [8, 8, 8, 8], "blocks": [1, 1, 1, 1]},
    "resnet34_image": {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1]},
    "thin_resnet34_se": {"widths": [8, 8, 8, 8], "blocks": [1, 1, 1, 1]},
    "dtdy_resnet34": {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1]},
}
UNTRAINED = {"mel_stats"}  # steps/fit_lda.py fits it


def small(name: str) -> dict:
    """The `model` section of a configuration."""
    return {"name": name, "embedding_dim": 8, **SMALL_MODELS[name]}
