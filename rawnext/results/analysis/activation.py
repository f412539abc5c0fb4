# SPDX-License-Identifier: Apache-2.0
"""Speaker activation map: where in an utterance a network with two-dimensional maps finds its speaker.

DTDY-ResNet34 was published with such maps by a modified Grad-CAM; neither its README nor its code explains how they are
made. This is a reconstruction: Grad-CAM, applied not to the logit of a class but to the cosine between the utterance's
embedding and a reference of its speaker.
Source of Grad-CAM: Selvaraju et al., ICCV 2017.
"""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rawnext.models.base import SpeakerModel
from rawnext.models.features import HOP, LogMel


def activation_map(model: SpeakerModel, wave: Tensor, reference: Tensor, time_only: bool = False) -> Tensor:
    """How much each position of the last map (C, F, L) raises the cosine with a reference.

    The map's channels are summed with their mean gradients as weights; negative values are set to zero.

    Args:
        model: in evaluation mode; see `check_map`.   wave: (T,).   reference: (D,), of any length but 0.
        time_only: gradients are averaged over frequency only, so that each frame has its own weights.
    Returns: (bands, frames) of the log-mel energies, between 0 and 1, its maximum (unless all is 0).
    """
    maps: list[Tensor] = []

    def keep(module, inputs, output: Tensor) -> Tensor:
        maps.append(output.detach().requires_grad_())
        return maps[0]

    with model.get_submodule(model.feature_map).register_forward_hook(keep), torch.enable_grad():
        gradient, = torch.autograd.grad(cosine(model, wave, reference), maps)
    weight = gradient.mean((2,) if time_only else (2, 3), keepdim=True)  # (1, C, 1, L or 1)
    activation = F.relu((weight * maps[0].detach()).sum(1, keepdim=True))
    features = log_mel(model)
    size = (features.bands, len(wave) // HOP + 1)
    activation = F.interpolate(activation, size, mode="bilinear")[0, 0]
    return activation / activation.max().clamp(min=torch.finfo(activation.dtype).tiny)


def cosine(model: SpeakerModel, wave: Tensor, reference: Tensor) -> Tensor:
    """Score, a scalar, of an utterance (T,) against a reference (D,)."""
    return F.cosine_similarity(model(wave.unsqueeze(0)), reference.unsqueeze(0))[0]


def check_map(model: SpeakerModel) -> None:
    """Raise ValueError unless a model has a two-dimensional map over log-mel energies."""
    if not model.feature_map:
        raise ValueError(f"{type(model).__name__} has no map of frequency and time to look into; a ResNet34 has")


def log_mel(model: SpeakerModel) -> LogMel:
    """The front end of a model with two-dimensional maps."""
    features = model.features
    assert isinstance(features, LogMel)
    return features


def masked_scores(model: SpeakerModel, wave: Tensor, reference: Tensor, activation: Tensor, share: float = 0.1,
                  draws: int = 20, seed: int = 0) -> tuple[float, float, float]:
    """A check of the map: cosine of all frames, without the most active frames, without others.

    A removed frame is replaced by the mean of each band. A frame's activation is its mean over frequency.

    Args:
        activation: (bands, frames).   share: of the frames that are removed.
        draws: random choices of the other frames, whose mean is returned. Each is a circular shift of the most active
            frames by a random time, so that it has the same gaps.
    """
    frames = activation.shape[1]
    most = activation.mean(0).topk(math.ceil(share * frames)).indices.cpu()
    shifts = torch.randint(1, frames, (draws,), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        others = [float(score_without(model, wave, reference, (most + shift) % frames)) for shift in shifts]
        return (float(cosine(model, wave, reference)), float(score_without(model, wave, reference, most)),
                float(np.mean(others)))


def score_without(model: SpeakerModel, wave: Tensor, reference: Tensor, frames: Tensor) -> Tensor:
    """Cosine with the frames of these indices replaced by the mean of each band."""

    def mask(module, inputs, output):
        x, lengths = output
        return x.index_copy(1, frames.to(x.device), x.mean(1, keepdim=True).expand(-1, len(frames), -1)), lengths

    with log_mel(model).register_forward_hook(mask):
        return cosine(model, wave, reference)


def band_of(hz: float, features: LogMel) -> float:
    """Position of a frequency on the axis of mel bands: 0 is the centre of the first band."""
    def mel(f: float) -> float:
        return 2595 * math.log10(1 + f / 700)

    low, high = mel(features.low_hz), mel(features.high_hz)
    return (mel(hz) - low) / (high - low) * (features.bands + 1) - 1


def energies(model: SpeakerModel, wave: Tensor) -> Tensor:
    """(T,) -> (bands, frames) log-mel energies as the model's front end computes them, before mean subtraction."""
    plain = copy.copy(log_mel(model))
    plain.norm = "none"
    return plain(wave.unsqueeze(0))[0][0].T
