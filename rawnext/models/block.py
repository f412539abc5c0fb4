# SPDX-License-Identifier: Apache-2.0
"""RawNeXt's block: branches at three resolutions and the gate that weighs them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models.layers import conv3, norm, norm_relu, pointwise, triple
from rawnext.models.masking import mean_of_3, mean_of_3_to_end, time_mean, zero_tail


class Branch(nn.Module):
    """The original resolution's path through a block: 1x1, grouped 3, 1x1; nothing behind the last."""

    then_norm: ClassVar = {"conv1": "bn1", "conv2": "bn2"}  # see rawnext/models/folded.py

    def __init__(self, inputs: int, width: int, outputs: int, groups: int):
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.conv3 = nn.Conv1d(width, outputs, 1, bias=False)

    def hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """conv1 and all behind it, short of conv3: (B, L, inputs) -> (B, L, width)."""
        return self.behind_conv1(pointwise(self.conv1, x), lengths)

    def behind_conv1(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return norm_relu(self.bn2, conv3(self.conv2, zero_tail(norm_relu(self.bn1, x), lengths)))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The whole path: (B, L, inputs) -> (B, L, outputs)."""
        return pointwise(self.conv3, self.hidden(x, lengths))


class SideBranch(Branch, ABC):
    """A path at another resolution: a 1x1 and a transposed convolution of it meet with nothing between."""

    matrix: Tensor
    bias: Tensor

    @abstractmethod
    def compose(self) -> tuple[Tensor, Tensor]:
        """Matrix and bias of both as one map."""

    def composed(self) -> tuple[Tensor, Tensor]:
        """`compose`, or what it gave when it was kept."""
        return (self.matrix, self.bias) if hasattr(self, "matrix") else self.compose()

    def keep_composed(self) -> None:
        """Compose once and for all: what happens to the weights from here on changes nothing."""
        for name, tensor in zip(("matrix", "bias"), self.compose()):
            self.register_buffer(name, tensor.detach(), persistent=False)


class HighBranch(SideBranch):
    """The path at three times the resolution: transposed convolution, path, mean of each three frames."""

    def __init__(self, inputs: int, width: int, outputs: int, groups: int):
        super().__init__(inputs, width, outputs, groups)
        self.transposed = nn.ConvTranspose1d(inputs, inputs, 3, stride=3)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return mean_of_3(super().forward(triple(self.transposed, x), None if lengths is None else 3 * lengths))

    def compose(self) -> tuple[Tensor, Tensor]:
        """The transposed convolution and conv1 behind it: (3 width, inputs), (3 width,)."""
        conv1, up = self.conv1.weight.squeeze(-1), self.transposed
        assert up.bias is not None
        bias = F.linear(up.bias, conv1, self.conv1.bias)
        return torch.einsum("wj,ijk->kwi", conv1, up.weight).flatten(0, 1), bias.repeat(3)

    def composed_hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """All but conv3, which runs behind the mean: (B, L, inputs) -> (B, L, width)."""
        y = F.linear(x, *self.composed()).reshape(x.shape[0], -1, self.conv1.out_channels)  # (B, 3 L, width)
        return mean_of_3(self.behind_conv1(y, None if lengths is None else 3 * lengths))


class LowBranch(SideBranch):
    """The path at a third of the resolution: mean of each three frames, path, transposed convolution."""

    def __init__(self, inputs: int, width: int, outputs: int, groups: int):
        super().__init__(inputs, width, outputs, groups)
        self.transposed = nn.ConvTranspose1d(outputs, outputs, 3, stride=3)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return triple(self.transposed, super().forward(*mean_of_3_to_end(x, lengths)))[:, : x.shape[1]]

    def compose(self) -> tuple[Tensor, Tensor]:
        """conv3 and the transposed convolution behind it: (3, outputs, width), (outputs,)."""
        assert self.transposed.bias is not None
        weight = torch.einsum("ow,ojk->kjw", self.conv3.weight.squeeze(-1), self.transposed.weight)
        return weight, self.transposed.bias

    def composed_mean(self, hidden: Tensor, num_frames: int, lengths: Tensor | None) -> Tensor:
        """Mean over time of what the branch will give: (B, J, width) -> (B, outputs)."""
        (matrix, bias), device = self.composed(), hidden.device
        n = torch.full((len(hidden),), num_frames, device=device) if lengths is None else lengths
        frame = torch.arange(hidden.shape[1] * 3, device=device).view(1, -1, 3)
        inside = (frame < n[:, None, None]).to(hidden.dtype)  # (B, J, 3): taps that fall inside the utterance
        sums = torch.bmm(inside.transpose(1, 2), hidden)  # (B, 3, width)
        return torch.einsum("kjw,bkw->bj", matrix, sums) / n[:, None] + bias

    def composed_end(self, hidden: Tensor, num_frames: int, scale: Tensor | None = None) -> Tensor:
        """What the branch gives, times scale (B, outputs) if there is one: (B, J, width) -> (B, L, outputs)."""
        matrix, bias = self.composed()
        if scale is None:
            y = F.linear(hidden, matrix.flatten(0, 1), bias.repeat(3))
        else:
            matrix = (scale[:, None, :, None] * matrix).flatten(1, 2)  # (B, 3 outputs, width)
            y = torch.baddbmm((scale * bias).repeat(1, 3).unsqueeze(1), hidden, matrix.transpose(1, 2))
        return y.reshape(hidden.shape[0], -1, bias.shape[0])[:, :num_frames]


class Gate(nn.Module):
    """Weights of the branches, for each channel, from what the branches are on average (the paper's eq. 3).

    Args:
        channels: O.   branches: n, 2 or 3.
        official: mix the averages as the released code does: it reshapes (n O) to (O, n) where the paper stacks n
            vectors, so that most channels see averages of other channels.
    """

    def __init__(self, channels: int, branches: int, official: bool):
        super().__init__()
        self.official = official
        hidden = channels // branches
        self.attention = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.ReLU(), nn.BatchNorm1d(hidden),
                                       nn.Conv1d(hidden, channels, 1), nn.Softmax(dim=-1))

    def forward(self, means: Sequence[Tensor]) -> Tensor:
        """n times (B, O) -> (B, O, n), adding up to 1 over n."""
        if self.official:
            return self.attention(torch.cat(list(means), dim=1).view(means[0].shape[0], -1, len(means)))
        return self.attention(torch.stack(list(means), dim=-1))


class Block(nn.Module):
    """A ResNeXt block whose branches see the signal at its own, a third of and three times its resolution.

    Args:
        inputs, outputs: I, O channels.   cardinality: groups of the whole block.
        elastic, up, gate: has the low path; the high path; the gate in place of a plain sum.
        official_gate: see Gate.   fast: run the composed form (same function, fewer multiplications).
    """

    def __init__(self, inputs: int, outputs: int, cardinality: int, elastic: bool, up: bool, gate: bool,
                 official_gate: bool, fast: bool):
        super().__init__()
        self.fast = fast
        half = 2 if elastic else 1
        self.original = Branch(inputs, outputs // half, outputs, cardinality // half)
        side = 4 if up else 2
        self.low = LowBranch(inputs, outputs // side, outputs, cardinality // side) if elastic else None
        self.high = HighBranch(inputs, outputs // side, outputs, cardinality // side) if up else None
        self.gate = Gate(outputs, 3 if up else 2, official_gate) if gate else None
        self.bn3 = nn.BatchNorm1d(outputs)
        self.shortcut = nn.Conv1d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, L, I) -> (B, L, O)."""
        merged = self.merge_fast(x, lengths) if self.fast else self.merge_plain(x, lengths)
        skip = x if self.shortcut is None else pointwise(self.shortcut, x)
        return F.relu(norm(self.bn3, merged) + skip)

    def branches(self, x: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """What each branch brings to the gate, (B, L, O) each: original, low, high."""
        return [branch(x, lengths) for branch in (self.original, self.low, self.high) if branch is not None]

    def merge_plain(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The block as the paper draws it: every branch to its end, then the gate."""
        ends = self.branches(x, lengths)
        if self.gate is None:
            return torch.stack(ends).sum(0)
        weight = self.gate([time_mean(end, lengths) for end in ends])  # (B, O, n)
        return torch.stack([weight[:, None, :, i] * end for i, end in enumerate(ends)]).sum(0)

    def merge_fast(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The same with neighbouring linear maps composed.

        In the low path conv3 meets the transposed convolution and in the high path the transposed convolution meets
        conv1 with nothing between, so one matrix does for both; the high path's conv3 commutes with its average, and
        so runs on a third of the frames. Means over time are taken before the last matrix, where there is less to
        add, and the gate's weights go into that matrix.
        """
        hidden = [self.original.hidden(x, lengths)]  # each (B, L, width)
        weights = [self.original.conv3.weight.squeeze(-1)]  # each (O, width)
        if self.high is not None:
            hidden.append(self.high.composed_hidden(x, lengths))
            weights.append(self.high.conv3.weight.squeeze(-1))
        if self.low is None:
            return F.linear(hidden[0], weights[0])
        low = self.low.hidden(*mean_of_3_to_end(x, lengths))  # (B, J, width)
        if self.gate is None:
            return F.linear(torch.cat(hidden, -1), torch.cat(weights, 1)) + self.low.composed_end(low, x.shape[1])
        means = [F.linear(time_mean(h, lengths), w) for h, w in zip(hidden, weights)]
        means.insert(1, self.low.composed_mean(low, x.shape[1], lengths))
        gates = self.gate(means).unbind(-1)  # (B, O) each: original, low[, high]
        matrix = torch.cat([g.unsqueeze(-1) * w for g, w in zip(gates[::2], weights)], dim=-1)  # (B, O, widths)
        out = torch.bmm(torch.cat(hidden, -1), matrix.transpose(1, 2))
        return out + self.low.composed_end(low, x.shape[1], gates[1])
