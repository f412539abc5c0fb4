# SPDX-License-Identifier: Apache-2.0
"""A run continued in the middle of an epoch equals an uninterrupted one, bit by bit, for every network and loss."""

import shutil

import pytest
import torch
from corpus import write_corpus
from small_models import SMALL_MODELS, small

from rawnext.config import load_config
from rawnext.data.cuts import CutTable
from rawnext.errors import InputError
from rawnext.losses import LOSSES
from rawnext.training import checkpoint
from rawnext.training.trainer import SCHEMA, Trainer

CASES = [*({"name": name} for name in LOSSES), {"name": "triplet", "hard_rank": -1},
         {"name": "triplet", "mining": "all"}]
OPTIONS = ["batch.speakers=4", "crop.samples=1900", "crop.short_from=1600", "train.epochs=1", "train.save_every=1",
           "train.keep=9", "optim.name=sgd"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return CutTable(write_corpus(tmp_path_factory.mktemp("corpus") / "train", num_speakers=6, num_utts=4, seconds=0.2))


def train(model, losses, table, exp, workers=0):
    """Trains in the folder and returns the last checkpoint."""
    config = load_config([], OPTIONS)
    config.model, config.losses = model, losses
    Trainer(config, table, {}, exp, torch.device("cpu"), workers).run()
    return checkpoint.load(checkpoint.checkpoints(exp / "checkpoints")[0])


def continued(whole, exp, step=1):
    """The folder of a run with the checkpoint of this step as its last."""
    (exp / "checkpoints").mkdir(parents=True)
    shutil.copy(whole / "checkpoints" / f"step-{step:08d}.pt", exp / "checkpoints")
    return exp


def assert_equal(one, other):
    assert one["step"] == other["step"] == 3
    for key in ("task", "generators"):
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, equal_nan=False)
    torch.testing.assert_close(one["optimizer"]["state"], other["optimizer"]["state"], rtol=0, atol=0)
    for key in ("loss", "acc"):
        assert one["history"][0][key] == other["history"][0][key]


def check(model, losses, table, folder, workers):
    whole = train(model, losses, table, folder / "whole", workers)
    assert_equal(train(model, losses, table, continued(folder / "whole", folder / "continued"), workers), whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", SMALL_MODELS)
def test_networks_with_the_sum_of_all_losses(table, tmp_path, name, workers):
    check(small(name), CASES, table, tmp_path, workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_losses_with_a_network_that_draws_masks(table, tmp_path, loss, workers):
    check(small("next_tdnn"), [loss], table, tmp_path, workers)


def rewritten(exp, change):
    (path,) = checkpoint.checkpoints(exp / "checkpoints")
    checkpoint.save(path, change(checkpoint.load(path)))


def test_checkpoints_of_earlier_versions_continue(table, tmp_path):
    """They have the generators in another form, and no schema."""
    def older(state):
        del state["schema"]
        return state | {"random": [state.pop("generators")[0]]}

    model, losses = small("next_tdnn"), [{"name": "triplet"}]
    whole = train(model, losses, table, tmp_path / "whole")
    exp = continued(tmp_path / "whole", tmp_path / "continued")
    rewritten(exp, older)
    assert_equal(train(model, losses, table, exp), whole)


def test_checkpoints_of_later_versions_are_refused(table, tmp_path):
    model, losses = small("convmixer"), [{"name": "softmax"}]
    train(model, losses, table, tmp_path / "whole")
    exp = continued(tmp_path / "whole", tmp_path / "continued")
    rewritten(exp, lambda state: state | {"schema": SCHEMA + 1})
    with pytest.raises(InputError, match=r"has checkpoints of a later version \(schema 3; this one reads up to 2\)"):
        train(model, losses, table, exp)
