# SPDX-License-Identifier: Apache-2.0
"""Facts about a trained model, and its release: safetensors, configuration, calibration and model card."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rawnext.config import Config, save_config, to_publish
from rawnext.errors import InputError, printable
from rawnext.files import atomic_path, read_json, read_object, write_lines
from rawnext.identity import KEY, WEIGHTS, network_of, one_model, weights_path
from rawnext.inference.extract import load_model
from rawnext.results.rows import Row, read_rows
from rawnext.results.tables import markdown
from rawnext.scoring.decision import COHORT_PATH, MODEL_PATH, read_judge
from rawnext.training.checkpoint import fingerprint, load_state, save
from rawnext.training.info import COUNTED_SAMPLES, gmacs, write_info

INFO = "train_info.json"
TAGS = ["speaker-verification", "speaker-recognition", "speaker-embeddings", "audio"]
COLUMNS = ["list", "data set", "protocol", "trials", "EER %", "minDCF (0.01)"]
USAGE = """```python
from rawnext import Extractor, read_audio

extractor = Extractor.from_pretrained(".")
embedding = extractor.embed(*read_audio("a.wav"))
```"""


def read_info(exp: Path, model: str) -> dict[str, Any]:
    """Content of train_info.json; empty if there is no such file.

    Args: model: fingerprint of the experiment's model.
    Raises: InputError: the file is damaged, or is that of another model.
    """
    path = exp / INFO
    info = read_object(path)
    one_model({weights_path(exp): model, path: info.get(KEY)})
    return info


def describe(exp: Path, model: Any, config: Config) -> dict[str, Any]:
    """Facts about a trained model, of JSON's types.

    Args: model, config: from load_model(exp).
    Raises: InputError: train_info.json is damaged, or that of another model.
    """
    model_id = fingerprint(config, model.state_dict())
    info = read_info(exp, model_id)
    calibrations = sorted(path.parent.relative_to(exp / "calibration").as_posix()
                          for path in (exp / "calibration").glob("*/*/model.json"))
    return {"model": config.model["name"], "weights": str(weights_path(exp)),
            "parameters": sum(p.numel() for p in model.parameters()),
            f"gmacs_of_{COUNTED_SAMPLES}_samples": info.get("gmacs") or round(gmacs(model), 4),
            "embedding_dim": model.embedding_dim, KEY: model_id,
            "options": config.model, "losses": [loss["name"] for loss in config.losses],
            "training": describe_training(info),
            "calibrations": calibrations}


def save_variant(exp: Path, folder: Path, model: Any, config: Config, heads: bool = True) -> None:
    """Write an experiment whose model was made from that of `exp`, with what is known of the training.

    Args: model, config: from load_model(exp), the model with other weights.   heads: keep the classifiers too.
    Raises: InputError: the weights or train_info.json of `exp` are damaged, or belong to different models.
    """
    state = load_state(exp)
    training = describe_training(read_info(exp, fingerprint(config, state["model"])))
    save_config(config, folder / "config.yaml")
    write_info(folder, model, config, **training)
    kept = state if heads else {key: value for key, value in state.items() if key not in ("losses", "student")}
    save(folder / "model.pt", {**kept, "model": model.state_dict()})


def describe_training(info: dict[str, Any]) -> dict[str, Any]:
    """The entries of train_info.json that are not about the model itself."""
    return {key: value for key, value in info.items() if key not in ("num_params", "gmacs", KEY)}


def evaluations(exp: Path, model: str) -> list[Row]:
    """Results of whole utterances by cosine; empty if the experiment was not evaluated.

    Raises: InputError: they are those of another model than the one with this fingerprint.
    """
    if not any((exp / "scores").glob("**/*.json")):
        return []
    rows = read_rows(exp)
    found = {f"{row['scores']}.json": network_of(row.get(KEY)) for row in rows}
    one_model({weights_path(exp): model, **found})
    return [row for row in rows if (row["duration"], row["backend"]) == ("full", "cosine")]


# paths, and names of the exporter's lists and machines
PRIVATE = {"trials", "score_files", "init", "teacher", "trained_as", "command", "runs", "data"}


def public(value: Any) -> Any:
    """JSON values without the entries that name the exporter's files, and without control characters."""
    if isinstance(value, dict):
        return {printable(key): public(item) for key, item in value.items() if key not in PRIVATE}
    return printable(value) if isinstance(value, str) else value


