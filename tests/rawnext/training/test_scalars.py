# SPDX-License-Identifier: Apache-2.0
"""Weights & Biases gets the curves that tensorboard gets."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from corpus import write_corpus
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rawnext.config import load_config
from rawnext.data.cuts import CutTable
from rawnext.errors import InputError
from rawnext.training.trainer import Trainer

TINY = ["model={name: resnext, channels: [8, 8, 8, 8, 8, 8], blocks: [1, 1, 1, 1], cardinality: 4, embedding_dim: 8}",
        "batch.speakers=4", "crop.samples=2500", "crop.short_from=0", "train.epochs=2", "train.log_every=1",
        "train.wandb=voices"]


@pytest.fixture
def train(tmp_path):
    table = CutTable(write_corpus(tmp_path / "train", num_speakers=5, num_utts=4))

    def call():
        Trainer(load_config([], TINY), table, {}, tmp_path / "exp", torch.device("cpu"),
                validate=lambda model: {"eer_dev": 2.5, "min_dcf_dev": 0.5}).run()
        return tmp_path / "exp"
    return call


def fake(monkeypatch, init):
    module = ModuleType("wandb")
    module.__spec__, module.init = ModuleSpec("wandb", None), init
    monkeypatch.setitem(sys.modules, "wandb", module)


def test_all_curves_of_tensorboard(train, monkeypatch):
    started, logged = [], []

    def init(**options):
        started.append(options)
        return SimpleNamespace(log=lambda values, step: logged.extend((name, step, values[name]) for name in values))

    fake(monkeypatch, init)
    exp = train()
    (options,) = started
    assert options["project"] == "voices" and options["name"] == options["group"] == exp.name
    assert options["dir"] == str(exp) and options["config"]["train"]["epochs"] == 2
    events = EventAccumulator(str(exp / "tensorboard"))
    events.Reload()
    found = [(name, event.step, event.value) for name in events.Tags()["scalars"] for event in events.Scalars(name)]
    assert {name for name, _, _ in found} == {"loss", "acc", "utts_per_s", "data_wait", "lr", "eer_dev"}
    assert sorted(found) == [(name, step, pytest.approx(value)) for name, step, value in sorted(logged)]
    assert [step for name, step, _ in logged if name == "loss"] == [1, 2, 3, 4]


def test_no_package_and_no_account_are_one_line(train, monkeypatch):
    fake(monkeypatch, lambda **options: 1 / 0)
    with pytest.raises(InputError, match="^train.wandb: W&B: division by zero$"):
        train()
    monkeypatch.delitem(sys.modules, "wandb")
    monkeypatch.setattr("rawnext.training.scalars.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^train.wandb: wandb is not installed: pip install 'rawnext\[wandb\]'$"):
        train()
