# SPDX-License-Identifier: Apache-2.0
"""A trained model as facts, and as a folder for others: safetensors, configuration, calibration, model card."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from rawnext.config import Config, load_config, split_name
from rawnext.errors import InputError
from rawnext.export.model_card import card
from rawnext.files import atomic_path, write_lines
from rawnext.inference.extractor import fingerprint
from rawnext.models import MODELS
from rawnext.results.rows import Row, read_rows
from rawnext.scoring.decision import MODEL_PATH
from rawnext.training import checkpoint
from rawnext.training.info import COUNTED_SAMPLES, gmacs

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


class Trained(NamedTuple):
    """An experiment folder, its configuration, and its model with the weights as they were trained."""

    exp: Path
    config: Config
    model: Any


def read_trained(exp: Path) -> Trained:
    """What describe and export_safetensors speak of.

    Raises: InputError: a file is missing or damaged, or they do not fit.
    """
    config = load_config([exp / "config.yaml"])
    try:
        model = MODELS.build(*split_name(config.model))
    except ValueError as error:
        raise InputError(exp / "config.yaml", None, str(error)) from None
    checkpoint.load_weights(model, exp)
    return Trained(exp, config, model.eval())


def describe(trained: Trained) -> dict[str, Any]:
    """Facts of a trained model, of JSON's types."""
    exp, config, model = trained
    info = read_info(exp)
    calibrations = sorted(path.parent.relative_to(exp / "calibration").as_posix()
                          for path in (exp / "calibration").glob("*/*/model.json"))
    return {"model": config.model["name"], "weights": str(checkpoint.weights_path(exp)),
            "parameters": sum(p.numel() for p in model.parameters()),
            f"gmacs_of_{COUNTED_SAMPLES}_samples": info.get("gmacs") or round(gmacs(model), 4),
            "embedding_dim": model.embedding_dim, "fingerprint": fingerprint(config, model.state_dict()),
            "options": config.model, "losses": [loss["name"] for loss in config.losses],
            "training": {key: value for key, value in info.items() if key not in ("num_params", "gmacs")},
            "calibrations": calibrations}


def evaluations(exp: Path) -> list[Row]:
    """Figures of whole utterances by cosine that the experiment keeps; none where it was not evaluated."""
    if not any((exp / "scores").glob("**/*.json")):
        return []
    return [row for row in read_rows(exp) if (row["duration"], row["backend"]) == ("full", "cosine")]


def export_safetensors(exp: Path, folder: Path, licence: str, training_data: str = "") -> None:
    """Write an experiment's model as a folder for others; see rawnext/export/model_card.py for its README.md.

    Raises: InputError: the experiment is damaged, or the folder holds a model already.
    """
    from safetensors.torch import save_file

    target = folder / checkpoint.WEIGHTS[1]
    if any((folder / name).exists() for name in checkpoint.WEIGHTS):
        raise InputError(folder, None, "holds a model already; name another folder")
    trained = read_trained(exp)
    facts = describe(trained)
    facts["calibrations"] = ["/".join(MODEL_PATH.parts[1:3])] if (exp / MODEL_PATH).exists() else []  # what goes along
    lines = card(exp.resolve().name, facts, evaluations(exp), licence, training_data)
    for name in ("config.yaml", INFO, MODEL_PATH):
        if (exp / name).exists():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(exp / name, temporary)
    write_lines(folder / "README.md", lines)
    with atomic_path(target) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in trained.model.state_dict().items()},
                  temporary, {"format": "pt"})
