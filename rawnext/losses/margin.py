# SPDX-License-Identifier: Apache-2.0
"""Classification losses: softmax, focal, and softmaxes with a margin: additive (AM), additive angular (AAM), A-softmax.

The share of its margin that a loss has (`margin_share`) is a plain number that may be changed between steps.
"""

import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.losses import LOSSES
from rawnext.losses.base import Loss, LossAndStats, cross_entropy


@LOSSES.register("softmax")
class Softmax(Loss):
    """Cross-entropy of a linear layer with bias."""

    def __init__(self, embedding_dim: int, num_speakers: int):
        super().__init__()
        self.linear = nn.Linear(embedding_dim, num_speakers)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.constant_(self.linear.bias, 1e-4)

    def compute(self, embedding: Tensor, label: Tensor) -> LossAndStats:
        return cross_entropy(self.linear(embedding), label)


@LOSSES.register("focal")
class Focal(Softmax):
    """Cross-entropy of a linear layer in which utterances count the less the surer they are: -(1 - p)^gamma log p.

    Args:
        gamma: 0 is plain softmax.
    Source: Lin et al., "Focal loss for dense object detection", 2017, eq. 4, with all speakers as classes.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, gamma: float = 2.0):
        super().__init__(embedding_dim, num_speakers)
        if not gamma >= 0:
            raise ValueError(f"gamma must be 0 or more, got {gamma}")
        self.gamma = float(gamma)

    def compute(self, embedding: Tensor, label: Tensor) -> LossAndStats:
        logits = self.linear(embedding)
        log_p = -F.cross_entropy(logits, label, reduction="none")
        # the floor keeps the gradient finite where p is 1 and gamma below 1
        doubt = (-torch.expm1(log_p)).clamp(min=1e-12)
        return -(doubt**self.gamma * log_p).mean(), cross_entropy(logits, label)[1]


class CosineHead(Loss):
    """Cross-entropy over cosines to the speakers' weight vectors, the target's made worse by a margin.

    Accuracy is that of the cosines without margin.

    Args:
        subcenters: weight vectors of each speaker, of which the nearest counts.
    Source of the sub-centres: Deng et al., "Sub-center ArcFace", 2020.
    """

    margin_share = 1.0  # how much of its margin the loss has, 0...1

    def __init__(self, embedding_dim: int, num_speakers: int, subcenters: int = 1):
        super().__init__()
        if subcenters < 1:
            raise ValueError(f"subcenters must be 1 or more, got {subcenters}")
        self.subcenters = subcenters
        self.weight = nn.Parameter(torch.empty(num_speakers * subcenters, embedding_dim))  # a speaker's in a row
        nn.init.xavier_normal_(self.weight)

    def compute(self, embedding: Tensor, label: Tensor) -> LossAndStats:
        cosine = F.linear(F.normalize(embedding), F.normalize(self.weight))
        cosine = cosine.unflatten(1, (-1, self.subcenters)).amax(dim=2)  # (B, S)
        return cross_entropy(self.logits(embedding, cosine, label[:, None]), label, scores=cosine)

    @abstractmethod
    def logits(self, embedding: Tensor, cosine: Tensor, target: Tensor) -> Tensor:
        """Embeddings (B, D), cosines (B, S) and each one's speaker (B, 1) -> logits (B, S)."""


