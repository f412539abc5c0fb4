# SPDX-License-Identifier: Apache-2.0
"""Networks from a waveform to an embedding.

A model's `forward(wave (B, T), lengths (B,) | None)` gives (B, D); it has `embedding_dim`, takes any T from 0.1 s up,
and with lengths gives each zero-padded utterance the embedding that it has alone. Features are its own business.
"""

from rawnext.registry import Registry

MODELS = Registry("model")

from rawnext.models import convmixer, dtdy, ecapa_tdnn, mel_stats, next_tdnn, rawnet2, rawnext, resnet34  # noqa: E402, F401
