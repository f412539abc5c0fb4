# SPDX-License-Identifier: Apache-2.0
"""Losses over pairs of utterances: the triplet loss with its choice of negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rawnext.losses import LOSSES
from rawnext.losses.base import LossAndStats, MetricLoss


@LOSSES.register("triplet")
class Triplet(MetricLoss):
    """mean relu(d(anchor, positive)^2 - d(anchor, negative)^2 + margin) between unit vectors.

    A speaker's first utterance is the anchor, its second the positive; the negative is the second utterance of
    another speaker. Accuracy: how often the positive is the closer one.

    Args:
        margin: by how much the negative's squared distance should be larger.
        hard_rank: with probability `hard_prob` the negative is one of the hard_rank + 1 closest, else any.
            Below 0: one that is farther than the positive but inside the margin (semi-hard), else any.
        hard_prob: see hard_rank.
    Source: Schroff et al., "FaceNet", 2015; mining by rank as in Chung et al., "In defence of metric learning for
        speaker recognition", 2020.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2, margin: float = 0.1,
                 hard_rank: int = 10, hard_prob: float = 0.5):
        super().__init__(embedding_dim, num_speakers, utts_per_speaker)
        self.margin, self.hard_rank, self.hard_prob = float(margin), int(hard_rank), float(hard_prob)

    def compare(self, x: Tensor) -> LossAndStats:
        anchor, positive = F.normalize(x[:, 0]), F.normalize(x[:, 1])
        with torch.no_grad():
            negative_index = self.mine(torch.cdist(anchor, positive).square())
        to_positive = F.pairwise_distance(anchor, positive).square()
        to_negative = F.pairwise_distance(anchor, positive[negative_index]).square()
        loss = F.relu(to_positive - to_negative + self.margin).mean()
        return loss, {"acc": (to_positive < to_negative).float().mean()}

    def mine(self, distance: Tensor) -> Tensor:
        """Choose a negative for every anchor.

        Args:
            distance: (P, P) squared distances of anchors (rows) to positives (columns).
        Returns: (P,) column numbers, none of them on the diagonal.
        """
        num, device = len(distance), distance.device
        anybody = (torch.arange(num, device=device) + torch.randint(1, num, (num,), device=device)) % num
        if self.hard_rank < 0:
            own = distance.diagonal()[:, None]
            semi_hard = (distance > own) & (distance < own + self.margin)
            found = semi_hard.any(dim=1)
            choice = torch.multinomial(torch.where(found[:, None], semi_hard, True).float(), 1)[:, 0]
            return torch.where(found, choice, anybody)
        num_close = min(self.hard_rank + 1, num - 1)
        others = distance.masked_fill(torch.eye(num, dtype=torch.bool, device=device), torch.inf)
        closest = others.topk(num_close, largest=False).indices
        pick = torch.randint(num_close, (num, 1), device=device)
        hard = torch.rand(num, device=device) < self.hard_prob
        return torch.where(hard, closest.gather(1, pick)[:, 0], anybody)
