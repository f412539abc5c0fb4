# SPDX-License-Identifier: Apache-2.0
"""The configuration of a system that is to be trained: the schema's checks, and names that the registries know."""

from collections.abc import Sequence
from typing import Any

from rawnext.config import Config, load_config, split_name
from rawnext.errors import InputError
from rawnext.files import PathLike
from rawnext.losses import LOSSES
from rawnext.models import MODELS
from rawnext.training.augment import OPERATIONS, chance
from rawnext.training.device_augment import cannot_follow_a_room


def load_system(paths: Sequence[PathLike], overrides: Sequence[str] = (), init: PathLike = "") -> Config:
    """As load_config; the model, losses and operations of augmentation must exist and have the options given.

    Raises: InputError: as load_config, or an unknown name (the nearest known one is named).
    """
    config = load_config(paths, overrides, init)
    check_parts(config, ", ".join(map(str, paths)) or "--set")
    return config


def check_parts(config: Config, path: PathLike) -> None:
    """Raise InputError unless the registries know the model, losses and operations and take their options."""
    try:
        name, options = split_name(config.model)
        MODELS.check(name, options)
        for loss in config.losses:
            name, options = split_name(loss)
            check_weight(options.pop("weight", 1), "losses")
            LOSSES.check(name, options)
        for case in config.augment:
            check_weight(case.get("weight", 1), "augment")
            for key in case:
                if key not in ("ops", "weight"):
                    raise ValueError(f"augment: unknown key {key!r}; known: ops, weight")
            for op in ops_of(case):
                OPERATIONS.check(chance(op)[0], {})
            late = cannot_follow_a_room([chance(op)[0] for op in ops_of(case)])
            if late and config.train.augment_on == "device":
                raise ValueError(f"train.augment_on: device: {late[0]} follows reverb, but only workers can do it")
    except ValueError as error:
        raise InputError(path, None, str(error)) from None


def check_weight(weight: Any, section: str) -> None:
    if not isinstance(weight, int | float) or not weight >= 0:
        raise ValueError(f"{section}: weight: a number from 0, got {weight!r}")


def ops_of(case: dict[str, Any]) -> list[Any]:
    """The operations of a case of augmentation: names, or {name: ..., p: 0.5}."""
    ops = case.get("ops", [])
    if not isinstance(ops, list):
        raise ValueError(f"augment: want ops: [name, ...], got {ops!r}")
    return ops
