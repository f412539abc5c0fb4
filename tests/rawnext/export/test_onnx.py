# SPDX-License-Identifier: Apache-2.0
"""ONNX files: any batch size, any length, masks, and refusal of files that differ from PyTorch."""

import logging

import numpy as np
import onnx
import pytest
import torch
from corpus import voice
from model_checks import randomise

from rawnext.errors import InputError
from rawnext.export import onnx as export
from rawnext.inference.extract import embed_native
from rawnext.models import MODELS
from rawnext.models.features import LogMel

RAWNEXT = {"channels": [8, 8, 16, 16, 16, 16], "blocks": [2, 2, 2, 2], "cardinality": 8, "embedding_dim": 8}
SYSTEMS = [("rawnext", {**RAWNEXT, "level": 0.05}),
           ("rawnet2", {"channels": [8] * 6, "blocks": [1] * 6, "embedding_dim": 8}),
           ("rawnet3", {"channels": 32, "filters": 16, "fused": 32, "attention": 8, "embedding_dim": 8}),
           ("mr_rawnet", {"filters": 8, "channels": 8, "fused": 16, "attention": 8, "embedding_dim": 8,
                          "blocks": [1, 1, 1]}),
           ("ecapa_tdnn", {"channels": 32, "fused": 32, "embedding_dim": 8}),
           ("resnet34", {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "embedding_dim": 8})]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), SYSTEMS, ids=lambda value: value if isinstance(value, str) else "")
def test_embeddings_equal_the_models(name, options, tmp_path, monkeypatch, capfd):
    model, path = randomise(MODELS.build(name, options)).float(), tmp_path / "new" / "model.onnx"
    monkeypatch.setattr(export, "SECONDS", (0.1, 0.5))
    # the logarithm of a sinc filter's output near 0 magnifies the rounding of float32
    tolerance = 1e-3 if name in ("rawnet3", "mr_rawnet") else 2e-4
    assert export.write_onnx(model, path, {"made_from": "a test"}) < tolerance / 2
    assert capfd.readouterr() == ("", "") and [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    assert {prop.key: prop.value for prop in onnx.load(path).metadata_props} == {"made_from": "a test"}
    runtime = export.runtime(path)
    waves = [voice(i, 0, seconds) for i, seconds in enumerate((0.1, 0.137, 0.5, 1, 2, 3.7, 10, 30))]
    batch = np.full((5, len(waves[4]) + 77), 0.5, dtype=np.float32)  # the padding must not matter
    for row, wave in zip(batch, waves):
        row[: len(wave)] = wave
    together = runtime(batch, np.array([len(wave) for wave in waves[:5]]))
    for i, (wave, expected) in enumerate(zip(waves, embed_native(model, waves))):
        found = [runtime(wave[None], np.array([len(wave)]))[0], *together[i : i + 1]]
        assert all(np.abs(vector - expected).max() < tolerance * np.abs(expected).max() for vector in found)


@pytest.mark.slow
def test_matrices_of_8_bits(tmp_path, monkeypatch, capfd, caplog):
    """A smaller file with integer products and float convolutions, whose embeddings are near the model's."""
    caplog.set_level(logging.WARNING)   # as without the INFO of programs that other tests ran in this process
    name, options = SYSTEMS[4]
    model = randomise(MODELS.build(name, {**options, "channels": 128})).float()
    monkeypatch.setattr(export, "SECONDS", (0.1, 0.5))
    small, large = tmp_path / "int8.onnx", tmp_path / "float.onnx"
    assert 1e-3 < export.write_onnx(model, small, {"made_from": "a test"}, int8=True) < 0.2
    export.write_onnx(model, large, {})
    assert capfd.readouterr() == ("", "") and {path.name for path in tmp_path.iterdir()} == {small.name, large.name}
    assert small.stat().st_size < 0.9 * large.stat().st_size
    file = onnx.load(small)
    kinds = {node.op_type for node in file.graph.node}
    assert "MatMulInteger" in kinds and "Conv" in kinds and "ConvInteger" not in kinds
    assert {prop.key: prop.value for prop in file.metadata_props} == {"made_from": "a test"}
    monkeypatch.setattr(export, "MAX_DIFFERENCE_INT8", 1e-4)
    with pytest.raises(RuntimeError, match="differ from PyTorch"):
        export.write_onnx(model, tmp_path / "new.onnx", {}, int8=True)


def test_mel_energies_without_complex_numbers():
    features = LogMel(40, 20, 7600, norm="none")
    wave = torch.randn(2, 5000)
    found, expected = export.RealMel(features.mel)(wave), features.mel(wave)
    assert found.shape == expected.shape and (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_differing_file_is_not_written(tmp_path, monkeypatch):
    model = MODELS.build("rawnet2", SYSTEMS[1][1]).eval()
    monkeypatch.setattr(export, "SECONDS", (0.1,))
    wrong = MODELS.build("rawnet2", SYSTEMS[1][1]).eval()
    write = export.trace
    monkeypatch.setattr(export, "trace", lambda model, path: write(wrong, path))
    with pytest.raises(RuntimeError, match="differ from PyTorch"):
        export.write_onnx(model, tmp_path / "model.onnx", {})
    assert not list(tmp_path.iterdir())


def test_a_killed_export_leaves_the_old_file(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    (tmp_path / "model.onnx").write_text("old")
    monkeypatch.setattr(export, "SECONDS", (0.1,))
    monkeypatch.setattr("os.replace", kill)
    with pytest.raises(Killed):
        export.write_onnx(MODELS.build("rawnet2", SYSTEMS[1][1]).eval(), tmp_path / "model.onnx", {})
    assert (tmp_path / "model.onnx").read_text() == "old"


def test_unsupported_models_and_missing_packages_are_reported(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="not a network"):
        export.write_onnx(MODELS.build("mel_stats", {}), tmp_path / "model.onnx", {})
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime is not installed: pip install 'rawnext\[onnx\]'"):
        export.write_onnx(MODELS.build("mel_stats", {}), tmp_path / "model.onnx", {})
