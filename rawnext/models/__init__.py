# SPDX-License-Identifier: Apache-2.0
"""Networks from a waveform to an embedding.

A model's `forward(wave (B, T), lengths (B,) | None)` returns (B, D), D = `embedding_dim`, for any T from 0.1 s. With
lengths each zero-padded utterance gets the embedding that it has alone. Each model computes its own features.
"""

from rawnext.registry import Registry

MODELS = Registry("model")

from rawnext.models import convmixer, dtdy, ecapa_tdnn, mel_stats, next_tdnn, rawnet2, rawnext, resnet34  # noqa: E402, F401
