# SPDX-License-Identifier: Apache-2.0
"""Facts about a trained model, and its release: safetensors, configuration, calibration and model card."""

import json
import shutil
from pathlib import Path
from typing import Any

from rawnext.config import Config
from rawnext.errors import InputError
from rawnext.export.model_card import card
from rawnext.files import atomic_path, write_lines
from rawnext.inference.extract import load_model
from rawnext.inference.extractor import fingerprint
from rawnext.results.rows import Row, read_rows
from rawnext.scoring.decision import MODEL_PATH
from rawnext.training import checkpoint
from rawnext.training.info import COUNTED_SAMPLES, gmacs

INFO = "train_info.json"


def read_info(exp: Path) -> dict[str, Any]:
    """Content of train_info.json; empty if there is no such file.   Raises: InputError: the file is damaged."""
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


def describe(exp: Path, model: Any, config: Config) -> dict[str, Any]:
    """Facts about a trained model, of JSON's types.

    Args: model, config: from load_model(exp).
    Raises: InputError: train_info.json is damaged.
    """
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
    """Results of whole utterances by cosine; empty if the experiment was not evaluated."""
    if not any((exp / "scores").glob("**/*.json")):
        return []
    return [row for row in read_rows(exp) if (row["duration"], row["backend"]) == ("full", "cosine")]


def export_safetensors(exp: Path, folder: Path, licence: str, training_data: str = "") -> None:
    """Write a trained model as a folder for publication; rawnext/export/model_card.py makes its README.md.

    Raises: InputError: the experiment is damaged, or the folder already has a model.
    """
    from safetensors.torch import save_file

    target = folder / checkpoint.WEIGHTS[1]
    if any((folder / name).exists() for name in checkpoint.WEIGHTS):
        raise InputError(folder, None, "already has a model; choose another folder")
    model, config = load_model(exp)
    facts = describe(exp, model, config)
    facts["calibrations"] = ["/".join(MODEL_PATH.parts[1:3])] if (exp / MODEL_PATH).exists() else []
    lines = card(exp.resolve().name, facts, evaluations(exp), licence, training_data)
    for name in ("config.yaml", INFO, MODEL_PATH):
        if (exp / name).exists():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(exp / name, temporary)
    write_lines(folder / "README.md", lines)
    with atomic_path(target) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
                  temporary, {"format": "pt"})
        shutil.copymode(folder / "README.md", temporary)  # safetensors writes it for its owner alone
