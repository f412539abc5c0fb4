# SPDX-License-Identifier: Apache-2.0
"""A trained network in its form for inference: BatchNorms folded into convolutions, composed linear maps cached.

Only a module's forward knows which of its convolutions are directly followed by a BatchNorm. The module declares them
in `then_norm`, names of convolutions -> names of BatchNorms.
"""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rawnext.models.block import ResampledBranch

Model = TypeVar("Model", bound=nn.Module)


@torch.no_grad()
def folded(model: Model) -> Model:
    """A copy in evaluation mode, equal up to rounding; it must be neither trained nor saved as model.pt."""
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        submodules = dict(module.named_modules())
        for conv_name, bn_name in getattr(module, "then_norm", {}).items():
            conv, bn = submodules.get(conv_name), submodules.get(bn_name)
            if isinstance(conv, nn.Conv1d | nn.Conv2d) and isinstance(bn, nn.BatchNorm1d | nn.BatchNorm2d):
                module.set_submodule(conv_name, fuse_conv_bn_eval(conv, bn))
                module.set_submodule(bn_name, nn.Identity())
        if isinstance(module, ResampledBranch):
            module.cache_composed()
    return model
