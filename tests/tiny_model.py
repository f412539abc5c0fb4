# SPDX-License-Identifier: Apache-2.0
"""An experiment for tests as if after training: a narrow model with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rawnext.config import Config, save_config, split_name
from rawnext.models import MODELS
from rawnext.scoring.calibration import Calibration
from rawnext.scoring.calibration_files import save_model
from rawnext.scoring.decision import COHORT_PATH, MODEL_PATH
from rawnext.stamp import sha256
from rawnext.training import checkpoint

OPTIONS = {"name": "rawnext", "channels": [8, 8, 16, 16, 16, 16], "blocks": [1, 1, 1, 1], "dla": False,
           "cardinality": 8, "embedding_dim": 8}
WITH_COHORT = ("cohort_mean_lower", "cohort_mean_higher", "inverse_duration")
CALIBRATION = Calibration(np.array([5.0, -0.25]), -2.0, np.array([0.5]), np.array([4.0]))


def write_experiment(folder: Path, seed: int = 0, model: dict = OPTIONS, **config_of: Any) -> Path:
    """Write config.yaml and model.pt in `folder`; config_of: the other sections of its configuration."""
    config = Config(model=model, **config_of)
    torch.manual_seed(seed)
    save_config(config, folder / "config.yaml")
    checkpoint.save(folder / "model.pt", {"model": MODELS.build(*split_name(model)).state_dict()})
    return folder


def calibrate(exp: Path, names=("inverse_duration",), **about) -> Path:
    """Write a calibration of cosines: LLR = 5 score - 2 - (1 / enroll seconds + 1 / test seconds) / 4."""
    save_model(exp / MODEL_PATH, CALIBRATION, names, {"backend": "cosine", "protocol": "native", **about})
    return exp


def calibrate_with_cohort(exp: Path, cohort: np.ndarray) -> Path:
    """Write one with a (C, D) cohort: LLR = 5 score - 2 - lower mean - 3 higher mean - inverse duration / 4."""
    path = exp / COHORT_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, cohort.astype(np.float32))
    weights, low, high = np.array([5.0, -1.0, -3.0, -0.25]), np.array([-1, -1, 0.5]), np.array([1.0, 1, 4])
    calibration = Calibration(weights, -2.0, low, high)
    save_model(exp / MODEL_PATH, calibration, WITH_COHORT, {"backend": "cosine", "protocol": "native",
                                                            "cohort_sha256": sha256(path)})
    return exp


def inform(exp: Path) -> Path:
    """Write train_info.json and evaluations at two durations."""
    (exp / "train_info.json").write_text(json.dumps({"num_params": 1, "gmacs": 1.5, "num_speakers": 1211,
                                                     "num_utts": 148642, "epochs": 7}))
    row = {"list": "O", "data_set": "vox1", "protocol": "native", "backend": "cosine", "duration": "full",
           "trials": "data/vox1/trials_O", "trials_sha256": "0", "num_trials": 37611, "num_target": 18802,
           "eer": 1.54321, "min_dcf_01": 0.166, "min_dcf_05": 0.1}
    (exp / "scores/cosine/vox1").mkdir(parents=True)
    for duration in ("full", "2"):
        (exp / f"scores/cosine/vox1/trials_O_{duration}.json").write_text(json.dumps({**row, "duration": duration}))
    return exp
