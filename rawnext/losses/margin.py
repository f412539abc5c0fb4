# SPDX-License-Identifier: Apache-2.0
"""Classification losses: softmax, additive margin (AM) and additive angular margin (AAM) softmax.

`margin` of AM and AAM is a plain number that may be changed between steps (margin warm-up).
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


class CosineMargin(Loss):
    """Cross-entropy of `scale * cos` to one weight vector per speaker, the target's cosine made worse by a margin.

    Accuracy is that of the cosines without margin.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, margin: float, scale: float):
        super().__init__()
        self.margin, self.scale = float(margin), float(scale)
        self.weight = nn.Parameter(torch.empty(num_speakers, embedding_dim))
        nn.init.xavier_normal_(self.weight)

    def compute(self, embedding: Tensor, label: Tensor) -> LossAndStats:
        cosine = F.linear(F.normalize(embedding), F.normalize(self.weight))  # (B, S)
        target = self.penalise(cosine.gather(1, label[:, None]))
        return cross_entropy(self.scale * cosine.scatter(1, label[:, None], target), label, scores=cosine)

    @abstractmethod
    def penalise(self, cosine: Tensor) -> Tensor:
        """(B, 1) cosines to the own speaker -> what stands in their place."""


@LOSSES.register("am")
class AM(CosineMargin):
    """Additive margin softmax: cos - m.

    Source: Wang et al., "Additive margin softmax for face verification", 2018.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, margin: float = 0.3, scale: float = 30.0):
        super().__init__(embedding_dim, num_speakers, margin, scale)

    def penalise(self, cosine: Tensor) -> Tensor:
        return cosine - self.margin


@LOSSES.register("aam")
class AAM(CosineMargin):
    """Additive angular margin softmax: cos(angle + m).

    Where angle + m would pass pi the target falls on as the straight line cos - m sin(m); with `easy_margin` only
    angles below pi/2 get a margin.
    Source: Deng et al., "ArcFace", 2019, eq. 3.
    """

    def __init__(self, embedding_dim: int, num_speakers: int, margin: float = 0.25, scale: float = 32.0,
                 easy_margin: bool = False):
        super().__init__(embedding_dim, num_speakers, margin, scale)
        self.easy_margin = easy_margin

    def penalise(self, cosine: Tensor) -> Tensor:
        # the floor keeps the gradient of the root finite where the angle is 0
        sine = (1 - cosine.square()).clamp(min=1e-12).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        past_pi = cosine - self.margin * math.sin(math.pi - self.margin)
        return torch.where(cosine > math.cos(math.pi - self.margin), shifted, past_pi)
