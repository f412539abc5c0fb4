# SPDX-License-Identifier: Apache-2.0
"""What every model shares: the way from a waveform of any length, alone or in a padded batch, to its network."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from rawnext.models.features import AsIs, tile_short


class SpeakerModel(nn.Module, ABC):
    """A network from waveforms to embeddings; a subclass writes `encode` and sets `embedding_dim`.

    `frontend` and `embed` are the two halves of `forward`, for protocols that cut segments between them.
    """

    embedding_dim: int
    least_samples = 1600  # shorter signals are repeated up to here
    feature_map = ""  # in models over maps of a LogMel `features`: submodule whose output is the last one, (B, C, F, L)

    def __init__(self) -> None:
        super().__init__()
        self.frontend: nn.Module = AsIs()

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T) samples in [-1, 1], zero-padded, and (B,) true lengths -> (B, D)."""
        return self.embed(*self.frontend(wave, lengths))

    def embed(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Signals (B, T) as the front end left them -> (B, D).

        Raises: ValueError: unequal lengths in training, where BatchNorm would count the padding.
        """
        if lengths is not None and bool((lengths == x.shape[-1]).all()):
            lengths = None
        if lengths is not None and self.training:
            raise ValueError("in training all utterances of a batch have one length: BatchNorm would count padding")
        return self.encode(*tile_short(x, lengths, self.least_samples))

    @abstractmethod
    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) signals of least_samples or more, (B,) lengths or None when all are full -> (B, D)."""
