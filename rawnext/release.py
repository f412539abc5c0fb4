# SPDX-License-Identifier: Apache-2.0
"""A trained model as facts, and as a folder for others: safetensors, configuration, calibration, model card."""

import json
import shutil
from pathlib import Path
from typing import Any

from rawnext import checkpoint
from rawnext.config import load_config, split_name
from rawnext.decision import PLACE
from rawnext.extractor import fingerprint
from rawnext.info import COUNTED_SAMPLES, gmacs
from rawnext.model_card import card
from rawnext.models import MODELS
from rawnext.results import Row, read_rows
from rawnext.tables import InputError, PathLike, atomic_path, write_lines

INFO = "train_info.json"


def read_info(exp: Path) -> dict[str, Any]:
    """What train_info.json says; nothing where there is none.   Raises: InputError: it is damaged."""
    path = exp / INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise InputError(path, None, "is not a JSON object")
    return info


def read_trained(exp: PathLike) -> tuple[Any, Any]:
    """Configuration and model (with its weights, as they were trained) of an experiment.

    Raises: InputError: a file is missing or damaged, or they do not fit.
    """
    config = load_config([Path(exp) / "config.yaml"])
    try:
        model = MODELS.build(*split_name(config.model))
    except ValueError as error:
        raise InputError(Path(exp) / "config.yaml", None, str(error)) from None
    checkpoint.load_weights(model, exp)
    return config, model.eval()


def describe(exp: Path) -> dict[str, Any]:
    """Facts of a trained model: JSON's types, and a line each for a person."""
    config, model = read_trained(exp)
    trained = read_info(exp)
    calibrations = sorted(path.parent.relative_to(exp / "calibration").as_posix()
                          for path in (exp / "calibration").glob("*/*/model.json"))
    return {"model": config.model["name"], "weights": str(checkpoint.weights_path(exp)),
            "parameters": sum(p.numel() for p in model.parameters()),
            f"gmacs_of_{COUNTED_SAMPLES}_samples": round(gmacs(model), 4),
            "embedding_dim": model.embedding_dim, "fingerprint": fingerprint(config, model.state_dict()),
            "options": config.model, "losses": [loss["name"] for loss in config.losses],
            "training": {key: value for key, value in trained.items() if key not in ("num_params", "gmacs")},
            "calibrations": calibrations}


def evaluations(exp: Path) -> list[Row]:
    """Figures of whole utterances by cosine that the experiment keeps; none where it was not evaluated."""
    if not any((exp / "scores").glob("**/*.json")):
        return []
    return [row for row in read_rows(exp) if (row["duration"], row["backend"]) == ("full", "cosine")]


def export_safetensors(exp: Path, folder: Path, licence: str, training_data: str = "") -> None:
    """Write an experiment's model as a folder for others; see rawnext/model_card.py for its README.md.

    Raises: InputError: the experiment is damaged, or the folder holds a model already.
    """
    from safetensors.torch import save_file

    target = folder / checkpoint.WEIGHTS[1]
    if any((folder / name).exists() for name in checkpoint.WEIGHTS):
        raise InputError(folder, None, "holds a model already; name another folder")
    facts, (_, model) = describe(exp), read_trained(exp)
    facts["calibrations"] = ["/".join(PLACE.parts[1:3])] if (exp / PLACE).exists() else []  # what goes along
    lines = card(exp.resolve().name, facts, evaluations(exp), licence, training_data)
    for name in ("config.yaml", INFO, PLACE):
        if (exp / name).exists():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(exp / name, temporary)
    write_lines(folder / "README.md", lines)
    with atomic_path(target) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, temporary,
                  {"format": "pt"})
