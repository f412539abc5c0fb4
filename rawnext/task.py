# SPDX-License-Identifier: Apache-2.0
"""What is trained: a model and its losses as one module."""

import inspect

from torch import Tensor, nn

from rawnext.config import Config, split_name
from rawnext.losses import LOSSES
from rawnext.losses.margin import CosineMargin
from rawnext.models import MODELS


class SpeakerTask(nn.Module):
    """Model and losses: a batch in, the weighted sum of the losses out."""

    def __init__(self, config: Config, num_speakers: int):
        super().__init__()
        self.model = MODELS.build(*split_name(config.model))
        self.weights, losses = [], []
        for part in config.losses:
            name, options = split_name(part)
            self.weights.append(float(options.pop("weight", 1.0)))
            if "utts_per_speaker" in inspect.signature(LOSSES[name]).parameters:
                options.setdefault("utts_per_speaker", config.batch.utts)
            losses.append(LOSSES.build(name, options, self.model.embedding_dim, num_speakers))
        self.losses = nn.ModuleList(losses)
        self.margins = {loss: loss.margin for loss in losses if isinstance(loss, CosineMargin)}

    def forward(self, wave: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) waveforms and (B,) speakers -> loss and accuracy (of the first loss), scalars."""
        embedding = self.model(wave)
        results = [loss(embedding, label) for loss in self.losses]
        total = sum(weight * value for weight, (value, _) in zip(self.weights, results))
        return total, results[0][1]["acc"]  # type: ignore[return-value]

    def set_margin(self, share: float) -> None:
        for loss, margin in self.margins.items():
            loss.margin = share * margin
