# SPDX-License-Identifier: Apache-2.0
"""Networks from a waveform to an embedding.

A model's `forward(wave (B, T), lengths (B,) | None)` returns (B, D), D = `embedding_dim`, for any T from 0.1 s. With
lengths each zero-padded utterance gets the embedding that it has alone. Each model computes its own features.
"""

from collections.abc import Mapping
from typing import Any

from rawnext.registry import Registry


class ModelRegistry(Registry):
    """Models by name. Each has the option `level` (SpeakerModel.level) in addition to those of its constructor."""

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        level = options.get("level", 0)
        if not isinstance(level, int | float) or not 0 <= level <= 1:
            raise ValueError(f"model {name}: level: an RMS of 0...1, 0 for none, got {level!r}")
        super().check(name, {key: value for key, value in options.items() if key != "level"})

    def build(self, name: str, options: Mapping[str, Any], *args: Any) -> Any:
        self.check(name, options)
        model = super().build(name, {key: value for key, value in options.items() if key != "level"}, *args)
        model.level = float(options.get("level", 0))
        return model


MODELS = ModelRegistry("model")

from rawnext.models import (  # noqa: E402, F401
    convmixer,
    dtdy,
    ecapa_tdnn,
    mel_stats,
    mr_rawnet,
    next_tdnn,
    rawnet2,
    rawnet3,
    rawnext,
    resnet34,
)
