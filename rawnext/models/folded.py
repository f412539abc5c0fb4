# SPDX-License-Identifier: Apache-2.0
"""A trained network's form for inference: what training keeps apart is multiplied out once, not in each call.

A BatchNorm that stands right behind a convolution goes into its weights; RawNeXt's compositions of neighbouring linear
maps are kept. Which convolutions have a BatchNorm behind them only a module's forward knows: the module says so by
`then_norm`, names of convolutions -> names of BatchNorms.
"""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rawnext.models.block import SideBranch

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def folded(model: Model) -> Model:
    """A copy in evaluation mode that computes the same up to rounding; not to be trained, nor saved as model.pt."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        for conv, bn in getattr(module, "then_norm", {}).items():
            fold(module, conv, bn)
    for module in model.modules():
        if isinstance(module, SideBranch):
            module.keep_composed()
    return model


def fold(module: nn.Module, conv_name: str, bn_name: str) -> None:
    """Put a submodule's BatchNorm into the convolution before it, if both are there."""
    found = dict(module.named_modules())
    conv, bn = found.get(conv_name), found.get(bn_name)
    if isinstance(conv, nn.Conv1d | nn.Conv2d) and isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d):
        module.set_submodule(conv_name, fuse_conv_bn_eval(conv, bn))
        module.set_submodule(bn_name, nn.Identity())
