# SPDX-License-Identifier: Apache-2.0
"""RawNeXt in the paper's order of operations, with torch's layers over (B, C, T), nothing composed.

The baseline for the speed of our RawNeXt, whose modules and weights it uses.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rawnext.models.block import Branch
from rawnext.models.rawnext import RawNeXt, Tree
from rawnext.training.task import SpeakerTask


class PublishedTask(torch.nn.Module):
    """One of our tasks with its model in the published form."""

    def __init__(self, task: SpeakerTask):
        super().__init__()
        self.task = task

    def forward(self, wave: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) waveforms, T = 59,050, and (B,) speakers -> loss and accuracy."""
        value, extra = self.task.losses[0](published(self.task.model, wave), label)
        return self.task.weights[0] * value, extra["acc"]


def published(model: RawNeXt, wave: Tensor) -> Tensor:
    """(B, 59050) waveforms -> (B, D) embeddings; other lengths must be a multiple of 3^10 plus 1."""
    x = model.base_layer(model.frontend(wave)[0].unsqueeze(1))
    for stem in (model.level0, model.level1):
        for layer in stem:
            x = layer(x)
        x = F.max_pool1d(x, 3)
    for i in range(4):
        x = F.max_pool1d(tree(model.get_submodule(f"level{i + 2}"), x, [x] if i else []), 3)
    weight = model.pooling.attention(x).softmax(-1)
    mean = (weight * x).sum(-1)
    deviation = ((weight * x.square()).sum(-1) - mean.square()).clamp(min=model.pooling.least).sqrt()
    e = model.bn_code(model.fc(model.bn_agg(torch.cat([mean, deviation], dim=1))))
    return model.embedding_norm * F.normalize(e, eps=0) if model.training and model.embedding_norm else e


def tree(node: Any, x: Tensor, extra: Sequence[Tensor]) -> Tensor:
    if not isinstance(node, Tree):  # a chain: a model without aggregation
        for part in node:
            x = block(part, x)
        return x
    if node.root is None:
        first = tree(node.tree1, x, [])
        return tree(node.tree2, first, [*extra, first])
    first = block(node.tree1, x)
    maps = torch.cat([block(node.tree2, first), first, *extra], dim=1)
    root: Any = node.root
    return F.relu(root.bn(root.conv(maps)))


def block(node: Any, x: Tensor) -> Tensor:
    ends = [branch(node.original, x)]
    if node.low is not None:
        ends.append(node.low.transposed(branch(node.low, F.avg_pool1d(x, 3))))
    if node.high is not None:
        ends.append(F.avg_pool1d(branch(node.high, node.high.transposed(x)), 3))
    if node.gate is not None:
        weight = node.gate([end.mean(-1) for end in ends])  # (B, O, n)
        ends = [weight[:, :, i : i + 1] * end for i, end in enumerate(ends)]
    skip = x if node.shortcut is None else node.shortcut(x)
    return F.relu(node.bn3(torch.stack(ends).sum(0)) + skip)


def branch(node: Branch, x: Tensor) -> Tensor:
    x = F.relu(node.bn1(node.conv1(x)))
    return node.conv3(F.relu(node.bn2(node.conv2(x))))
