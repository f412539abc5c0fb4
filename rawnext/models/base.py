# SPDX-License-Identifier: Apache-2.0
"""Base class of all models: waveforms of any length, alone or in a padded batch."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from rawnext.models.features import set_level, tile_short


class SpeakerModel(nn.Module, ABC):
    """A network from waveforms to embeddings; a subclass defines `encode` and sets `embedding_dim`.

    `forward` is `embed` after `frontend`; protocols that cut segments cut between the two. A subclass whose network
    reads anything but the samples overrides `preprocess`.
    """

    embedding_dim: int
    level = 0.0  # option of every model: RMS to which each utterance is scaled first; 0: its own level
    least_samples = 1600  # shorter signals are repeated up to this length
    feature_map = ""  # models with a LogMel `features`: submodule whose output is the last map, (B, C, F, L)

    def __init_subclass__(cls) -> None:
        if "frontend" in vars(cls):
            raise TypeError(f"{cls.__name__}: override preprocess() instead of frontend(), which sets the level too")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("frontend", "preprocess"):  # would be ignored: a method of the class wins over a submodule
            raise AttributeError(f"override the method preprocess() instead of assigning a module to {name}")
        super().__setattr__(name, value)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, T) samples in [-1, 1], zero-padded, and (B,) true lengths or None -> (B, D)."""
        return self.embed(*self.frontend(wave, lengths))

    def frontend(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, T) samples -> the (B, T') signal that the network reads, and its lengths."""
        return self.preprocess(set_level(wave, lengths, self.level) if self.level else wave, lengths)

    def preprocess(self, wave: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, T) samples at the model's level -> the network's signal (B, T') and its lengths; by default unchanged."""
        return wave, lengths

    def embed(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Output (B, T) of the front end -> (B, D).

        Raises: ValueError: unequal lengths in training, where BatchNorm would count the padding.
        """
        if lengths is not None and bool((lengths == x.shape[-1]).all()):
            lengths = None
        if lengths is not None and self.training:
            raise ValueError("in training all utterances of a batch must have one length: BatchNorm counts padding")
        return self.encode(*tile_short(x, lengths, self.least_samples))

    @abstractmethod
    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) signals of least_samples or more, (B,) lengths or None if all have T -> (B, D)."""
