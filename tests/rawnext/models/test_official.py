# SPDX-License-Identifier: Apache-2.0
"""Imported checkpoints give the released code's embeddings; unknown ones are refused."""

import json
import re
import runpy
import sys

import numpy as np
import pytest
import torch
from model_checks import error, randomise, state_dict

from rawnext import Extractor
from rawnext.config import split_name
from rawnext.errors import InputError
from rawnext.models import MODELS
from rawnext.models.official import recognise

OPTIONS = [("next_tdnn", {"channels": 8, "blocks": [1, 2], "kernels": [3, 5], "light": False, "embedding_dim": 6}),
           ("next_tdnn", {"channels": 8, "blocks": [2], "kernels": [5], "light": True, "embedding_dim": 6}),
           *(("dtdy_resnet34", {"widths": [8, 8, 16, 24], "blocks": [1, 2, 1, 1], "pooling": pooling, "bands": bands,
                                "embedding_dim": 6}) for pooling, bands in (("avg", 64), ("sap", 40), ("asp", 20)))]
PREFIXES = ["", "module.", "__S__.", "module.__S__.", "__S__.module."]
RELEASED = ["row1_resnext", "row3_elastic", "row7_rawnext", "rawnet2", "rawnet3", "mr_rawnet", "nexttdnn",
            "nexttdnn_light", "dtdy_asp", "dtdy_avg", "resnet34_asp", "resnet34_avg", "thin_resnet34_se"]
OTHERS = [("ecapa_tdnn", {"channels": 16, "bands": 24, "bottleneck": 5, "fused": 24, "attention": 7, "embedding_dim": 6,
                          "scale": 4}),
          *(("resnet34_se", {"widths": [8, 8, 16, 24], "blocks": [1, 2, 1, 1], "deviation": deviation, "bands": 20,
                             "embedding_dim": 6}) for deviation in (True, False))]


def import_official(root, monkeypatch, path, exp):
    monkeypatch.setattr(sys, "argv", ["import_official.py", str(path), str(exp)])
    runpy.run_path(str(root / "steps/import_official.py"), run_name="program")["main"]()


@pytest.mark.parametrize(("name", "prefix", "classifier", "wrap"), [
    ("nexttdnn", "speaker_net.", "loss_function.weight", "state_dict"), ("nexttdnn_light", "", "", ""),
    ("dtdy_asp", "__S__.", "__L__.fc.weight", ""), ("dtdy_avg", "module.__S__.", "module.__L__.fc.weight", "model"),
    ("thin_resnet34_se", "__S__.", "__L__.weight", "model_state_dict"), ("rawnet2", "", "", ""),
    ("row1_resnext", "module.", "", "model"), ("row7_rawnext", "", "", "")])
def test_a_released_checkpoint_is_imported(root, parity, tmp_path, monkeypatch, name, prefix, classifier, wrap):
    z = np.load(parity / f"{name}.npz")
    state = {prefix + key: value for key, value in state_dict(z).items()}
    if classifier:
        state[classifier] = torch.zeros(1)
    torch.save({wrap: state} if wrap else state, tmp_path / "official.pt")
    import_official(root, monkeypatch, tmp_path / "official.pt", tmp_path / "exp")
    extractor = Extractor.from_pretrained(tmp_path / "exp", device="cpu")
    x = torch.from_numpy(z["x"])
    with torch.no_grad():
        found = extractor.model.embed(x.squeeze(1)) if x.ndim == 3 else extractor.model(x)
    assert error(found, z["emb_f64"]) < 2e-3
    assert extractor.embed(np.resize(x[0].numpy(), 20000)).shape == (extractor.embedding_dim,)
    info = json.loads((tmp_path / "exp/train_info.json").read_text())
    assert info["imported_from"] == "official.pt" and info["num_params"] > 0
    if name.startswith("row"):
        options = extractor.config.model
        assert options["official_gate"]
        assert options["cardinality"] == json.loads(str(z["meta"]))["configuration"]["cardinality"]
    with pytest.raises(InputError, match=r"exp/model.pt: already exists"):
        import_official(root, monkeypatch, tmp_path / "official.pt", tmp_path / "exp")


