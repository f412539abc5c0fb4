# SPDX-License-Identifier: Apache-2.0
"""What is trained: a model and its losses as one module."""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rawnext.config import Config, split_name
from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.losses import LOSSES
from rawnext.losses.base import MetricLoss
from rawnext.losses.margin import CosineHead
from rawnext.models import MODELS
from rawnext.training import checkpoint

log = logging.getLogger(__name__)


class SpeakerTask(nn.Module):
    """Model and losses: a batch in, the weighted sum of the losses out."""

    def __init__(self, config: Config, num_speakers: int):
        super().__init__()
        self.model = MODELS.build(*split_name(config.model))
        self.names, self.weights, losses = [], [], []
        for part in config.losses:
            name, options = split_name(part)
            self.names.append(name)
            self.weights.append(float(options.pop("weight", 1.0)))
            if "utts_per_speaker" in inspect.signature(LOSSES[name]).parameters:
                options.setdefault("utts_per_speaker", config.batch.utts)
            losses.append(LOSSES.build(name, options, self.model.embedding_dim, num_speakers))
        self.losses = nn.ModuleList(losses)
        # a function, not a module: its weights do not stand in the state twice, and validation, of any length, is not
        # compiled
        self.compiled = torch.compile(self.model.forward) if config.train.compiled else None

    def forward(self, wave: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) waveforms and (B,) speakers -> loss and accuracy (of the first loss), scalars."""
        embedding = (self.compiled or self.model)(wave)
        results = [loss(embedding, label) for loss in self.losses]
        total = sum(weight * value for weight, (value, _) in zip(self.weights, results))
        return total, results[0][1]["acc"]  # type: ignore[return-value]

    def set_margin(self, share: float) -> None:
        """Give the margin losses a share of their margins, 0...1."""
        for loss in self.losses:
            if isinstance(loss, CosineHead):
                loss.margin_share = share

    def heads(self) -> dict[str, dict[str, Any]]:
        """What the losses have learned, by the losses' names."""
        return {name: loss.state_dict() for name, loss in zip(self.names, self.losses)}

    def initialise(self, exp: PathLike, speakers: Sequence[str]) -> None:
        """Start from a trained experiment: its model, and its losses' weights where they mean the same here.

        Args:
            speakers: of this training, in the order of their labels.
        Raises: InputError: there is no model, or another one.
        """
        state = checkpoint.load_weights(self.model, exp)
        log.info("starting from %s: %d weights of its model", exp, num_weights(state["model"]))
        learned, then = state.get("losses", {}), state.get("speakers", [])
        for name, loss in zip(self.names, self.losses):
            if not (own := loss.state_dict()):
                continue
            head = learned.get(name)
            if head is None:
                why = f"that experiment saved none (it has: {', '.join(learned) or 'nothing'})"
            elif not isinstance(loss, MetricLoss) and list(speakers) != then:
                why = f"its {len(speakers)} speakers are not the {len(then)} of that experiment"
            elif {key: v.shape for key, v in own.items()} != {key: v.shape for key, v in head.items()}:
                why = "that experiment's has other shapes"
            else:
                loss.load_state_dict(head)
                log.info("the head of %s is kept: %d weights, %d speakers", name, num_weights(own), len(speakers))
                continue
            log.info("the head of %s is new (%d weights): %s", name, num_weights(own), why)


def num_weights(state: dict[str, Tensor]) -> int:
    return sum(v.numel() for v in state.values())


def build_task(config: Config, num_speakers: int) -> SpeakerTask:
    """The module that a configuration asks for.

    Raises: InputError: an option has a value from which no model or loss can be built.
    """
    try:
        return SpeakerTask(config, num_speakers)
    except ValueError as error:
        raise InputError("configuration", None, str(error)) from error
