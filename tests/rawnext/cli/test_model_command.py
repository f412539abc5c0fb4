# SPDX-License-Identifier: Apache-2.0
"""`rawnext info` reports correct facts, and `rawnext export` writes the same model."""

import json

import numpy as np
import onnx
import pytest
import torch
import yaml
from corpus import voice
from safetensors import safe_open
from safetensors.torch import save
from tiny_model import OPTIONS, calibrate, calibrate_with_cohort, inform, write_experiment

import rawnext.export.onnx
from rawnext import Extractor
from rawnext.cli.main import main
from rawnext.config import load_config, save_config
from rawnext.errors import InputError
from rawnext.scoring.decision import COHORT_PATH, MODEL_PATH, read_judge
from rawnext.stamp import sha256
from rawnext.training import checkpoint


@pytest.fixture
def exp(tmp_path, monkeypatch):
    monkeypatch.setattr("rawnext.export.release.gmacs", lambda model: 0.25)  # takes seconds, and has tests of its own
    return inform(calibrate(write_experiment(tmp_path / "exp")))


def front_matter(folder):
    begin, metadata, text = (folder / "README.md").read_text().split("---\n", 2)
    assert begin == ""
    return yaml.safe_load(metadata), text


def test_info_reports_the_experiment(exp, capsys):
    main(["info", str(exp), "--json"])
    facts = json.loads(capsys.readouterr().out)
    state = checkpoint.load(exp / "model.pt")["model"]
    assert facts["parameters"] == sum(
        tensor.numel() for name, tensor in state.items() if not name.split(".")[-1].startswith(("running_", "num_")))
    assert facts["embedding_dim"] == 8 and facts["options"] == OPTIONS and facts["losses"] == ["softmax"]
    assert facts["training"] == {"num_speakers": 1211, "num_utts": 148642, "epochs": 7}
    assert facts["calibrations"] == ["cosine/native"] and facts["gmacs_of_59050_samples"] == 1.5  # train_info.json
    main(["info", str(exp)])
    text = capsys.readouterr().out
    assert f"parameters: {facts['parameters']}\n" in text and "  - cosine/native\n" in text
    (exp / "train_info.json").unlink()
    main(["info", str(exp), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["gmacs_of_59050_samples"] == 0.25 and facts["training"] == {}
    (exp / "train_info.json").write_text("[]")
    with pytest.raises(InputError, match=r"train_info.json: is not a JSON object"):
        main(["info", str(exp)])


def test_safetensors_hold_the_same_model(exp, tmp_path, capsys):
    out = tmp_path / "release"
    main(["export", str(exp), "--safetensors", str(out), "--licence", "cc-by-4.0", "--training-data", "VoxCeleb2 dev"])
    state = checkpoint.load(exp / "model.pt")["model"]
    with safe_open(out / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(state) and file.metadata() == {"format": "pt"}
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in state.items())
    first, again = (Extractor.from_pretrained(folder, "cpu") for folder in (exp, out))
    assert np.array_equal(first.embed(voice(0, 0, 1)), again.embed(voice(0, 0, 1)))
    assert first.fingerprint == again.fingerprint
    assert json.loads((out / MODEL_PATH).read_text()) == json.loads((exp / MODEL_PATH).read_text())
    capsys.readouterr()
    for folder in (exp, out):
        main(["info", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    half = len(lines) // 2
    assert [a for a, b in zip(lines[:half], lines[half:]) if a != b] == [f"weights: {exp}/model.pt"]
    with pytest.raises(InputError, match="release: already has a model"):
        main(["export", str(exp), "--safetensors", str(out)])


def test_a_cohort_is_exported_with_its_calibration(exp, tmp_path, capsys):
    cohort = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    calibrate_with_cohort(exp, cohort)
    main(["export", str(exp), "--safetensors", str(tmp_path / "release")])
    one, other = read_judge(exp), read_judge(tmp_path / "release")
    assert other.path == str(tmp_path / "release" / MODEL_PATH) and (other.cohort == one.cohort).all()
    assert "Calibrations: cosine/native." in (tmp_path / "release/README.md").read_text()
    (exp / COHORT_PATH).unlink()
    with pytest.raises(InputError, match="cohort.npy: no such file"):
        main(["export", str(exp), "--safetensors", str(tmp_path / "without")])
    main(["export", str(calibrate(exp)), "--safetensors", str(tmp_path / "without")])
    assert not (tmp_path / "without" / COHORT_PATH).exists()


def test_model_card_states_licence_data_and_results(exp, tmp_path):
    main(["export", str(exp), "--safetensors", str(tmp_path / "a"), "--license", "cc-by-4.0", "--training-data", "Vox",
          "--results"])
    metadata, text = front_matter(tmp_path / "a")
    assert metadata["license"] == "cc-by-4.0" and metadata["metrics"] == ["eer"] and "rawnext" in metadata["tags"]
    (result,) = metadata["model-index"][0]["results"]  # whole utterances only
    assert result["metrics"] == [{"type": "eer", "value": 1.5432, "name": "EER %"}]
    assert "| O | vox1 | native | 37,611 | 1.54 | 0.166 |" in text and "Data: Vox." in text
    assert "- num_speakers: 1211" in text and '"cardinality": 8' in text and "weights: cc-by-4.0" in text
    plain = write_experiment(tmp_path / "plain")
    main(["export", str(plain), "--safetensors", str(tmp_path / "b")])
    metadata, text = front_matter(tmp_path / "b")
    assert metadata["license"] == "unknown" and "model-index" not in metadata
    for phrase in ("Not stated: measure it", "Data: not known", "is not stated", "Calibrations: none"):
        assert phrase in text


def test_a_release_names_no_files_or_lists_of_its_maker(exp, tmp_path):
    """The calibration's trials and score files, the model it was trained from, its test lists, and W&B's project."""
    out = tmp_path / "release"
    calibrate(exp, fitted_on={"trials": "private/trials", "score_files": [f"{tmp_path}/scores"], "num_trials": 100})
    info = json.loads((exp / "train_info.json").read_text())
    (exp / "train_info.json").write_text(json.dumps({**info, "init": f"{tmp_path}/old"}))
    save_config(load_config([exp / "config.yaml"], ["train.wandb=private"]), exp / "config.yaml")
    main(["export", str(exp), "--safetensors", str(out)])
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            text = path.read_text()
            assert str(tmp_path) not in text and "private" not in text and "vox1" not in text, path
    assert json.loads((out / MODEL_PATH).read_text())["fitted_on"]["num_trials"] == 100


def test_damaged_safetensors_are_refused(exp, tmp_path):
    main(["export", str(exp), "--safetensors", str(tmp_path / "a")])
    path = tmp_path / "a/model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"model.safetensors: cannot be read as safetensors"):
        checkpoint.load_state(tmp_path / "a")
    path.write_bytes(save({"fc.weight": torch.zeros(3)}))
    with pytest.raises(InputError, match=r"model.safetensors: does not fit the configured model"):
        Extractor.from_pretrained(tmp_path / "a", "cpu")


@pytest.mark.slow
def test_onnx_metadata_state_their_source(exp, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rawnext.export.onnx, "SECONDS", (0.1, 0.5))
    save_config(load_config([exp / "config.yaml"], ["train.wandb=private"]), exp / "config.yaml")
    main(["export", str(exp), "--onnx", str(tmp_path / "x.onnx"), "--int8"])
    assert capsys.readouterr().out.count("\n") == 1
    origin = {prop.key: prop.value for prop in onnx.load(tmp_path / "x.onnx").metadata_props}
    assert origin["model_sha256"] == sha256(exp / "model.pt") and origin["commit"] and origin["sample_rate"] == "16000"
    assert origin["config"] == (exp / "config.yaml").read_text().replace("wandb: private", "wandb: ''")
    assert origin["framework"] == "rawnext" and origin["output_dim"] == "8" and origin["weights"] == "int8"
    with pytest.raises(InputError, match="--int8: needs --onnx"):
        main(["export", str(exp), "--int8", "--safetensors", str(tmp_path / "a")])
    with pytest.raises(InputError, match="needs --onnx FILE"):
        main(["export", str(exp)])
