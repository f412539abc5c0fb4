# SPDX-License-Identifier: Apache-2.0
"""The optimiser, and what changes from step to step: learning rate and margin."""

import math

import torch
from torch import nn

from rawnext.config import Optim, Train


def build_optimizer(model: nn.Module, config: Optim) -> torch.optim.Optimizer:
    """Adam with AMSGrad, or AdamW; weight decay for matrices and filters, none for BatchNorm and biases."""
    decay = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.Adam(groups, lr=config.lr, amsgrad=True)


def learning_rate(step: int, progress: float, config: Optim) -> float:
    """Rate at a step (0-based): a linear warm-up over the schedule's rate.

    cosine: half a cosine from `lr` at the run's beginning to `final_lr` at its end.
    cyclical: up and down between `final_lr` and `lr` in 2 * cycle_steps steps, the peak halved in each next cycle.

    Args:
        progress: share of the run that is done, 0...1.
    """
    if config.schedule == "cyclical":
        cycle, place = divmod(step / config.cycle_steps, 2)
        rate = config.final_lr + (config.lr - config.final_lr) * (1 - abs(place - 1)) / 2**cycle
    else:
        rate = config.final_lr + (config.lr - config.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    return rate * min(1, (step + 1) / config.warmup_steps) if config.warmup_steps else rate


def margin_share(epochs_done: float, config: Train) -> float:
    """How much of its margin a margin loss has: 0 until margin_from, 1 from margin_full, linear between."""
    if epochs_done >= config.margin_full:
        return 1.0
    if epochs_done < config.margin_from:
        return 0.0
    return (epochs_done - config.margin_from) / (config.margin_full - config.margin_from)