def export_safetensors(exp: Path, folder: Path, licence: str, training_data: str = "", with_results: bool = False,
                       ) -> None:
    """Write a trained model as a folder for publication, without paths of this machine.

    Args: with_results: the model card has the results, and with them the names of the trial lists.
    Raises: InputError: the experiment is damaged, its files are of different models, or the folder already has a model.
    """
    from safetensors.torch import save_file

    target = folder / WEIGHTS[1]
    if any((folder / name).exists() for name in WEIGHTS):
        raise InputError(folder, None, "already has a model; choose another folder")
    model, config = load_model(exp)
    facts = describe(exp, model, config)
    judge = read_judge(exp)
    facts["calibrations"] = ["/".join(MODEL_PATH.parts[1:3])] if (exp / MODEL_PATH).exists() else []
    facts["training"] = public(facts["training"])
    if judge.model:
        one_model({weights_path(exp): facts[KEY], exp / MODEL_PATH: network_of(judge.model)})
    rows = evaluations(exp, facts[KEY]) if with_results else []
    lines = card(exp.resolve().name, facts, rows, licence, training_data)
    with atomic_path(folder / "config.yaml") as temporary:
        save_config(to_publish(config), temporary)
    for name in (INFO, MODEL_PATH, COHORT_PATH):
        (folder / name).unlink(missing_ok=True)  # of another model, from an export that was killed
    for name in (INFO, MODEL_PATH):
        if (exp / name).exists():
            content = read_json(exp / name)
            write_lines(folder / name, [json.dumps(public(content), indent=1, ensure_ascii=False)])
    if judge.cohort is not None:
        with atomic_path(folder / COHORT_PATH) as temporary:
            shutil.copy(exp / COHORT_PATH, temporary)
    write_lines(folder / "README.md", lines)
    with atomic_path(target) as temporary:
        save_file({name: shortest(tensor.contiguous()) for name, tensor in model.state_dict().items()},
                  temporary, {"format": "pt"})
        shutil.copymode(folder / "README.md", temporary)  # safetensors writes it for its owner alone


def shortest(tensor: Tensor) -> Tensor:
    """The tensor in 16 bits if it is a matrix whose values are the same in them (steps/round_weights.py)."""
    half = tensor.half() if tensor.ndim > 1 and tensor.dtype == torch.float32 else tensor
    return half if half.to(tensor.dtype).equal(tensor) else tensor


# --- the model card: Hugging Face's front matter, then facts for users of the weights

def card(name: str, facts: dict[str, Any], rows: Sequence[Row], licence: str, training_data: str) -> list[str]:
    """Lines of the model card.

    Args:
        name: name of the experiment.   facts, rows: from describe and evaluations.
        licence: licence of the weights, or unknown.   training_data: description; empty: counts in train_info.json.
    """
    stated = "is not stated: ask the source of the weights" if licence == "unknown" else f"of the weights: {licence}"
    return [*front_matter(name, facts, rows, licence), "", f"# {name}: {facts['model']}", "",
            f"Speaker embeddings of {facts['embedding_dim']} dimensions from 16 kHz speech of 0.1 s or longer; compare "
            f"them by their cosine. {facts['parameters']:,} parameters.", "", USAGE, "",
            "## Training", "", f"Data: {training_data or known_data(facts['training'])}.", "",
            *(f"- {key}: {value}" for key, value in facts["training"].items()), "",
            "## Results", "", *results(rows), "",
            "Calibrations: " + (", ".join(facts["calibrations"]) or "none") + ".", "",
            "## Configuration", "", "```json", json.dumps(facts["options"], indent=1), "```", "",
            "## Licence", "", f"The licence {stated}.", "",
            "A voice is personal data: identify people by it only as the law allows and with their consent. Error "
            "rates differ between groups of speakers, channels and durations; measure them on your own data."]


def front_matter(name: str, facts: dict[str, Any], rows: Sequence[Row], licence: str) -> list[str]:
    import yaml

    metadata: dict[str, Any] = {"license": licence, "library_name": "rawnext",
                                "tags": [*TAGS, facts["model"].replace("_", "-")], "metrics": ["eer"]}
    if rows:
        metadata["model-index"] = [{"name": name, "results": [
            {"task": {"type": "audio-classification", "name": "speaker verification"},
             "dataset": {"type": row["data_set"], "name": " ".join(identity(row))},
             "metrics": [{"type": "eer", "value": round(row["eer"], 4), "name": "EER %"}]} for row in rows]}]
    return ["---", *yaml.safe_dump(metadata, sort_keys=False).rstrip().split("\n"), "---"]


def identity(row: Row) -> tuple[str, ...]:
    return row["list"], row["data_set"], row["protocol"]


def known_data(training: dict[str, Any]) -> str:
    counts = [training.get(name) for name in ("num_utts", "num_speakers")]
    if not all(isinstance(count, int) for count in counts):
        return "not known"
    return "{:,} utterances of {:,} speakers".format(*counts)


def results(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["Not stated: measure it on trials of your own."]
    lines = ([*identity(row), f"{row['num_trials']:,}", f"{row['eer']:.2f}", f"{row['min_dcf_01']:.3f}"]
             for row in rows)
    return ["Cosines of whole utterances:", "", *markdown([COLUMNS, *lines], 3)]
