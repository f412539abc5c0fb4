# SPDX-License-Identifier: Apache-2.0
"""Base classes of the losses: full precision, batches gathered over processes, cross-entropy with accuracy."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.dist import all_gather_with_grad

LossAndStats = tuple[Tensor, dict[str, Tensor]]


class Loss(nn.Module, ABC):
    """A loss over embeddings; a subclass defines `compute`."""

    def forward(self, embedding: Tensor, label: Tensor) -> LossAndStats:
        """Loss of a speaker-major batch, in float32 or float64 even under autocast.

        Args:
            embedding: (B, D).   label: (B,) speaker indices, int64.
        Returns: scalar loss and {"acc": scalar in 0..1, without gradient}.
        """
        # half precision has too few digits for scale * cos(angle + margin)
        wide = embedding if embedding.dtype == torch.float64 else embedding.float()
        with torch.autocast(embedding.device.type, enabled=False):
            return self.compute(wide, label)

    @abstractmethod
    def compute(self, embedding: Tensor, label: Tensor) -> LossAndStats:
        """Loss of embeddings (B, D) in float32 or float64."""


class MetricLoss(Loss):
    """A loss that compares the utterances of a batch with each other; a subclass defines `compare`.

    Args:
        utts_per_speaker: K, number of utterances of each speaker in a batch, at least 2.
    Raises: ValueError: K below 2; `forward`: a batch that is not speaker-major (checked on a CPU only), or with one
        speaker only.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2):
        super().__init__()
        if utts_per_speaker < 2:
            raise ValueError(f"utts_per_speaker must be 2 or more, got {utts_per_speaker}")
        self.utts_per_speaker = utts_per_speaker

    def compute(self, embedding: Tensor, label: Tensor) -> LossAndStats:
        if len(label) % self.utts_per_speaker:
            raise ValueError(f"{len(label)} utterances are not {self.utts_per_speaker} of every speaker")
        by_speaker = label.view(-1, self.utts_per_speaker)
        if label.device.type == "cpu" and (by_speaker != by_speaker[:, :1]).any():  # on a GPU it would wait for it
            raise ValueError(f"the batch is not speaker-major with {self.utts_per_speaker} utterances per speaker")
        # ranks hold whole speakers, so their concatenation is speaker-major again
        gathered = all_gather_with_grad(embedding)
        if len(gathered) == self.utts_per_speaker:
            raise ValueError("a batch of one speaker has no other speaker to compare with")
        return self.compare(gathered.unflatten(0, (-1, self.utts_per_speaker)))

    @abstractmethod
    def compare(self, x: Tensor) -> LossAndStats:
        """Loss of the batch x (P, K, D) of all processes, P speakers with K utterances each."""


def cross_entropy(logits: Tensor, label: Tensor, scores: Tensor | None = None) -> LossAndStats:
    """Mean cross-entropy of logits (B, S), and the share of labels with the highest of `scores` (default: logits)."""
    correct = (logits if scores is None else scores).detach().argmax(dim=1) == label
    return F.cross_entropy(logits, label), {"acc": correct.float().mean()}
