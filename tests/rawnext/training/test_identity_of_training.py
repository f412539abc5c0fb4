# SPDX-License-Identifier: Apache-2.0
"""A training continues only as what it was begun as, and its files are those of its own result."""

import json
import shutil

import numpy as np
import pytest
import torch
from corpus import write_corpus

from rawnext.config import load_config
from rawnext.data.cuts import CutTable
from rawnext.errors import InputError
from rawnext.kaldi.ark import write_vectors
from rawnext.training import checkpoint
from rawnext.training.trainer import FIXED, Trainer

TINY = ["model={name: resnext, channels: [8, 8, 8, 8, 8, 8], blocks: [1, 1, 1, 1], cardinality: 4, embedding_dim: 8}",
        "batch.speakers=4", "crop.samples=2500", "crop.short_from=0", "train.epochs=2", "train.average=2"]


class Stopped(Exception):
    pass


def train(exp, data, *options, epochs=9, **more):
    """Train in a folder, and stop after some epochs of this run, as if killed."""
    class Watched(Trainer):
        def run_epoch(self):
            nonlocal epochs
            if not epochs:
                raise Stopped
            epochs -= 1
            super().run_epoch()

    trainer = Watched(load_config([], [*TINY, *options]), CutTable(data), more.pop("banks", {}), exp,
                      torch.device("cpu"), **more)
    try:
        trainer.run()
    except Stopped:
        return trainer, False
    return trainer, True


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A folder of data, and exp/ trained for the first of two epochs with a teacher, in `x.scp`."""
    folder = tmp_path_factory.mktemp("half")
    write_corpus(folder / "data", num_speakers=5, num_utts=4, seconds=0.3)
    write_vectors(folder / "x.ark", folder / "x.scp", [(f"s{n:02d}", np.eye(5)[n]) for n in range(5)])
    assert not train(folder / "exp", folder / "data", epochs=1, teacher=str(folder / "x.scp"))[1]
    return folder


@pytest.fixture
def exp(half, tmp_path):
    """A copy of exp/ for one test."""
    return shutil.copytree(half / "exp", tmp_path / "exp")


OPTIONS = {"epochs": 3, "average": 1, "ema": 0.9, "accumulate": 2, "sync_batchnorm": "false", "margin_from": 0.5,
           "margin_full": 1.5, "teacher_weight": 2.0}


@pytest.mark.parametrize("name", FIXED)
def test_an_option_that_changes_the_result_is_refused_by_name(half, exp, name):
    before = (exp / "config.yaml").read_bytes()
    more = {"ema": ["train.average=0"], "margin_from": ["train.margin_full=0.5"]}.get(name, [])
    with pytest.raises(InputError, match=rf"has checkpoints with .*train.{name} \S+, not {OPTIONS[name]}".replace(
            "false", "False")):
        train(exp, half / "data", f"train.{name}={OPTIONS[name]}", *more, teacher=str(half / "x.scp"))
    assert (exp / "config.yaml").read_bytes() == before


def test_what_changes_only_speed_and_rounding_is_recorded_for_each_run(half, exp, monkeypatch):
    monkeypatch.setenv("RAWNEXT_COMMAND", "run.sh --another")
    trainer, done = train(exp, half / "data", "train.amp=bf16", "train.log_every=1", teacher=str(half / "x.scp"))
    first, second = trainer.origin()["runs"]
    assert done and "precision=float32" in first and "precision=bfloat16" in second
    assert first.startswith("from step 0: device=") and second.startswith("from step 2: device=")
    assert trainer.origin()["command"] != "run.sh --another", "that of the first run"
    again, _ = train(exp, half / "data", "train.amp=none", teacher=str(half / "x.scp"))
    assert again.origin() == trainer.origin(), "nothing was trained"


def swap_audio(folder, half):
    """Two speakers' recordings exchanged under the same ids, with the same lengths."""
    text = (half / "data/cuts.jsonl").read_text()
    for old, new in (("s00-u0.wav", "@"), ("s01-u0.wav", "s00-u0.wav"), ("@", "s01-u0.wav")):
        text = text.replace(old, new)
    (folder / "data").mkdir()
    (folder / "data/cuts.jsonl").write_text(text)
    return folder / "data"


def test_audio_assigned_to_other_ids_is_other_data(half, exp, tmp_path):
    data = swap_audio(tmp_path, half)
    with pytest.raises(InputError, match=f"has checkpoints of other training data than {data}/cuts.jsonl"):
        train(exp, data, teacher=str(half / "x.scp"))


def test_another_teacher_or_noise_of_the_same_name_is_other_data(half, exp, tmp_path):
    write_vectors(tmp_path / "x.ark", tmp_path / "x.scp", [(f"s{n:02d}", np.eye(5)[4 - n]) for n in range(5)])
    state = checkpoint.load_newest(exp / "checkpoints")
    checkpoint.save_step(exp / "checkpoints", state["step"], {**state, "teacher": str(tmp_path / "x.scp")}, 3)
    with pytest.raises(InputError, match="has checkpoints of other data for teacher"):
        train(exp, half / "data", teacher=str(tmp_path / "x.scp"))
    with_noise = {"banks": {"musan_noise": CutTable(half / "data")}}
    train(tmp_path / "noisy", half / "data", epochs=1, **with_noise)
    with pytest.raises(InputError, match="has checkpoints of other data for musan_noise"):
        train(tmp_path / "noisy", half / "data", banks={"musan_noise": CutTable(swap_audio(tmp_path, half))})


def test_checkpoints_of_early_versions_state_neither_data_nor_runs(half, exp):
    state = checkpoint.load_newest(exp / "checkpoints")
    del state["data"], state["runs"]
    options = json.loads(state["config"])
    for name in ("accumulate", "sync_batchnorm", "margin_from", "margin_full", "teacher_weight"):
        del options[name]
    checkpoint.save_step(exp / "checkpoints", state["step"], {**state, "config": json.dumps(options)}, 3)
    trainer, done = train(exp, half / "data", teacher=str(half / "x.scp"))
    assert done and len(trainer.origin()["runs"]) == 1


def test_a_configuration_edited_after_training_is_refused(half, exp):
    train(exp, half / "data", teacher=str(half / "x.scp"))
    path, text = exp / "config.yaml", (exp / "config.yaml").read_text()
    path.write_text(text.replace("segments: 10", "segments: 5"))  # of extraction
    train(exp, half / "data", teacher=str(half / "x.scp"))
    path.write_text(text.replace("lr: 0.001", "lr: 0.002"))
    with pytest.raises(InputError, match="config.yaml: has optim.lr 0.002, not 0.001, with which"):
        train(exp, half / "data", teacher=str(half / "x.scp"))
    path.unlink()
    train(exp, half / "data", teacher=str(half / "x.scp"))
    assert path.read_text() == text


def test_a_replaced_model_is_renamed_and_the_result_written_again(half, exp, caplog):
    train(exp, half / "data", teacher=str(half / "x.scp"))
    content = checkpoint.load(exp / "model.pt")
    name = next(name for name, value in content["model"].items() if value.is_floating_point())
    other = {**content, "model": {**content["model"], name: content["model"][name] + 1}}  # of the same step
    checkpoint.save(exp / "model.pt", other)
    assert train(exp, half / "data", teacher=str(half / "x.scp"))[1]
    assert "model.pt is not the result of this training; it becomes model.pt.old" in caplog.text
    for path, expected in (("model.pt", content), ("model.pt.old", other)):
        assert torch.equal(checkpoint.load(exp / path)["model"][name], expected["model"][name])
