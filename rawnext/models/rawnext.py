# SPDX-License-Identifier: Apache-2.0
"""RawNeXt, ResNeXt and the systems between them (rows 1-7 of the paper's Table 4).

Source: Kim, Shim, Heo, Yu, "RawNeXt: speaker verification system for variable-duration utterances with deep
layer aggregation and extended dynamic scaling policies", ICASSP 2022. Where paper and released code differ,
docs/reference/systems/rawnext.md states which one this follows.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.block import Block, Gate
from rawnext.models.features import pre_emphasis
from rawnext.models.layers import conv1d, norm_relu, pointwise
from rawnext.models.masking import max_pool, zero_tail
from rawnext.models.pooling import AttentiveStatsPooling


class Root(nn.Module):
    """Fuses feature maps: concatenation, 1x1, BatchNorm, ReLU."""

    then_norm: ClassVar = {"conv": "bn"}

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return norm_relu(self.bn, pointwise(self.conv, torch.cat(list(maps), dim=-1)))


class Tree(nn.Module):
    """Deep layer aggregation of 2^depth blocks: a root fuses the outputs of both halves and the `extra` maps.

    Args:
        depth: 1 or more.   extra: channels of the maps that the root gets in addition to the two halves.
        options: Block's.
    Source: Yu et al., "Deep layer aggregation", CVPR 2018.
    """

    def __init__(self, depth: int, inputs: int, outputs: int, extra: int, **options):
        super().__init__()
        if depth == 1:
            self.tree1: nn.Module = Block(inputs, outputs, **options)
            self.tree2: nn.Module = Block(outputs, outputs, **options)
            self.root: nn.Module | None = Root(2 * outputs + extra, outputs)
        else:
            self.tree1 = Tree(depth - 1, inputs, outputs, 0, **options)
            self.tree2 = Tree(depth - 1, outputs, outputs, extra + outputs, **options)
            self.root = None

    def forward(self, x: Tensor, lengths: Tensor | None, extra: Sequence[Tensor] = ()) -> Tensor:
        first = self.tree1(x, lengths)
        if self.root is None:
            return self.tree2(first, lengths, [*extra, first])
        return self.root([self.tree2(first, lengths), first, *extra])


class Chain(nn.ModuleList):
    """Blocks in sequence; `extra` maps are ignored."""

    def forward(self, x: Tensor, lengths: Tensor | None, extra: Sequence[Tensor] = ()) -> Tensor:
        for block in self:
            x = block(x, lengths)
        return x


class Stem(nn.ModuleList):
    """`num` times: convolution of kernel 3, BatchNorm, ReLU."""

    def __init__(self, channels: int, num: int):
        super().__init__()
        for _ in range(num):
            self.extend([nn.Conv1d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm1d(channels), nn.ReLU()])
        self.then_norm = {str(i): str(i + 1) for i in range(0, len(self), 3)}

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        for i in range(0, len(self), 3):
            x = norm_relu(self[i + 1], conv1d(self[i], zero_tail(x, lengths)))
        return x


@MODELS.register("rawnext")
class RawNeXt(SpeakerModel):
    """Raw waveform of any length -> speaker embedding.

    Args:
        channels: width of the two stem levels (equal) and of the four stages.
        blocks: number of blocks in each of the four stages; with dla, powers of 2 from 2.
        stem: number of convolutions in each of the two stem levels.
        cardinality: groups of the kernel-3 convolutions; divides every stage's width.
        dla, elastic, up, gate: the four steps of Table 4; up and gate need elastic. With none it is ResNeXt.
        official_gate: the released code's gate in place of the paper's eq. 3.
        embedding_norm: in training, embeddings are scaled to this length for the losses; 0: not scaled.
        quiet_init: start with blocks that pass their input on, and with gates and pooling that weight all alike.
            Training then converges several times faster on little data or time (docs/reference/systems/rawnext.md).
        fast: composed blocks; False is the readable reference form of the same function.
    Raises: ValueError: options that do not go together.
    """

    least_samples = 3**7  # shorter signals leave no frame after the last max-pool
    then_norm: ClassVar = {"base_layer.0": "base_layer.1"}

    def __init__(self, channels: Sequence[int] = (128, 128, 256, 256, 512, 512), blocks: Sequence[int] = (2, 4, 4, 2),
                 stem: Sequence[int] = (1, 1), embedding_dim: int = 512, cardinality: int = 32, dla: bool = True,
                 elastic: bool = True, up: bool = True, gate: bool = True, official_gate: bool = False,
                 embedding_norm: float = 9.0, quiet_init: bool = False, fast: bool = True):
        super().__init__()
        check_options(channels, blocks, stem, cardinality, dla, elastic, up, gate)
        self.embedding_dim, self.embedding_norm = embedding_dim, embedding_norm
        options: dict[str, Any] = dict(cardinality=cardinality, elastic=elastic, up=up, gate=gate,
                                       official_gate=official_gate, fast=fast)
        self.base_layer = nn.Sequential(nn.Conv1d(1, channels[0], 3, stride=3, bias=False),
                                        nn.BatchNorm1d(channels[0]), nn.ReLU())
        self.level0, self.level1 = Stem(channels[0], stem[0]), Stem(channels[1], stem[1])
        for i, num in enumerate(blocks):
            inputs, outputs = channels[i + 1], channels[i + 2]
            if dla:
                stage: nn.Module = Tree(num.bit_length() - 1, inputs, outputs, inputs if i else 0, **options)
            else:
                stage = Chain(Block(outputs if b else inputs, outputs, **options) for b in range(num))
            setattr(self, f"level{i + 2}", stage)
        self.pooling = AttentiveStatsPooling(channels[-1], channels[-1] // 8)
        self.bn_agg = nn.BatchNorm1d(2 * channels[-1])
        self.fc = nn.Linear(2 * channels[-1], embedding_dim)
        self.bn_code = nn.BatchNorm1d(embedding_dim)
        self.apply(init_weights)
        if quiet_init:
            apply_quiet_init(self)

    def preprocess(self, wave: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return pre_emphasis(wave, lengths)

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = norm_relu(self.base_layer[1], conv1d(self.base_layer[0], x.unsqueeze(-1)))  # (B, T / 3, C)
        lengths = None if lengths is None else lengths // 3
        for stem in (self.level0, self.level1):
            x, lengths = max_pool(stem(x, lengths), lengths, 3)
        for i in range(4):
            stage = self.get_submodule(f"level{i + 2}")
            x, lengths = max_pool(stage(x, lengths, [x] if i else []), lengths, 3)
        e = self.bn_code(self.fc(self.bn_agg(self.pooling(x, lengths))))
        return self.embedding_norm * F.normalize(e, eps=0) if self.training and self.embedding_norm else e


def check_options(channels, blocks, stem, cardinality, dla, elastic, up, gate) -> None:
    if len(channels) != 6 or len(blocks) != 4 or len(stem) != 2:
        raise ValueError("rawnext needs 6 channels, 4 blocks and 2 stem numbers")
    if channels[0] != channels[1]:
        raise ValueError(f"rawnext's first two channels must be equal, got {channels[0]} and {channels[1]}")
    if any(c % cardinality for c in channels[2:]):
        raise ValueError(f"cardinality {cardinality} must divide the stages' channels {list(channels[2:])}")
    if dla and any(b < 2 or b & (b - 1) for b in blocks):
        raise ValueError(f"with dla each stage must have 2, 4, 8... blocks, got {list(blocks)}")
    if (up or gate) and not elastic:
        raise ValueError("up and gate need elastic")


def init_weights(module: nn.Module) -> None:
    """The initialisation that the released code ends up with: it overwrites the constructor's."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.constant_(module.bias, 1e-4)
    elif isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
        nn.init.kaiming_normal_(module.weight, a=0.01)


def apply_quiet_init(model: nn.Module) -> None:
    """Zero the gain of each block's residual (bn3), and the last layer of each gate and of the pooling's attention."""
    for module in model.modules():
        if isinstance(module, Block):
            nn.init.zeros_(module.bn3.weight)
        if isinstance(module, Gate | AttentiveStatsPooling):
            last = next(layer for layer in reversed(module.attention) if isinstance(layer, nn.Conv1d))
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)


@MODELS.register("resnext")
def resnext(channels: Sequence[int] = (128, 128, 256, 256, 512, 512), blocks: Sequence[int] = (2, 4, 4, 2),
            stem: Sequence[int] = (1, 1), embedding_dim: int = 512, cardinality: int = 32,
            embedding_norm: float = 9.0, quiet_init: bool = False, fast: bool = True) -> RawNeXt:
    """The paper's baseline: RawNeXt without its four steps. The released launch scripts build blocks (1, 2, 2, 1)."""
    return RawNeXt(channels, blocks, stem, embedding_dim, cardinality, dla=False, elastic=False, up=False, gate=False,
                   embedding_norm=embedding_norm, quiet_init=quiet_init, fast=fast)
