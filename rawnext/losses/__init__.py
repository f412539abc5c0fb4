# SPDX-License-Identifier: Apache-2.0
"""Training losses by name.

Every loss is `Loss(embedding_dim, num_speakers, **options)` and maps embeddings (B, D) and labels (B,) to
(scalar loss, {"acc": scalar in 0..1}). Batches are speaker-major: each speaker's K utterances are consecutive.
"""

from rawnext.registry import Registry

LOSSES = Registry("loss")

from rawnext.losses import margin, pairwise, prototypical  # noqa: E402, F401 (each file registers its losses)
