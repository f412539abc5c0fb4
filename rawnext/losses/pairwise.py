# SPDX-License-Identifier: Apache-2.0
"""Losses over pairs and triplets of utterances: triplet, contrastive, siamese."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.losses import LOSSES
from rawnext.losses.base import LossAndStats, MetricLoss


def other_speakers(num: int, like: Tensor) -> Tensor:
    """Random indices in 0...num - 1, none equal to its row's; shape and device of `like` (num, ...)."""
    own = torch.arange(num, device=like.device).view(-1, *[1] * (like.ndim - 1))
    return (own + torch.randint(1, num, like.shape, device=like.device)) % num


def unit_vectors(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x (P, K, D) -> unit vectors (N, D), N = P K, their speaker indices (N,) and Euclidean distances (N, N)."""
    unit = F.normalize(x.flatten(0, 1))
    label = torch.arange(len(x), device=x.device).repeat_interleave(x.shape[1])
    return unit, label, torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")  # mm: small ones inexact


def nearest_neighbour_accuracy(distance: Tensor, label: Tensor) -> Tensor:
    """Share of utterances whose nearest other utterance has the same speaker; distance (N, N), label (N,)."""
    others = distance.detach().clone().fill_diagonal_(torch.inf)
    return (label[others.argmin(dim=1)] == label).float().mean()


@LOSSES.register("triplet")
class Triplet(MetricLoss):
    """mean relu(d(anchor, positive)^2 - d(anchor, negative)^2 + margin) between unit vectors.

    With mining `rank` a speaker's first utterance is the anchor, the second the positive, and another speaker's second
    the negative; accuracy is the share of anchors that are closer to the positive. With the other minings triplets are
    made of all utterances; accuracy is the share of utterances whose nearest neighbour has the same speaker.

    Args:
        margin: by how much the negative's squared distance should exceed the positive's.
        mining: rank, see hard_rank. batch_hard: for each anchor the farthest positive and the closest negative.
            semihard: triplets whose negative is farther than the positive but inside the margin. all: triplets whose
            negative is closer than the positive or inside the margin. Without any triplet the loss is 0.
        hard_rank: with probability `hard_prob` the negative is one of the hard_rank + 1 closest, else any.
            Below 0: one that is farther than the positive but inside the margin (semi-hard), else any.
        hard_prob: see hard_rank.
        squared: square the distances; without, as in the siamese literature, larger margins (0.2) are usual.
    Raises: ValueError: another mining.
    Source: Schroff et al., "FaceNet", 2015; mining by rank as in Chung et al., "In defence of metric learning for
        speaker recognition", 2020; batch_hard and all: Hermans et al., "In defense of the triplet loss for person
        re-identification", 2017.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2, margin: float = 0.1,
                 mining: str = "rank", hard_rank: int = 10, hard_prob: float = 0.5, squared: bool = True):
        super().__init__(embedding_dim, num_speakers, utts_per_speaker)
        if mining not in ("rank", "batch_hard", "semihard", "all"):
            raise ValueError(f"mining must be rank, batch_hard, semihard or all, got {mining!r}")
        self.mining, self.margin = mining, float(margin)
        self.hard_rank, self.hard_prob = int(hard_rank), float(hard_prob)
        self.power = 2 if squared else 1

    def compare(self, x: Tensor) -> LossAndStats:
        if self.mining != "rank":
            _, label, distance = unit_vectors(x)
            distance = distance**self.power
            return self.mined(distance, x.shape[1]), {"acc": nearest_neighbour_accuracy(distance, label)}
        first, second = F.normalize(x[:, 0]), F.normalize(x[:, 1])
        with torch.no_grad():
            negative = self.choose_negatives(torch.cdist(first, second) ** self.power)
        to_positive = F.pairwise_distance(first, second) ** self.power
        to_negative = F.pairwise_distance(first, second[negative]) ** self.power
        loss = F.relu(to_positive - to_negative + self.margin).mean()
        return loss, {"acc": (to_positive < to_negative).float().mean()}

    def mined(self, distance: Tensor, num_utts: int) -> Tensor:
        """Mean over the mined triplets, 0 if there are none.

        All shapes follow from P and K, so that nothing waits for a GPU to count triplets.

        Args: distance: (N, N) (squared) distances of P speakers with K = num_utts utterances each, speaker-major.
        """
        index = torch.arange(len(distance), device=distance.device)
        first = (index // num_utts * num_utts)[:, None]  # utterance of each anchor's speaker
        positive = distance.gather(1, first + (index[:, None] + index[1:num_utts]) % num_utts)  # (N, K - 1)
        negative = distance.gather(1, (first + index[num_utts:]) % len(index))  # (N, N - K)
        if self.mining == "batch_hard":
            return F.relu(positive.amax(1) - negative.amin(1) + self.margin).mean()
        gap = negative[:, None] - positive[:, :, None]  # (N, K - 1, N - K)
        chosen = gap <= self.margin if self.mining == "all" else (gap <= self.margin) & (gap > 0)
        return (F.relu(self.margin - gap) * chosen).sum() / chosen.sum().clamp(min=1)

    def choose_negatives(self, distance: Tensor) -> Tensor:
        """Choose a negative for every anchor, by rank.

        Args:
            distance: (P, P) (squared) distances of anchors (rows) to positives (columns).
        Returns: (P,) column indices, none on the diagonal.
        """
        num, device = len(distance), distance.device
        random = other_speakers(num, distance[:, 0])
        if self.hard_rank < 0:
            own = distance.diagonal()[:, None]
            semi_hard = (distance > own) & (distance < own + self.margin)
            found = semi_hard.any(dim=1)
            choice = torch.rand_like(distance).masked_fill(~semi_hard, -1).argmax(dim=1)  # multinomial waits for a GPU
            return torch.where(found, choice, random)
        num_close = min(self.hard_rank + 1, num - 1)
        others = distance.masked_fill(torch.eye(num, dtype=torch.bool, device=device), torch.inf)
        closest = others.topk(num_close, largest=False).indices
        pick = torch.randint(num_close, (num, 1), device=device)
        hard = torch.rand(num, device=device) < self.hard_prob
        return torch.where(hard, closest.gather(1, pick)[:, 0], random)


@LOSSES.register("contrastive")
class Contrastive(MetricLoss):
    """d^2 / 2 for same-speaker pairs, relu(margin - d)^2 / 2 for different-speaker pairs, d between unit vectors.

    All pairs of the batch are used; the mean over same-speaker pairs and the mean over different-speaker pairs have
    equal weight. Accuracy: share of utterances whose nearest neighbour has the same speaker.

    Source: Hadsell et al., "Dimensionality reduction by learning an invariant mapping", 2006, eq. 4.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2, margin: float = 1.0):
        super().__init__(embedding_dim, num_speakers, utts_per_speaker)
        self.margin = float(margin)

    def compare(self, x: Tensor) -> LossAndStats:
        _, label, distance = unit_vectors(x)
        num, num_utts = len(label), x.shape[1]
        same = label[:, None] == label  # an utterance's distance to itself adds 0
        near = (distance.square() * same).sum() / (num * (num_utts - 1))
        far = (F.relu(self.margin - distance).square() * ~same).sum() / (num * (num - num_utts))
        return (near + far) / 4, {"acc": nearest_neighbour_accuracy(distance, label)}


@LOSSES.register("siamese")
class Siamese(MetricLoss):
    """Binary cross-entropy of a linear layer over |e1 - e2|: are two utterances of different speakers (1) or not (0)?

    Same-speaker pairs are an utterance and its speaker's next one. For each there is a different-speaker pair, with the
    next utterance of a random other speaker. Accuracy: share of pairs on the right side of logit 0.

    `logit(e1, e2)` scores trials with the trained layer. Its initial value, the mean absolute difference minus 1, is
    our choice.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, utts_per_speaker: int = 2):
        super().__init__(embedding_dim, num_speakers, utts_per_speaker)
        self.linear = nn.Linear(embedding_dim, 1)
        nn.init.constant_(self.linear.weight, 1 / embedding_dim)
        nn.init.constant_(self.linear.bias, -1)

    def logit(self, left: Tensor, right: Tensor) -> Tensor:
        """(..., D) twice -> (...), higher for different speakers; symmetric."""
        return self.linear((left - right).abs()).squeeze(-1)

    def compare(self, x: Tensor) -> LossAndStats:
        left, right = x[:, :-1], x[:, 1:]  # (P, K - 1, D)
        other = other_speakers(len(x), left[..., 0])
        different = right[other, torch.arange(right.shape[1], device=x.device)]
        logits = torch.stack([self.logit(left, right), self.logit(left, different)])
        target = torch.zeros_like(logits)
        target[1] = 1
        loss = F.binary_cross_entropy_with_logits(logits, target)
        return loss, {"acc": ((logits > 0) == target.bool()).float().mean()}
