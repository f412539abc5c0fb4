# SPDX-License-Identifier: Apache-2.0
"""A training configuration, checked against the schema and the registries of models, losses and operations."""

from collections.abc import Sequence
from typing import Any

from rawnext.config import Config, load_config, split_name
from rawnext.errors import as_input_error
from rawnext.files import PathLike
from rawnext.losses import LOSSES
from rawnext.losses.base import MetricLoss
from rawnext.models import MODELS
from rawnext.training.augment import BANK_OPERATIONS, OPERATIONS, check_amr, parse_operation


def load_system(paths: Sequence[PathLike], overrides: Sequence[str] = (), init: PathLike = "") -> Config:
    """As load_config, and check that the model, losses and augmentation operations exist and take their options.

    Raises: InputError: as load_config, or an unknown name; the message suggests the nearest known one.
    """
    config = load_config(paths, overrides, init)
    check_parts(config, ", ".join(map(str, paths)) or "--set")
    return config


def check_parts(config: Config, path: PathLike) -> None:
    """Raise InputError unless the registries have the model, losses and operations, and these take their options."""
    with as_input_error(path):
        name, options = split_name(config.model)
        MODELS.check(name, options)
        for loss in config.losses:
            name, options = split_name(loss)
            check_weight(options.pop("weight", 1), "losses")
            LOSSES.check(name, options)
            if config.train.accumulate > 1 and issubclass(LOSSES[name], MetricLoss):  # type: ignore[arg-type]
                raise ValueError(f"train.accumulate {config.train.accumulate}: loss {name} compares all utterances of "
                                 "a batch, which is then never in memory as a whole; use a classification loss, or 1")
        for case in config.augment:
            check_weight(case.get("weight", 1), "augment")
            for key in case:
                if key not in ("ops", "weight"):
                    raise ValueError(f"augment: unknown key {key!r}; known: ops, weight")
            ops = case.get("ops", [])
            if not isinstance(ops, list):
                raise ValueError(f"augment: want ops: [name, ...], got {ops!r}")
            names = [parse_operation(op)[0] for op in ops]
            for name in names:
                OPERATIONS.check(name, {})
            if "amr" in names:
                check_amr()
            late = names[names.index("reverb"):] if "reverb" in names else []
            if config.train.augment_on == "device" and (others := [x for x in late if x not in BANK_OPERATIONS]):
                raise ValueError(f"train.augment_on: device: {others[0]} follows reverb, but only workers can apply it")


def check_weight(weight: Any, section: str) -> None:
    if not isinstance(weight, int | float) or not weight >= 0:
        raise ValueError(f"{section}: weight: a number from 0, got {weight!r}")
