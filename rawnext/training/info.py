# SPDX-License-Identifier: Apache-2.0
"""train_info.json of an experiment: size and cost of the model, and how it was trained."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rawnext.config import Config
from rawnext.files import write_lines
from rawnext.identity import KEY
from rawnext.stamp import command, commit, hardware
from rawnext.training.checkpoint import fingerprint

COUNTED_SAMPLES = 59_050  # length of the utterance for which GMACs are counted: 3.69 s


def gmacs(model: nn.Module, samples: int = COUNTED_SAMPLES, batch: int = 64) -> float:
    """Billions of multiply-accumulates per utterance, in the convolutions and matrix products that run.

    FFTs and element-wise operations are not counted; work done once per batch is divided by `batch`. The model runs on
    torch's meta device, with shapes only.
    """
    shapes = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(torch.empty(batch, samples, device="meta"))
    return counter.get_total_flops() / 2e9 / batch


def write_info(exp: Path, model: nn.Module, config: Config, **values: Any) -> None:
    """Write exp/train_info.json: the model's counts and fingerprint, command, commit, machine, and the given values."""
    info = {"num_params": sum(p.numel() for p in model.parameters()), "gmacs": round(gmacs(model), 4),
            KEY: fingerprint(config, model.state_dict()), "command": command(),
            "commit": commit(), "torch": torch.__version__, "hardware": hardware(), **values}
    write_lines(exp / "train_info.json", json.dumps(info, indent=1).split("\n"))
