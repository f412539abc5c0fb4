# SPDX-License-Identifier: Apache-2.0
"""The trained module: a model and its losses."""

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.config import Config, split_name
from rawnext.errors import as_input_error
from rawnext.files import PathLike
from rawnext.losses import LOSSES
from rawnext.losses.base import MetricLoss
from rawnext.losses.margin import CosineHead
from rawnext.models import MODELS
from rawnext.training import checkpoint

log = logging.getLogger(__name__)


class SpeakerTask(nn.Module):
    """A model and the weighted sum of its losses.

    Args: teacher_dim: dimension of a teacher's embeddings, which a linear layer predicts; 0: no teacher.
    Raises: ValueError: the configuration has a value that no model or loss can be built with.
    """

    def __init__(self, config: Config, num_speakers: int, teacher_dim: int = 0):
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
        self.student = nn.Linear(self.model.embedding_dim, teacher_dim) if teacher_dim else None
        self.teacher_weight = config.train.teacher_weight
        # a compiled function, not a module, which would put the weights into the state dict twice; validation, with its
        # many lengths, runs uncompiled
        self.compiled = torch.compile(self.model.forward) if config.train.compiled else None

    def forward(self, wave: Tensor, label: Tensor, teacher: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T) waveforms, (B,) speaker indices, a teacher's (B, D) -> loss, accuracy of the first loss, scalars."""
        embedding = (self.compiled or self.model)(wave)
        results = [loss(embedding, label) for loss in self.losses]
        total = sum(weight * value for weight, (value, _) in zip(self.weights, results))
        if self.student is not None:
            assert teacher is not None, "the batch lacks the teacher's embeddings"
            total = total + self.teacher_weight * (1 - F.cosine_similarity(self.student(embedding), teacher)).mean()
        return total, results[0][1]["acc"]  # type: ignore[return-value]

    def set_margin(self, share: float) -> None:
        """Set the share (0...1) of their margins that the margin losses apply."""
        for loss in self.losses:
            if isinstance(loss, CosineHead):
                loss.margin_share = share

    def heads(self) -> dict[str, dict[str, Any]]:
        """The losses' state dicts, by name."""
        return {name: loss.state_dict() for name, loss in zip(self.names, self.losses)}

    def initialise(self, exp: PathLike, speakers: Sequence[str]) -> None:
        """Load the model of a trained experiment, and the weights of losses that fit: same shapes and speakers.

        The layer that predicts a teacher is loaded if the embeddings of both have the same dimensions.

        Args: speakers: those of this training, in the order of their labels.
        Raises: InputError: there is no model, or it does not fit.
        """
        state = checkpoint.load_weights(self.model, exp)
        log.info("starting from %s: %d weights of its model", exp, num_weights(state["model"]))
        old_heads, old_speakers = state.get("losses", {}), state.get("speakers", [])
        for name, loss in zip(self.names, self.losses):
            if not (own := loss.state_dict()):
                continue
            head = old_heads.get(name)
            if head is None:
                why = f"that experiment saved none (it has: {', '.join(old_heads) or 'nothing'})"
            elif not isinstance(loss, MetricLoss) and list(speakers) != old_speakers:
                why = f"its {len(speakers)} speakers are not the {len(old_speakers)} of that experiment"
            elif {key: v.shape for key, v in own.items()} != {key: v.shape for key, v in head.items()}:
                why = "that experiment's head has other shapes"
            else:
                loss.load_state_dict(head)
                log.info("the head of %s is kept: %d weights, %d speakers", name, num_weights(own), len(speakers))
                continue
            log.info("the head of %s is new (%d weights): %s", name, num_weights(own), why)
        if self.student is not None:
            own, head = self.student.state_dict(), state.get("student") or {}
            kept = {key: v.shape for key, v in own.items()} == {key: v.shape for key, v in head.items()}
            if kept:
                self.student.load_state_dict(head)
            log.info("the head for the teacher is %s: %d weights", "kept" if kept else "new", num_weights(own))


def num_weights(state: dict[str, Tensor]) -> int:
    return sum(v.numel() for v in state.values())


def build_task(config: Config, num_speakers: int, teacher_dim: int = 0) -> SpeakerTask:
    """SpeakerTask.   Raises: InputError: the configuration has a value that no model or loss can be built with."""
    with as_input_error("configuration"):
        return SpeakerTask(config, num_speakers, teacher_dim)
