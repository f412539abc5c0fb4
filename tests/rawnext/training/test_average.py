# SPDX-License-Identifier: Apache-2.0
"""Averages of weights: the mean of the last epochs and the moving average, killed or not."""

import json
import logging

import pytest
import torch
from corpus import write_corpus

from rawnext.config import Config, load_config
from rawnext.data.cuts import CutTable
from rawnext.errors import InputError
from rawnext.training import checkpoint
from rawnext.training.trainer import Trainer

TINY = ["model={name: resnext, channels: [8, 8, 8, 8, 8, 8], blocks: [1, 1, 1, 1], cardinality: 4, embedding_dim: 8}",
        "batch.speakers=4", "crop.samples=2500", "crop.short_from=0", "train.epochs=4", "train.save_every=1"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return CutTable(write_corpus(tmp_path_factory.mktemp("corpus") / "train", num_speakers=5, num_utts=4))


class Killed(Exception):
    pass


def train(table, exp, option, kill_at=None):
    """The weights of model.pt, and those after each step and epoch."""
    steps, epochs = [], []

    class Watched(Trainer):
        def run_step(self, batch, steps_per_epoch):
            if self.step == kill_at:
                raise Killed
            super().run_step(batch, steps_per_epoch)
            steps.append(copy_of(self.task.model))

        def end_epoch(self):
            epochs.append(copy_of(self.task.model))
            super().end_epoch()

    trainer = Watched(load_config([], [*TINY, option]), table, {}, exp, torch.device("cpu"),
                      validate=lambda model: {"eer_dev": 1.0 + model.training, "min_dcf_dev": 0.5})
    trainer.run()
    return checkpoint.load(exp / "model.pt")["model"], steps, epochs


def copy_of(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def close(one, other):
    return all(torch.allclose(one[key].double(), other[key], rtol=1e-5, atol=1e-6) for key in one)


def test_mean_of_the_last_epochs(table, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    model, _, epochs = train(table, tmp_path, "train.average=3")
    expected = {key: torch.stack([state[key].double() for state in epochs[-3:]]).mean(0) for key in model}
    assert close({key: x for key, x in model.items() if x.is_floating_point()}, expected)
    assert not torch.equal(model["fc.weight"], epochs[-1]["fc.weight"])
    assert "eer_dev=1 min_dcf_dev=0.5 of the mean of the last epochs (3)" in caplog.text


def test_moving_average(table, tmp_path):
    model, steps, _ = train(table, tmp_path, "train.ema=0.7")
    expected = {key: x.double() for key, x in steps[0].items()}
    for state in steps[1:]:
        expected = {key: 0.7 * x + 0.3 * state[key].double() for key, x in expected.items()}
    assert close({key: x for key, x in model.items() if x.is_floating_point()}, expected)


@pytest.mark.parametrize("option", ["train.average=3", "train.ema=0.7"])
def test_a_killed_training_has_the_same_average(table, tmp_path, option):
    whole, steps, _ = train(table, tmp_path / "whole", option)
    for kill_at in (3, len(steps) - 1):
        with pytest.raises(Killed):
            train(table, tmp_path / "killed", option, kill_at)
    again, _, _ = train(table, tmp_path / "killed", option)
    assert all(torch.equal(whole[key], again[key]) for key in whole)


@pytest.mark.parametrize(("options", "why"), [
    (["train.average=9", "train.epochs=3"], "train.average: 0...train.epochs"), (["train.ema=1"], "train.ema: from 0"),
    (["train.ema=0.9", "train.average=2"], "one of them must be 0")])
def test_averages_that_make_no_sense_are_refused(options, why):
    with pytest.raises(InputError, match=why):
        load_config([], options)


def test_a_checkpoint_from_before_an_option_existed_continues(table, tmp_path):
    train(table, tmp_path, "train.average=0")
    path = max((tmp_path / "checkpoints").glob("*.pt"))
    state = checkpoint.load(path)
    options = json.loads(state["config"])
    for name in ("average", "ema"):
        del options[name]
    for name in ("speeds", "repeat", "min_utts_per_speaker"):
        del options["batch"][name]
    state["config"] = json.dumps(options)
    checkpoint.save(path, state)
    trainer = Trainer(load_config([], TINY), table, {}, tmp_path, torch.device("cpu"))
    assert not trainer.run(), "it was finished"
    changed = Trainer(load_config([], [*TINY, "batch.repeat=true"]), table, {}, tmp_path, torch.device("cpu"))
    with pytest.raises(InputError, match="has checkpoints with batch.repeat False, not True: choose"):
        changed.run()
    assert Config().batch.repeat is False
