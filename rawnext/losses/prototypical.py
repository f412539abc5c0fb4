# SPDX-License-Identifier: Apache-2.0
"""Losses that classify utterances by the speakers' mean embeddings: prototypical, angular prototypical, GE2E.

Shapes: P speakers in the batch of all processes, K utterances of each, D dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.losses import LOSSES
from rawnext.losses.base import LossAndStats, MetricLoss, cross_entropy


def query_and_prototype(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (P, K, D) -> the first utterance of each speaker (P, D), the mean of its other utterances (P, D)."""
    return x[:, 0], x[:, 1:].mean(dim=1)


@LOSSES.register("prototypical")
class Prototypical(MetricLoss):
    """Cross-entropy over negative squared Euclidean distances to the prototypes.

    Source: Snell et al., "Prototypical networks for few-shot learning", 2017, eq. 2.
    """

    def compare(self, x: Tensor) -> LossAndStats:
        query, prototype = query_and_prototype(x)
        # torch's pairwise_distance, which the published code uses, adds 1e-6 to every difference
        distance = torch.cdist(query + 1e-6, prototype, compute_mode="donot_use_mm_for_euclid_dist")
        return cross_entropy(-distance.square(), torch.arange(len(x), device=x.device))


class ScaledCosine(MetricLoss):
    """Logits `w cos + b` with learned w and b; w is clamped to 1e-6 or more."""

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2, w: float = 10.0,
                 b: float = -5.0):
        super().__init__(embedding_dim, num_speakers, utts_per_speaker)
        self.w = nn.Parameter(torch.tensor(float(w)))
        self.b = nn.Parameter(torch.tensor(float(b)))

    def logits(self, cosine: Tensor) -> Tensor:
        return self.w.clamp(min=1e-6) * cosine + self.b


@LOSSES.register("angular_prototypical")
class AngularPrototypical(ScaledCosine):
    """Cross-entropy over scaled cosines to the prototypes.

    Source: Chung et al., "In defence of metric learning for speaker recognition", 2020.
    """

    def compare(self, x: Tensor) -> LossAndStats:
        query, prototype = query_and_prototype(x)
        cosine = F.normalize(query) @ F.normalize(prototype).T
        return cross_entropy(self.logits(cosine), torch.arange(len(x), device=x.device))


@LOSSES.register("ge2e")
class GE2E(ScaledCosine):
    """Every utterance against every speaker's mean; its own speaker's mean excludes the utterance itself.

    Cosines are clamped to 1e-6 or more, without gradient below, as in the published code.
    Source: Wan et al., "Generalized end-to-end loss for speaker verification", 2018, eq. 6 and 8.
    """

    def compare(self, x: Tensor) -> LossAndStats:
        num_speakers, num_utts = x.shape[:2]
        mean = x.mean(dim=1)                                              # (P, D)
        others = (num_utts * mean[:, None] - x) / (num_utts - 1)          # (P, K, D)
        unit = F.normalize(x, dim=-1)
        cosine = unit @ F.normalize(mean).T                               # (P, K, P)
        own = (unit * F.normalize(others, dim=-1)).sum(-1, keepdim=True)  # (P, K, 1)
        is_own = torch.eye(num_speakers, dtype=torch.bool, device=x.device)[:, None]
        cosine = torch.where(is_own, own, cosine).clamp(min=1e-6)
        speaker = torch.arange(num_speakers, device=x.device).repeat_interleave(num_utts)
        return cross_entropy(self.logits(cosine).flatten(0, 1), speaker)
