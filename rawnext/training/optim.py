# SPDX-License-Identifier: Apache-2.0
"""The optimiser, learning-rate schedules and margin warm-up."""

import math

import torch
from torch import nn

from rawnext.config import Optim, Train


def build_optimizer(model: nn.Module, config: Optim) -> torch.optim.Optimizer:
    """Adam, AdamW, RAdam or SGD; BatchNorm and biases have weight decay only with `decay_all`."""
    trained = [p for p in model.parameters() if p.requires_grad]
    decay = [p for p in trained if p.ndim >= 2 or config.decay_all]
    no_decay = [] if config.decay_all else [p for p in trained if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    if config.name == "radam":
        return torch.optim.RAdam(groups, lr=config.lr)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, amsgrad=config.amsgrad, fused=True)  # one pass over the weights, not ten


def learning_rate(step: int, epochs_done: float, epochs: int, config: Optim) -> float:
    """Learning rate at a step (0-based): the schedule's rate times a linear warm-up.

    cosine: half a cosine from `lr` at the start of the run to `final_lr` at its end.
    cyclical: triangles between `final_lr` and `lr` over 2 * cycle_steps steps; each cycle halves their height.
    exponential: from `lr` at the start of the run to `final_lr` at its end, by the same factor at each step.
    step: `lr`, multiplied by `step_factor` every `step_epochs` epochs, not below `final_lr`.

    Args:
        epochs_done: with the fraction of the current epoch.   epochs: number in the whole run.
    """
    low, high = config.final_lr, config.lr
    if config.schedule == "cyclical":
        cycle, phase = divmod(step / config.cycle_steps, 2)
        rate = low + (high - low) * (1 - abs(phase - 1)) / 2**cycle
    elif config.schedule == "exponential":
        rate = high * (low / high) ** (epochs_done / epochs)
    elif config.schedule == "step":
        rate = max(low, high * config.step_factor ** (epochs_done // config.step_epochs))
    else:
        rate = low + (high - low) * 0.5 * (1 + math.cos(math.pi * (epochs_done / epochs)))
    return rate * min(1, (step + 1) / config.warmup_steps) if config.warmup_steps else rate


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Set an average's weights and BatchNorm statistics to decay * average + (1 - decay) * model; counts are copied."""
    pairs = list(zip([*average.parameters(), *average.buffers()], [*model.parameters(), *model.buffers()]))
    own, new = zip(*(pair for pair in pairs if pair[0].is_floating_point()))
    torch._foreach_lerp_(own, new, 1 - decay)
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)


def margin_share(epochs_done: float, config: Train) -> float:
    """Share of its margin that a margin loss applies: 0 before margin_from, 1 from margin_full, linear between."""
    if epochs_done >= config.margin_full:
        return 1.0
    if epochs_done < config.margin_from:
        return 0.0
    return (epochs_done - config.margin_from) / (config.margin_full - config.margin_from)
