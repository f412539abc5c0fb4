# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that hold all of a training run, and the model file that is left when it is done."""

import io
import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path

log = logging.getLogger(__name__)


def save(path: PathLike, state: dict[str, Any]) -> None:
    """Write under a temporary name, to the disk itself, then rename: a killed process leaves the last good file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def load(path: PathLike) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values; nothing in the file is run.

    Raises: InputError: missing, damaged, or holding objects other than tensors and plain values.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(path, None, "no such file") from None
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file
        if "Weights only load failed" in str(error):  # torch's own text tells how to run it all the same
            found = re.search(r"GLOBAL (\S+)", str(error))
            raise InputError(path, None, f"holds {found[1] if found else 'something'} that loading would run; only "
                                         "tensors and plain values are taken") from None
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(path, None, f"cannot be read as a checkpoint: {why[:200]}") from None
    if not isinstance(state, dict):
        raise InputError(path, None, f"holds a {type(state).__name__}, not a dict of tensors and values")
    return state


WEIGHTS = ("model.pt", "model.safetensors")  # the second where a model was exported: nothing but its tensors


def weights_path(exp: PathLike) -> Path:
    """The first of WEIGHTS that is in a folder; model.pt where there is none."""
    return next((path for name in WEIGHTS if (path := Path(exp) / name).exists()), Path(exp) / WEIGHTS[0])


def load_state(exp: PathLike) -> dict[str, Any]:
    """All that the weights of a trained experiment hold; under "model" the model's state dict.

    Raises: InputError: they cannot be read.
    """
    path = weights_path(exp)
    return {"model": load_safetensors(path)} if path.suffix == ".safetensors" else load(path)


def load_safetensors(path: PathLike) -> dict[str, Any]:
    """Tensors by name.   Raises: InputError: missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(path, None, f"cannot be read as safetensors: {error}") from None


def load_weights(module: nn.Module, exp: PathLike) -> dict[str, Any]:
    """Give a model the weights of a trained experiment.

    Returns: what load_state gives.
    Raises: InputError: it cannot be read, or the weights are of another model.
    """
    path, state = weights_path(exp), load_state(exp)
    try:
        module.load_state_dict(state["model"])
    except (KeyError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(path, None, f"does not fit the configured model: {reason}") from None
    return state


def checkpoints(folder: PathLike) -> list[Path]:
    """Checkpoints of a run, newest first."""
    found = [p for p in Path(folder).glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", p.name)]
    return sorted(found, reverse=True)


def load_newest(folder: PathLike) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None where there is none.

    Raises: InputError: there are some, and none can be read.
    """
    found = checkpoints(folder)
    for path in found:
        try:
            state = load(path)
            log.info("continuing from %s", path)
            return state
        except InputError as error:
            log.warning("%s; taking the one before", error)
    if found:
        raise InputError(folder, None, "holds no checkpoint that can be read; delete it to start again")
    return None


def save_step(folder: PathLike, step: int, state: dict[str, Any], keep: int) -> None:
    """Save a step's checkpoint and delete all but the newest `keep`."""
    save(Path(folder) / f"step-{step:08d}.pt", state)
    for old in checkpoints(folder)[keep:]:
        old.unlink()