class CosineMargin(CosineHead):
    """`scale * cos`, with a margin for the target and, if asked, one for the speakers that are taken for it.

    Args:
        topk: how many of the other speakers, those nearest to the utterance, count as nearer by `topk_margin`; 0: none.
    Source of topk: Zhao et al., "Multi-query multi-head attention pooling and inter-topK penalty for speaker
        verification", 2022.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, margin: float, scale: float, subcenters: int, topk: int,
                 topk_margin: float):
        super().__init__(embedding_dim, num_speakers, subcenters)
        if topk < 0:
            raise ValueError(f"topk must be 0 or more, got {topk}")
        self.margin, self.scale = float(margin), float(scale)
        self.topk, self.topk_margin = min(topk, num_speakers - 1), float(topk_margin)

    def logits(self, embedding: Tensor, cosine: Tensor, target: Tensor) -> Tensor:
        result = cosine
        if self.topk:
            rivals = cosine.detach().scatter(1, target, -torch.inf).topk(self.topk).indices
            nearer = self.shift(cosine.gather(1, rivals), -self.margin_share * self.topk_margin)
            result = result.scatter(1, rivals, nearer)
        own = self.penalise(cosine.gather(1, target), self.margin_share * self.margin)
        return self.scale * result.scatter(1, target, own)

    @abstractmethod
    def shift(self, cosine: Tensor, margin: float) -> Tensor:
        """Cosines made worse by a margin, or better by a negative one."""

    def penalise(self, cosine: Tensor, margin: float) -> Tensor:
        """(B, 1) cosines to the own speaker -> what stands in their place."""
        return self.shift(cosine, margin)


@LOSSES.register("am")
class AM(CosineMargin):
    """Additive margin softmax: cos - m.

    Source: Wang et al., "Additive margin softmax for face verification", 2018.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, margin: float = 0.3, scale: float = 30.0,
                 subcenters: int = 1, topk: int = 0, topk_margin: float = 0.06):
        super().__init__(embedding_dim, num_speakers, margin, scale, subcenters, topk, topk_margin)

    def shift(self, cosine: Tensor, margin: float) -> Tensor:
        return cosine - margin


@LOSSES.register("aam")
class AAM(CosineMargin):
    """Additive angular margin softmax: cos(angle + m).

    Where angle + m would pass pi the target falls on as the straight line cos - m sin(m); with `easy_margin` only
    angles below pi/2 get a margin.
    Source: Deng et al., "ArcFace", 2019, eq. 3.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, margin: float = 0.25, scale: float = 32.0,
                 easy_margin: bool = False, subcenters: int = 1, topk: int = 0, topk_margin: float = 0.06):
        super().__init__(embedding_dim, num_speakers, margin, scale, subcenters, topk, topk_margin)
        self.easy_margin = easy_margin

    def shift(self, cosine: Tensor, margin: float) -> Tensor:
        # the floor keeps the gradient of the root finite where the angle is 0
        sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
        return cosine * math.cos(margin) - sine * math.sin(margin)

    def penalise(self, cosine: Tensor, margin: float) -> Tensor:
        shifted = self.shift(cosine, margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        past_pi = cosine - margin * math.sin(math.pi - margin)
        return torch.where(cosine > math.cos(math.pi - margin), shifted, past_pi)


@LOSSES.register("a_softmax")
class ASoftmax(CosineHead):
    """A-softmax: |x| cos for the others; for the target |x| (lambda cos + psi) / (1 + lambda).

    psi = (-1)^k cos(m angle) - 2k for angles in [k pi/m, (k + 1) pi/m], which falls from 1 to 1 - 2m. Its weight
    1 / (1 + lambda) is the margin that warm-up grows from 0: lambda comes from infinity down to `last_lambda`.

    Args:
        multiple: m, a whole number from 1.
        last_lambda: lambda at full margin; 0: psi alone.
    Source: Liu et al., "SphereFace", 2017, eq. 7; the mixture with lambda down to 5 from its released code.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, multiple: int = 4, last_lambda: float = 5.0):
        super().__init__(embedding_dim, num_speakers)
        if multiple < 1 or multiple != int(multiple):
            raise ValueError(f"multiple must be a whole number from 1, got {multiple}")
        if not last_lambda >= 0:
            raise ValueError(f"last_lambda must be 0 or more, got {last_lambda}")
        self.multiple, self.last_lambda = int(multiple), float(last_lambda)

    def logits(self, embedding: Tensor, cosine: Tensor, target: Tensor) -> Tensor:
        own = cosine.gather(1, target)
        weight = self.margin_share / (1 + self.last_lambda)
        mixed = own + weight * (self.psi(own) - own)
        return embedding.norm(dim=1, keepdim=True) * cosine.scatter(1, target, mixed)

    def psi(self, cosine: Tensor) -> Tensor:
        """Cosines of angles -> psi of the angles, same shape."""
        before, multiplied = torch.ones_like(cosine), cosine
        for _ in range(self.multiple - 1):  # cos((n + 1) a) = 2 cos(a) cos(n a) - cos((n - 1) a)
            before, multiplied = multiplied, 2 * cosine * multiplied - before
        angle = cosine.detach().clamp(-1, 1).acos()
        k = (self.multiple * angle / math.pi).floor().clamp(max=self.multiple - 1)
        return (1 - 2 * (k % 2)) * multiplied - 2 * k