@pytest.mark.parametrize("name", RELEASED)
def test_any_prefix_gives_the_released_embedding(parity, request, name):
    folder = request.getfixturevalue("shared") / "parity" if name in ("rawnet3", "mr_rawnet") else parity
    z = np.load(folder / f"{name}.npz")
    official = state_dict(z)
    options, weights = recognise(official)
    model = MODELS.build(*split_name(options)).double().eval()
    model.load_state_dict(weights)
    x = torch.from_numpy(z["x"]).double()
    with torch.no_grad():
        found = model.embed(x.squeeze(1)) if x.ndim == 3 else model(x)
    assert error(found, z["emb_f64"]) < (1e-5 if "nexttdnn" in name else 1e-9)  # its 0.97 is a float32
    for prefix in PREFIXES:
        head = prefix.removesuffix("__S__.") + "__L__.weight" if "__S__." in prefix else f"{prefix}loss_function.weight"
        given = {prefix + key: value for key, value in official.items()} | {head: torch.zeros(3)}
        same_options, same_weights = recognise(given)
        assert same_options == options and same_weights.keys() == weights.keys()
        assert all(value is weights[key] for key, value in same_weights.items())


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("name", "options"), OTHERS)
def test_systems_without_released_numbers_are_imported(name, options, prefix):
    model = randomise(MODELS.build(name, options))
    inverse = [("features.mel.", "torchfbank.1." if name == "ecapa_tdnn" else "torchfb.1."), ("pooling.", ""),
               (r"\.se\.(\d)", r".se.fc.\1")]
    if name == "ecapa_tdnn":
        inverse[2] = (r"\.se\.([02])", lambda match: f".se.se.{int(match[1]) + 1}")
    official = {"torchfb.0.flipped_filter" if name == "resnet34_se" else "torchfbank.0.flipped_filter": torch.zeros(1)}
    for key, value in model.state_dict().items():
        for pattern, replacement in inverse:
            key = re.sub(pattern, replacement, key)
        official[key] = value
    found, weights = recognise({prefix + key: value for key, value in official.items()})
    assert found == {"name": name, **options}
    imported = MODELS.build(name, options).double().eval()
    imported.load_state_dict(weights)
    wave = torch.randn(2, 5000).double()
    with torch.no_grad():
        assert torch.equal(imported(wave), model(wave))


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_options_are_read_off_the_weights(name, options):
    def official(key):  # the inverse of renaming, for the keys that `recognise` reads
        return f"model.{key.replace('stem.', 'stem.0.')}" if key.startswith(("stem.", "stages.")) else (
            key.replace("features.mel.", "torchfb.").replace(".gate.", ".semodule.fc.0.").replace("pooling.att", "att"))

    state = MODELS.build(name, options).state_dict()
    assert recognise({official(key): value for key, value in state.items()})[0] == {"name": name, **options}


def test_unknown_checkpoints_are_refused(root, tmp_path, monkeypatch):
    state = MODELS.build(*OPTIONS[-1]).state_dict()
    mean_and_deviation = {key: value for key, value in state.items() if "attention" not in key}
    for content, why in (({**state, "fc.weight": torch.zeros(6, 11)}, "unknown pooling"),
                         (mean_and_deviation, "unknown pooling"),
                         ({**state, "layer2.7.bn1.weight": torch.zeros(8)}, r"numbered \[0, 1, 7\]"),
                         ({**state, "layer2.0.bn1.bias": torch.zeros(9)}, "size mismatch for layer2.0.bn1.bias"),
                         ({**state, "layer2.0.bn1.extra": torch.zeros(9)}, "unknown layer2.0.bn1.extra"),
                         ({"a": torch.zeros(1)}, "none of NeXt-TDNN"), ({"a": 1}, "holds no state dict"),
                         ({"level5.a": torch.zeros(1)}, "looks like RawNeXt or ResNeXt, but")):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(InputError, match=why):
            import_official(root, monkeypatch, tmp_path / "x.pt", tmp_path / "exp")
    assert not (tmp_path / "exp").exists()
