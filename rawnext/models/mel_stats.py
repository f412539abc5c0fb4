# SPDX-License-Identifier: Apache-2.0
"""The baseline without a network: mean and standard deviation of log mel energies, projected by LDA."""

import torch
from torch import Tensor

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.features import LogMel
from rawnext.models.masking import tail_mask


@MODELS.register("mel_stats")
class MelStats(SpeakerModel):
    """(statistics - mean) @ projection, of each band's mean and standard deviation over an utterance's frames.

    steps/fit_lda.py sets `mean` and `projection`; nothing is trained by gradient. Such statistics depend on the channel
    as much as on the voice. A network that is no better has learned the microphones of its corpus.

    Args:
        bands: of the log mel energies.   embedding_dim: directions that LDA keeps.
        quietest: share of the frames that are used, those of lowest energy; 1 is all of them. With a small share the
            baseline sees the background between the words and hardly the voice.
    Raises: ValueError: quietest is not in (0, 1].
    """

    mean: Tensor
    projection: Tensor

    def __init__(self, bands: int = 80, embedding_dim: int = 100, quietest: float = 1.0):
        super().__init__()
        if not 0 < quietest <= 1:
            raise ValueError(f"mel_stats: quietest is a share of frames, above 0 and up to 1, got {quietest}")
        self.embedding_dim, self.quietest = embedding_dim, quietest
        self.mel = LogMel(bands, norm="none")
        self.register_buffer("mean", torch.zeros(2 * bands))
        self.register_buffer("projection", torch.eye(2 * bands, embedding_dim))

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return (self.statistics(x, lengths) - self.mean) @ self.projection

    def statistics(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) samples and (B,) lengths or None -> (B, 2 bands): means, then standard deviations."""
        mel, num = self.mel(x, lengths)  # (B, L, bands)
        if num is None:
            num = torch.full((len(mel),), mel.shape[1], device=mel.device)
        energy = mel.logsumexp(dim=2).masked_fill(tail_mask(mel.shape[1], num), torch.inf)
        rank = energy.argsort(dim=1, stable=True).argsort(dim=1)
        num_used = (num * self.quietest).long().clamp(min=1)[:, None]
        unused = (rank >= num_used).unsqueeze(-1)
        mean = mel.masked_fill(unused, 0).sum(1) / num_used
        variance = (mel - mean[:, None]).masked_fill(unused, 0).square().sum(1) / num_used
        return torch.cat([mean, variance.sqrt()], dim=1)
