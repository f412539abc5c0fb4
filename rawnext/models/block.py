# SPDX-License-Identifier: Apache-2.0
"""RawNeXt's block: branches at three resolutions and the gate that weights them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models.layers import conv1d, norm, norm_relu, pointwise, upsample
from rawnext.models.masking import mean_pool, mean_pool_ceil, time_mean, zero_tail


class Branch(nn.Module):
    """The branch at the original resolution: 1x1, grouped 3, 1x1, with BatchNorm and ReLU after the first two."""

    then_norm: ClassVar = {"conv1": "bn1", "conv2": "bn2"}  # see rawnext/models/folded.py

    def __init__(self, inputs: int, width: int, outputs: int, groups: int):
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.conv3 = nn.Conv1d(width, outputs, 1, bias=False)

    def hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """All layers before conv3: (B, L, inputs) -> (B, L, width)."""
        return self.after_conv1(pointwise(self.conv1, x), lengths)

    def after_conv1(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The layers between conv1 and conv3: (B, L, width) -> (B, L, width)."""
        return norm_relu(self.bn2, conv1d(self.conv2, zero_tail(norm_relu(self.bn1, x), lengths)))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, L, inputs) -> (B, L, outputs)."""
        return pointwise(self.conv3, self.hidden(x, lengths))


class ResampledBranch(Branch, ABC):
    """A branch at another resolution, whose transposed convolution composes with the adjacent 1x1 to one linear map."""

    matrix: Tensor
    bias: Tensor

    @abstractmethod
    def compose(self) -> tuple[Tensor, Tensor]:
        """Matrix and bias of the composed map."""

    def composed(self) -> tuple[Tensor, Tensor]:
        """The cached result of `compose`, or a new one."""
        return (self.matrix, self.bias) if hasattr(self, "matrix") else self.compose()

    def cache_composed(self) -> None:
        """Compose once, for inference; later changes of the weights have no effect."""
        for name, tensor in zip(("matrix", "bias"), self.compose()):
            self.register_buffer(name, tensor.detach(), persistent=False)


class HighBranch(ResampledBranch):
    """The branch at three times the resolution: transposed convolution, branch, mean of every three frames."""

    def __init__(self, inputs: int, width: int, outputs: int, groups: int):
        super().__init__(inputs, width, outputs, groups)
        self.transposed = nn.ConvTranspose1d(inputs, inputs, 3, stride=3)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        lengths = None if lengths is None else 3 * lengths
        return mean_pool(super().forward(upsample(self.transposed, x), lengths), 3)

    def compose(self) -> tuple[Tensor, Tensor]:
        """conv1 after the transposed convolution: (3 width, inputs), (3 width,)."""
        conv1, transposed = self.conv1.weight.squeeze(-1), self.transposed
        assert transposed.bias is not None
        bias = F.linear(transposed.bias, conv1, self.conv1.bias)
        return torch.einsum("wj,ijk->kwi", conv1, transposed.weight).flatten(0, 1), bias.repeat(3)

    def composed_hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """All layers but conv3, which may follow the mean: (B, L, inputs) -> (B, L, width)."""
        y = F.linear(x, *self.composed()).reshape(x.shape[0], -1, self.conv1.out_channels)  # (B, 3 L, width)
        return mean_pool(self.after_conv1(y, None if lengths is None else 3 * lengths), 3)


class LowBranch(ResampledBranch):
    """The branch at a third of the resolution: mean of every three frames, branch, transposed convolution."""

    def __init__(self, inputs: int, width: int, outputs: int, groups: int):
        super().__init__(inputs, width, outputs, groups)
        self.transposed = nn.ConvTranspose1d(outputs, outputs, 3, stride=3)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        return upsample(self.transposed, super().forward(*mean_pool_ceil(x, lengths, 3)))[:, : x.shape[1]]

    def compose(self) -> tuple[Tensor, Tensor]:
        """The transposed convolution after conv3: (3, outputs, width), (outputs,)."""
        assert self.transposed.bias is not None
        weight = torch.einsum("ow,ojk->kjw", self.conv3.weight.squeeze(-1), self.transposed.weight)
        return weight, self.transposed.bias

    def composed_mean(self, hidden: Tensor, num_frames: int, lengths: Tensor | None) -> Tensor:
        """Mean over time of the branch's output, computed from `hidden`: (B, J, width) -> (B, outputs)."""
        (matrix, bias), device = self.composed(), hidden.device
        num = torch.full((len(hidden),), num_frames, device=device) if lengths is None else lengths
        frame = torch.arange(hidden.shape[1] * 3, device=device).view(1, -1, 3)
        inside = (frame < num[:, None, None]).to(hidden.dtype)  # (B, J, 3): taps that fall inside the utterance
        sums = torch.bmm(inside.transpose(1, 2), hidden)  # (B, 3, width)
        return torch.einsum("kjw,bkw->bj", matrix, sums) / num[:, None] + bias

    def composed_output(self, hidden: Tensor, num_frames: int, scale: Tensor | None = None) -> Tensor:
        """The branch's output, times scale (B, outputs) if given: (B, J, width) -> (B, L, outputs)."""
        matrix, bias = self.composed()
        if scale is None:
            y = F.linear(hidden, matrix.flatten(0, 1), bias.repeat(3))
        else:
            matrix = (scale[:, None, :, None] * matrix).flatten(1, 2)  # (B, 3 outputs, width)
            y = torch.baddbmm((scale * bias).repeat(1, 3).unsqueeze(1), hidden, matrix.transpose(1, 2))
        return y.reshape(hidden.shape[0], -1, bias.shape[0])[:, :num_frames]


