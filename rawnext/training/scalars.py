# SPDX-License-Identifier: Apache-2.0
"""The curves of a training, for tensorboard and, if asked for, Weights & Biases."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from rawnext.config import Config
from rawnext.errors import InputError


def check_wandb(project: str) -> None:
    """Raise InputError if a project is named and the package wandb is not installed."""
    if project and not find_spec("wandb"):
        raise InputError("train.wandb", None, "wandb is not installed: pip install 'rawnext[wandb]'")


class Scalars:
    """Writes named values at steps to exp/tensorboard, and to the project `train.wandb` if there is one.

    Each start of a training is a run of the project; those of one experiment are a group.
    Args: step: the first; what an earlier run wrote for it and later ones is replaced in tensorboard.
    Raises: InputError: W&B accepts no run, for want of a key for example.
    """

    def __init__(self, exp: Path, config: Config, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self.run = None
        if config.train.wandb:
            import wandb

            try:
                self.run = wandb.init(project=config.train.wandb, name=exp.name, group=exp.name, dir=str(exp),
                                      config=asdict(config))
            except Exception as error:  # its own and those of its network client have no common type
                raise InputError("train.wandb", None, f"W&B: {' '.join(str(error).split())}") from None
        self.writer = SummaryWriter(str(exp / "tensorboard"), purge_step=step)

    def add(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        if self.run is not None:
            self.run.log(dict(values), step=step)
