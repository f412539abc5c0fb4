# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with the whole state of a training run, and the model file that it leaves."""

import hashlib
import io
import json
import logging
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rawnext.config import Config
from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path, readable
from rawnext.identity import COMPUTATION, weights_path

log = logging.getLogger(__name__)


def save(path: PathLike, state: dict[str, Any]) -> None:
    """Write a temporary file, sync it to disk and rename it: a killed process leaves the last good file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def load(path: PathLike) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values; no code in the file is executed.

    Raises: InputError: the file is missing, damaged, or has objects other than tensors and plain values.
    """
    with readable(path):
        if is_inflated(path):
            raise InputError(path, None, "states more bytes than it has: not a checkpoint that torch wrote")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged or unsafe files
        if "Weights only load failed" in str(error):  # torch's message explains how to execute it anyway
            found = re.search(r"GLOBAL (\S+)", str(error))
            raise InputError(path, None, f"loading would execute {found[1] if found else 'code'}; only tensors and "
                                         "plain values are accepted") from None
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(path, None, f"cannot be read as a checkpoint: {why[:200]}") from None
    if not isinstance(state, dict):
        raise InputError(path, None, f"is a {type(state).__name__}, not a dict of tensors and values")
    return state


def is_inflated(path: PathLike) -> bool:
    """Whether a zip archive would take more memory than its file's size; torch writes its checkpoints uncompressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(entry.file_size for entry in archive.infolist()) > os.path.getsize(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):  # also: of torch's old format
        return False


def load_state(exp: PathLike) -> dict[str, Any]:
    """Content of a trained experiment's weights file; key "model" is the model's state dict.

    Numbers that an export stores in 16 bits are float32 again.   Raises: InputError: the file cannot be read.
    """
    path = weights_path(exp)
    if path.suffix == ".pt":
        return load(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with readable(path):  # it maps the file, and checks that the header's shapes are those of its size
        try:
            state = load_file(path)
        except (SafetensorError, ValueError, KeyError) as error:  # KeyError: a type of number that torch lacks
            raise InputError(path, None, f"cannot be read as safetensors: {error}") from None
    return {"model": {name: tensor.float() if tensor.dtype == torch.float16 else tensor
                      for name, tensor in state.items()}}


def fingerprint(config: Config, state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a model's configuration, of the names, types, shapes and values of its tensors, and of COMPUTATION.

    It is equal for a model and its export. Embeddings, scores and calibrations of different fingerprints are never
    mixed (rawnext/identity.py).
    """
    options = json.loads(json.dumps(config.model))  # lists for tuples, as in a file
    digest = hashlib.sha256(f"{COMPUTATION}{sorted(options.items())!r}".encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(module: nn.Module, exp: PathLike) -> dict[str, Any]:
    """Load the weights of a trained experiment into a model.

    Returns: the result of load_state.
    Raises: InputError: the weights cannot be read or belong to another model.
    """
    state = load_state(exp)
    set_weights(module, state, weights_path(exp))
    return state


def set_weights(module: nn.Module, state: dict[str, Any], path: PathLike) -> None:
    """Copy the weights of a checkpoint, which was read from `path`, into a model; on the meta device, check them only.

    Raises: InputError: they belong to another model, or are NaN or infinite.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*which is a no-op", UserWarning)  # the meta device has no values
            if wide := [name for name, tensor in state["model"].items()
                        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()]:
                raise ValueError(f"{wide[0]} states more values than it has")
            module.load_state_dict(state["model"])
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise InputError(path, None, f"does not fit the configured model: {reason}") from None
    for name, tensor in module.state_dict().items():
        if not tensor.is_meta and not tensor.isfinite().all():
            raise InputError(path, None, f"{name} contains NaN or infinity: not a trained model")


def checkpoints(folder: PathLike) -> list[Path]:
    """Checkpoints in a folder, newest first."""
    found = [p for p in Path(folder).glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", p.name)]
    return sorted(found, reverse=True)


def load_newest(folder: PathLike) -> dict[str, Any] | None:
    """The newest readable checkpoint; None if the folder has no checkpoints.

    Raises: InputError: none of the checkpoints can be read.
    """
    found = checkpoints(folder)
    for path in found:
        try:
            state = load(path)
            log.info("continuing from %s", path)
            return state
        except InputError as error:
            log.warning("%s; trying the previous checkpoint", error)
    if found:
        raise InputError(folder, None, "has no checkpoint that can be read; delete it to start again")
    return None


def save_step(folder: PathLike, step: int, state: dict[str, Any], keep: int) -> None:
    """Save the checkpoint of a step; delete all but the newest `keep`, and what a killed process had not finished."""
    save(Path(folder) / f"step-{step:08d}.pt", state)
    for old in (*checkpoints(folder)[keep:], *Path(folder).glob(".step-*.tmp")):
        old.unlink()


class Saver(AbstractContextManager):
    """Saves checkpoints in a thread, one at a time, while training goes on. As a context manager, it waits at the end.

    Args: folder, keep: see save_step.
    Raises: `save`, `wait` and the end of the block: the error of the last checkpoint, such as a full disk.
    """

    def __init__(self, folder: PathLike, keep: int):
        self.folder, self.keep = folder, keep
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.last: Future | None = None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Begin to save a copy of the state, after the last checkpoint is on the disk."""
        self.wait()
        self.last = self.thread.submit(save_step, self.folder, step, copied(state), self.keep)

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        last, self.last = self.last, None
        if last:
            last.result()

    def __exit__(self, *_) -> None:
        try:
            self.wait()
        finally:
            self.thread.shutdown()


def copied(value: Any) -> Any:
    """A copy of a state on the CPU; later changes of its tensors, dicts and lists do not reach it."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list | tuple) else value
