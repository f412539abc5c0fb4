# SPDX-License-Identifier: Apache-2.0
"""Classification losses: softmax, focal, and with a margin additive (AM), additive angular (AAM) and A-softmax.

`margin_share`, the share of its margin that a loss applies, is a plain number that may be changed between steps.
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
    """Cross-entropy of a linear layer that weights confident predictions down: -(1 - p)^gamma log p.

    Args:
        gamma: 0 is plain softmax.
    Raises: ValueError: gamma below 0.
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
        # the floor keeps the gradient finite for p = 1 and gamma below 1
        one_minus_p = (-torch.expm1(log_p)).clamp(min=1e-12)
        return -(one_minus_p**self.gamma * log_p).mean(), cross_entropy(logits, label)[1]


class CosineHead(Loss):
    """Cross-entropy over cosines to the speakers' weight vectors, with a margin on the target's.

    Accuracy is that of the cosines without margin.

    Args:
        subcenters: number of weight vectors per speaker; the nearest counts.
    Raises: ValueError: subcenters below 1.
    Source of the sub-centres: Deng et al., "Sub-center ArcFace", 2020.
    """

    margin_share = 1.0  # 0...1

    def __init__(self, embedding_dim: int, num_speakers: int, subcenters: int = 1):
        super().__init__()
        if subcenters < 1:
            raise ValueError(f"subcenters must be 1 or more, got {subcenters}")
        self.subcenters = subcenters
        self.weight = nn.Parameter(torch.empty(num_speakers * subcenters, embedding_dim))  # speaker-major
        nn.init.xavier_normal_(self.weight)

    def compute(self, embedding: Tensor, label: Tensor) -> LossAndStats:
        cosine = F.linear(F.normalize(embedding), F.normalize(self.weight))
        cosine = cosine.unflatten(1, (-1, self.subcenters)).amax(dim=2)  # (B, S)
        return cross_entropy(self.logits(embedding, cosine, label[:, None]), label, scores=cosine)

    @abstractmethod
    def logits(self, embedding: Tensor, cosine: Tensor, target: Tensor) -> Tensor:
        """Embeddings (B, D), cosines (B, S) and speaker indices (B, 1) -> logits (B, S)."""


@LOSSES.register("am")
class AM(CosineHead):
    """Additive margin softmax: `scale * (cos - m)` for the target, `scale * cos` for the others.

    Args:
        margin: m.
        topk: number of other speakers, the nearest ones, whose cosines are increased by `topk_margin`; 0: none.
    Raises: ValueError: topk below 0.
    Source: Wang et al., "Additive margin softmax for face verification", 2018. Topk: Zhao et al., "Multi-query
        multi-head attention pooling and inter-topK penalty for speaker verification", 2022.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, margin: float = 0.3, scale: float = 30.0,
                 subcenters: int = 1, topk: int = 0, topk_margin: float = 0.06):
        super().__init__(embedding_dim, num_speakers, subcenters)
        if topk < 0:
            raise ValueError(f"topk must be 0 or more, got {topk}")
        self.margin, self.scale = float(margin), float(scale)
        self.topk, self.topk_margin = min(topk, num_speakers - 1), float(topk_margin)

    def logits(self, embedding: Tensor, cosine: Tensor, target: Tensor) -> Tensor:
        result = cosine
        if self.topk:
            nearest = cosine.detach().scatter(1, target, -torch.inf).topk(self.topk).indices
            improved = self.with_margin(cosine.gather(1, nearest), -self.margin_share * self.topk_margin)
            result = result.scatter(1, nearest, improved)
        own = self.target_with_margin(cosine.gather(1, target), self.margin_share * self.margin)
        return self.scale * result.scatter(1, target, own)

    def with_margin(self, cosine: Tensor, margin: float) -> Tensor:
        """Cosines reduced by a margin, or increased by a negative one; any shape."""
        return cosine - margin

    def target_with_margin(self, cosine: Tensor, margin: float) -> Tensor:
        """`with_margin` of the target speakers' cosines (B, 1)."""
        return self.with_margin(cosine, margin)


@LOSSES.register("aam")
class AAM(AM):
    """AM with the margins added to the angles: `scale * cos(angle + m)` for the target.

    For angles above pi - m the target's logit is cos - m sin(m), which keeps falling; with `easy_margin` only angles
    below pi/2 get a margin.
    Source: Deng et al., "ArcFace", 2019, eq. 3.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, margin: float = 0.25, scale: float = 32.0,
                 easy_margin: bool = False, subcenters: int = 1, topk: int = 0, topk_margin: float = 0.06):
        super().__init__(embedding_dim, num_speakers, margin, scale, subcenters, topk, topk_margin)
        self.easy_margin = easy_margin

    def with_margin(self, cosine: Tensor, margin: float) -> Tensor:
        # the floor keeps the root's gradient finite at angle 0
        sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
        return cosine * math.cos(margin) - sine * math.sin(margin)

    def target_with_margin(self, cosine: Tensor, margin: float) -> Tensor:
        shifted = self.with_margin(cosine, margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        past_pi = cosine - margin * math.sin(math.pi - margin)
        return torch.where(cosine > math.cos(math.pi - margin), shifted, past_pi)


@LOSSES.register("a_softmax")
class ASoftmax(CosineHead):
    """A-softmax: |x| cos for the others; for the target |x| (lambda cos + psi) / (1 + lambda).

    psi = (-1)^k cos(m angle) - 2k for angles in [k pi/m, (k + 1) pi/m], which falls from 1 to 1 - 2m. Margin warm-up
    increases its weight 1 / (1 + lambda) from 0: lambda decreases from infinity to `last_lambda`.

    Args:
        multiple: m, a whole number from 1.
        last_lambda: lambda at full margin; 0: psi alone.
    Raises: ValueError: another multiple, or last_lambda below 0.
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
        previous, multiplied = torch.ones_like(cosine), cosine
        for _ in range(self.multiple - 1):  # cos((n + 1) a) = 2 cos(a) cos(n a) - cos((n - 1) a)
            previous, multiplied = multiplied, 2 * cosine * multiplied - previous
        angle = cosine.detach().clamp(-1, 1).acos()
        k = (self.multiple * angle / math.pi).floor().clamp(max=self.multiple - 1)
        return (1 - 2 * (k % 2)) * multiplied - 2 * k
