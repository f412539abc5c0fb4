# SPDX-License-Identifier: Apache-2.0
"""The baseline without a network: mean and deviation of log-mel energies, projected by LDA."""

import torch
from torch import Tensor

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.features import LogMel


@MODELS.register("mel_stats")
class MelStats(SpeakerModel):
    """Mean and standard deviation of each band over an utterance's frames, less `mean`, times `projection`.

    Both are buffers that steps/fit_lda.py sets; there is nothing to train by gradient. What such statistics tell apart
    is the channel as much as the voice, so a network that is no better has learnt the microphones of its corpus.

    Args:
        bands: of the log-mel energies.   embedding_dim: directions that LDA keeps.
        quietest: share of the frames that are used, those of least energy; 1 is all of them. With a small share the
            baseline hears the background between the words and hardly the voice.
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, bands: int = 80, embedding_dim: int = 100, quietest: float = 1.0):
        super().__init__()
        if not 0 < quietest <= 1:
            raise ValueError(f"mel_stats: quietest is a share of frames, 0...1, got {quietest}")
        self.embedding_dim, self.quietest = embedding_dim, quietest
        self.mel = LogMel(bands, norm="none")
        self.register_buffer("mean", torch.zeros(2 * bands))
        self.register_buffer("projection", torch.eye(2 * bands, embedding_dim))

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return (self.statistics(x, lengths) - self.mean) @ self.projection

    def statistics(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) -> (B, 2 bands)."""
        mel, num = self.mel(x, lengths)  # (B, L, bands)
        if num is None:
            num = torch.full((len(mel),), mel.shape[1], device=mel.device)
        energy = mel.logsumexp(dim=2)
        energy = energy.masked_fill(torch.arange(mel.shape[1], device=mel.device) >= num[:, None], torch.inf)
        rank = energy.argsort(dim=1, stable=True).argsort(dim=1)
        used = (num * self.quietest).long().clamp(min=1)
        own = (rank < used[:, None]).unsqueeze(-1)
        mean = mel.masked_fill(~own, 0).sum(1) / used[:, None]
        square = (mel - mean[:, None]).masked_fill(~own, 0).square().sum(1) / used[:, None]
        return torch.cat([mean, square.sqrt()], dim=1)
