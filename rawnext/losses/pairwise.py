# SPDX-License-Identifier: Apache-2.0
"""Losses over pairs and triplets of utterances: triplet, contrastive, siamese."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.losses import LOSSES
from rawnext.losses.base import LossAndStats, MetricLoss


def other_speakers(num: int, like: Tensor) -> Tensor:
    """(num, ...) numbers in 0...num - 1 at random, none the number of its own row; as many as `like` (num, ...) has."""
    own = torch.arange(num, device=like.device).view(-1, *[1] * (like.ndim - 1))
    return (own + torch.randint(1, num, like.shape, device=like.device)) % num


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (N, M) between rows of x (N, D) and y (M, D), precise also where they are small."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def nearest_is_own(distance: Tensor, label: Tensor) -> Tensor:
    """How many of the utterances have one of their own speaker's as the nearest; distance (N, N), label (N,)."""
    others = distance.detach().clone().fill_diagonal_(torch.inf)
    return (label[others.argmin(dim=1)] == label).float().mean()


@LOSSES.register("triplet")
class Triplet(MetricLoss):
    """mean relu(d(anchor, positive)^2 - d(anchor, negative)^2 + margin) between unit vectors.

    With mining `rank` a speaker's first utterance is the anchor, its second the positive, and the negative is the
    second utterance of another speaker; accuracy: how often the positive is the closer one. With the others every
    utterance is an anchor, and triplets are made of all utterances; accuracy: how often an utterance's nearest is of
    its speaker.

    Args:
        margin: by how much the negative's squared distance should be larger.
        mining: rank, see hard_rank. batch_hard: for each anchor the farthest positive and the closest negative.
            semihard: triplets whose negative is farther than the positive but inside the margin. all: triplets whose
            negative is not farther than that. Where there are none the loss is 0.
        hard_rank: with probability `hard_prob` the negative is one of the hard_rank + 1 closest, else any.
            Below 0: one that is farther than the positive but inside the margin (semi-hard), else any.
        hard_prob: see hard_rank.
        squared: whether distances are squared; plain ones, as in the siamese literature, want larger margins (0.2).
    Source: Schroff et al., "FaceNet", 2015; mining by rank as in Chung et al., "In defence of metric learning for
        speaker recognition", 2020; batch_hard and all: Hermans et al., "In defense of the triplet loss for person
        re-identification", 2017.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2, margin: float = 0.1,
                 mining: str = "rank", hard_rank: int = 10, hard_prob: float = 0.5, squared: bool = True):
        super().__init__(embedding_dim, num_speakers, utts_per_speaker)
        self.margin, self.hard_rank, self.hard_prob = float(margin), int(hard_rank), float(hard_prob)
        self.power = 2 if squared else 1
        self.miner = None if mining == "rank" else make_miner(mining, self.margin, self.power)

    def compare(self, x: Tensor) -> LossAndStats:
        if self.miner is not None:
            return self.compare_mined(x)
        anchor, positive = F.normalize(x[:, 0]), F.normalize(x[:, 1])
        with torch.no_grad():
            negative_index = self.mine(torch.cdist(anchor, positive) ** self.power)
        to_positive = F.pairwise_distance(anchor, positive) ** self.power
        to_negative = F.pairwise_distance(anchor, positive[negative_index]) ** self.power
        loss = F.relu(to_positive - to_negative + self.margin).mean()
        return loss, {"acc": (to_positive < to_negative).float().mean()}

    def compare_mined(self, x: Tensor) -> LossAndStats:
        label = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
        unit = F.normalize(x.flatten(0, 1))
        anchor, positive, negative = self.miner(unit.detach(), label)  # type: ignore[misc]
        distance = distances(unit, unit) ** self.power
        excess = F.relu(distance[anchor, positive] - distance[anchor, negative] + self.margin)
        return excess.sum() / max(len(excess), 1), {"acc": nearest_is_own(distance, label)}

    def mine(self, distance: Tensor) -> Tensor:
        """Choose a negative for every anchor, by rank.

        Args:
            distance: (P, P) (squared) distances of anchors (rows) to positives (columns).
        Returns: (P,) column numbers, none of them on the diagonal.
        """
        num, device = len(distance), distance.device
        anybody = other_speakers(num, distance[:, 0])
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


def make_miner(mining: str, margin: float, power: int):
    """A function: unit vectors (N, D), labels (N,) -> anchors, positives, negatives, each (M,) row numbers."""
    if mining not in ("batch_hard", "semihard", "all"):
        raise ValueError(f"mining must be rank, batch_hard, semihard or all, got {mining!r}")
    from pytorch_metric_learning.distances import LpDistance  # two seconds, which only these minings should cost
    from pytorch_metric_learning.miners import BatchHardMiner, TripletMarginMiner

    distance = LpDistance(power=power)
    if mining == "batch_hard":
        return BatchHardMiner(distance=distance)
    return TripletMarginMiner(margin=margin, type_of_triplets=mining, distance=distance)


@LOSSES.register("contrastive")
class Contrastive(MetricLoss):
    """d^2 / 2 for pairs of one speaker, relu(margin - d)^2 / 2 for pairs of two, d between unit vectors.

    All pairs of the batch; the mean over those of one speaker and the mean over those of two have half the weight each,
    as in draws of equally many. Accuracy: how often an utterance's nearest is of its speaker.

    Source: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", 2006, eq. 4.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2, margin: float = 1.0):
        super().__init__(embedding_dim, num_speakers, utts_per_speaker)
        self.margin = float(margin)

    def compare(self, x: Tensor) -> LossAndStats:
        label = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
        unit = F.normalize(x.flatten(0, 1))
        distance = distances(unit, unit)
        same = label[:, None] == label
        different = ~same
        same = same.clone().fill_diagonal_(False)
        near, far = distance[same].square(), F.relu(self.margin - distance[different]).square()
        return (near.mean() + far.mean()) / 4, {"acc": nearest_is_own(distance, label)}


@LOSSES.register("siamese")
class Siamese(MetricLoss):
    """Binary cross-entropy of a linear layer over |e1 - e2|: are two utterances of different speakers (1) or not (0)?

    The pairs of one speaker are an utterance and its next; each of them has its like with the next utterance of another
    speaker, drawn at random. Accuracy: how many pairs are on the right side of logit 0.

    `logit(e1, e2)` scores trials by the trained head. It starts as the mean absolute difference less 1, which is ours.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2):
        super().__init__(embedding_dim, num_speakers, utts_per_speaker)
        self.linear = nn.Linear(embedding_dim, 1)
        nn.init.constant_(self.linear.weight, 1 / embedding_dim)
        nn.init.constant_(self.linear.bias, -1)

    def logit(self, left: Tensor, right: Tensor) -> Tensor:
        """(..., D) twice -> (...): the higher, the more likely two speakers; the same for (right, left)."""
        return self.linear((left - right).abs()).squeeze(-1)

    def compare(self, x: Tensor) -> LossAndStats:
        left, right = x[:, :-1], x[:, 1:]  # (P, K - 1, D)
        partner = other_speakers(len(x), left[..., 0])
        strangers = right[partner, torch.arange(right.shape[1], device=x.device)]
        logits = torch.stack([self.logit(left, right), self.logit(left, strangers)])
        wanted = torch.zeros_like(logits)
        wanted[1] = 1
        loss = F.binary_cross_entropy_with_logits(logits, wanted)
        return loss, {"acc": ((logits > 0) == wanted.bool()).float().mean()}