class Gate(nn.Module):
    """Weights of the branches for each channel, from the branches' means over time (the paper's eq. 3).

    Args:
        channels: O.   branches: n, 2 or 3.
        official: mix the means as the released code does. It reshapes (n O) to (O, n) where the paper stacks n
            vectors, so that most channels see means of other channels.
        hidden: width between the two layers; by default O // n.
    """

    def __init__(self, channels: int, branches: int, official: bool, hidden: int = 0):
        super().__init__()
        self.official = official
        hidden = hidden or channels // branches
        self.attention = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.ReLU(), nn.BatchNorm1d(hidden),
                                       nn.Conv1d(hidden, channels, 1), nn.Softmax(dim=-1))

    def forward(self, means: Sequence[Tensor]) -> Tensor:
        """n times (B, O) -> (B, O, n), which sums to 1 over n."""
        if self.official:
            return self.attention(torch.cat(list(means), dim=1).view(means[0].shape[0], -1, len(means)))
        return self.attention(torch.stack(list(means), dim=-1))


class Block(nn.Module):
    """A ResNeXt block with branches at the original, a third of and three times the resolution.

    Args:
        inputs, outputs: I, O channels.   cardinality: groups of the whole block.
        elastic: add the low branch.   up: add the high branch.   gate: weight the branches; else they are summed.
        official_gate: see Gate.   fast: run the composed form (same function, fewer multiplications).
    """

    def __init__(self, inputs: int, outputs: int, cardinality: int, elastic: bool, up: bool, gate: bool,
                 official_gate: bool, fast: bool):
        super().__init__()
        self.fast = fast
        divisor = 2 if elastic else 1
        self.original = Branch(inputs, outputs // divisor, outputs, cardinality // divisor)
        divisor = 4 if up else 2
        self.low = LowBranch(inputs, outputs // divisor, outputs, cardinality // divisor) if elastic else None
        self.high = HighBranch(inputs, outputs // divisor, outputs, cardinality // divisor) if up else None
        self.gate = Gate(outputs, 3 if up else 2, official_gate) if gate else None
        self.bn3 = nn.BatchNorm1d(outputs)
        self.shortcut = nn.Conv1d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, L, I) -> (B, L, O)."""
        merged = self.merge_fast(x, lengths) if self.fast else self.merge_plain(x, lengths)
        skip = x if self.shortcut is None else pointwise(self.shortcut, x)
        return F.relu(norm(self.bn3, merged) + skip)

    def branches(self, x: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """Outputs of the branches, (B, L, O) each: original, low, high."""
        return [branch(x, lengths) for branch in (self.original, self.low, self.high) if branch is not None]

    def merge_plain(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The block as drawn in the paper: all branches, then the gate."""
        outputs = self.branches(x, lengths)
        if self.gate is None:
            return torch.stack(outputs).sum(0)
        weight = self.gate([time_mean(output, lengths) for output in outputs])  # (B, O, n)
        return torch.stack([weight[:, None, :, i] * output for i, output in enumerate(outputs)]).sum(0)

    def merge_fast(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The same function with adjacent linear maps composed.

        In the low branch conv3 and the transposed convolution are adjacent, in the high branch the transposed
        convolution and conv1; each pair is one matrix. The high branch's conv3 commutes with its mean, and so runs on
        a third of the frames. Means over time are taken before the last matrix, where there are fewer channels, and
        the gate's weights are multiplied into that matrix.
        """
        hidden = [self.original.hidden(x, lengths)]  # each (B, L, width)
        weights = [self.original.conv3.weight.squeeze(-1)]  # each (O, width)
        if self.high is not None:
            hidden.append(self.high.composed_hidden(x, lengths))
            weights.append(self.high.conv3.weight.squeeze(-1))
        if self.low is None:
            return F.linear(hidden[0], weights[0])
        low = self.low.hidden(*mean_pool_ceil(x, lengths, 3))  # (B, J, width)
        if self.gate is None:
            return F.linear(torch.cat(hidden, -1), torch.cat(weights, 1)) + self.low.composed_output(low, x.shape[1])
        means = [F.linear(time_mean(h, lengths), w) for h, w in zip(hidden, weights)]
        means.insert(1, self.low.composed_mean(low, x.shape[1], lengths))
        gates = self.gate(means).unbind(-1)  # (B, O) each: original, low[, high]
        matrix = torch.cat([g.unsqueeze(-1) * w for g, w in zip(gates[::2], weights)], dim=-1)  # (B, O, widths)
        out = torch.bmm(torch.cat(hidden, -1), matrix.transpose(1, 2))
        return out + self.low.composed_output(low, x.shape[1], gates[1])
