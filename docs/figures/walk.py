# SPDX-License-Identifier: Apache-2.0
"""The execution of a RawNeXt, recorded: steps with their shapes, connections, parameters and multiplications.

Nothing is computed: the network runs on torch's meta device, where tensors have a shape but no values.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rawnext.models import block as block_module
from rawnext.models.block import Block
from rawnext.models.rawnext import RawNeXt, Root

STEPS = ("pointwise", "conv1d", "upsample_by_3", "mean_pool3", "mean_pool3_ceil")


@dataclass
class Step:
    """One step of a branch. what: its function.   frames, channels: of its output map.   groups: of conv1d."""

    what: str
    frames: int
    channels: int
    groups: int = 1


@dataclass
class Node:
    """A block or a root of a stage's tree. feeds: its inputs in order, as indices of earlier nodes; -1: the input."""

    kind: str
    feeds: list[int]


@dataclass
class Stage:
    """One level of the network: its shape and cost (parameters; GMACs per utterance)."""

    name: str
    frames: int
    channels: int
    parameters: int
    gmacs: float
    nodes: list[Node] = field(default_factory=list)


def on_meta(model: RawNeXt, fast: bool) -> RawNeXt:
    """A copy without values, in the composed form (fast) or in the readable one."""
    shapes = copy.deepcopy(model).to("meta").eval()
    for module in shapes.modules():
        if isinstance(module, Block):
            module.fast = fast
    return shapes


def branch_steps(model: RawNeXt, samples: int, name: str = "level2.tree1") -> dict[str, list[Step]]:
    """Steps of each branch of the block `name`, in order of execution, and `input` and `output`."""
    shapes = on_meta(model, fast=False)
    target = shapes.get_submodule(name)
    assert isinstance(target, Block)
    found: dict[str, list[Step]] = {}
    running: list[str] = []   # the current branch, while this block runs

    def note(key: str, what: str, tensor: torch.Tensor, groups: int = 1) -> None:
        found.setdefault(key, []).append(Step(what, tensor.shape[1], tensor.shape[2], groups))

    def recorder(what: str, function):
        def run(*args):
            result = function(*args)
            if running:
                first = result[0] if isinstance(result, tuple) else result
                note(running[-1], what, first, getattr(args[0], "groups", 1))
            return result
        return run

    target.register_forward_pre_hook(lambda _, args: note("input", "input", args[0]))
    target.register_forward_hook(lambda _, args, result: note("output", "output", result))
    for key in ("high", "original", "low"):
        branch = target.get_submodule(key)
        branch.register_forward_pre_hook(lambda _, args, key=key: running.append(key))
        branch.register_forward_hook(lambda *_: running.pop() and None)
    with ExitStack() as stack:
        for what in STEPS:
            stack.enter_context(mock.patch.object(block_module, what, recorder(what, getattr(block_module, what))))
        run(shapes, samples)
    return found


def run(shapes: nn.Module, samples: int, batch: int = 1) -> None:
    with torch.no_grad():
        shapes(torch.empty(batch, samples, device="meta"))


def stages(model: RawNeXt, samples: int, batch: int = 64) -> list[Stage]:
    """The levels from the first convolution to the embedding; their costs sum to those of the whole network.

    Args: batch: utterances that share the composition of matrices, as in rawnext.training.info.gmacs.
    """
    shapes = on_meta(model, fast=True)
    names = ["level0", "level1", *(f"level{i}" for i in range(2, 6))]
    with FlopCounterMode(display=False) as counter, watched(shapes, names) as (outputs, trees):
        run(shapes, samples, batch)
    counts = counter.get_flop_counts()
    gmacs = {key: sum(counts.get(f"RawNeXt.{key}", {}).values()) / 2e9 / batch for key in names}
    found = []
    for key in names:
        level = model.get_submodule(key)
        found.append(Stage(key, outputs[key].shape[1], outputs[key].shape[2], num_parameters(level), gmacs[key],
                           trees.get(key, [])))
    rest = num_parameters(model) - sum(stage.parameters for stage in found)
    total = sum(counts["Global"].values()) / 2e9 / batch
    first, own = model.base_layer[0], num_parameters(model.base_layer)
    assert isinstance(first, nn.Conv1d)
    base = found[0].frames * first.weight.numel() / 1e9   # counted in the total, but not by a module
    found.insert(0, Stage("base_layer", found[0].frames, first.out_channels, own, base))
    return [*found, Stage("embedding", 1, model.embedding_dim, rest - own, total - base - sum(gmacs.values()))]


def num_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@contextmanager
def watched(shapes: nn.Module, names: list[str]) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, list[Node]]]]:
    """The output of each level and the trees of the stages, found by following tensors during execution."""
    outputs: dict[str, torch.Tensor] = {}
    trees: dict[str, list[Node]] = {}
    seen: list[torch.Tensor] = []    # the stage's input and the nodes' results, kept alive for comparison by `is`

    def place(tensor: torch.Tensor) -> int:
        return next(i for i, other in enumerate(seen) if other is tensor) - 1

    def enter(_module, args) -> None:
        seen[:] = [args[0]]

    def node(key: str, kind: str, args, result) -> None:
        feeds = args[0] if kind == "root" else args[:1]
        trees.setdefault(key, []).append(Node(kind, [place(tensor) for tensor in feeds]))
        seen.append(result)

    for key in names:
        level = shapes.get_submodule(key)
        level.register_forward_pre_hook(enter)
        level.register_forward_hook(lambda _, args, result, key=key: outputs.update({key: result}))
        for module in level.modules():
            if isinstance(module, Block | Root):
                kind = "block" if isinstance(module, Block) else "root"
                module.register_forward_hook(
                    lambda _, args, result, key=key, kind=kind: node(key, kind, args, result))
    yield outputs, trees
