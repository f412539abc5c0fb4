# SPDX-License-Identifier: Apache-2.0
"""Training from a trained experiment: weights that are kept, and errors."""

import logging
import runpy
import sys

import pytest
import torch
from corpus import write_corpus

from rawnext.config import load_config, save_config
from rawnext.data.cuts import CutTable
from rawnext.errors import InputError
from rawnext.export.release import export_safetensors
from rawnext.training import checkpoint
from rawnext.training.dataset import EpochDataset
from rawnext.training.task import SpeakerTask, build_task
from rawnext.training.trainer import Trainer

MODEL = "{name: rawnext, channels: [8, 8, 16, 16, 16, 16], cardinality: 8, embedding_dim: 8, blocks: [1, 1, 1, 1], " \
        "dla: false, elastic: false, up: false, gate: false}"
TINY = ["batch.speakers=4", "crop.samples=2500", "crop.short_from=0", "train.epochs=1", "train.log_every=1"]
LOSSES = "losses=[{name: aam}, {name: angular_prototypical}]"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "train", num_speakers=5, num_utts=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpus):
    """An experiment trained for one epoch."""
    exp = tmp_path_factory.mktemp("trained")
    config = load_config([], [f"model={MODEL}", LOSSES, *TINY])
    save_config(config, exp / "config.yaml")
    Trainer(config, CutTable(corpus), {}, exp, CPU).run()
    return exp


def start(trained, corpus, exp, *overrides):
    """A Trainer on the corpus, initialised from `trained`, not yet run."""
    config = load_config([], [LOSSES, *TINY, *overrides], trained)
    trainer = Trainer(config, CutTable(corpus), {}, exp, CPU, init=str(trained))
    trainer.task.initialise(trained, trainer.speakers)
    return trainer


def test_training_starts_from_an_exported_model(trained, corpus, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    export_safetensors(trained, tmp_path / "release", "cc-by-4.0")
    assert same(start(tmp_path / "release", corpus, tmp_path / "exp").task.model.state_dict(),
                checkpoint.load_state(trained)["model"])
    assert "the head of aam is new (40 weights): that experiment saved none (it has: nothing)" in caplog.text


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_same_speakers_keep_the_head(trained, corpus, tmp_path, caplog):
    """The first loss equals that of the final weights of the old training."""
    caplog.set_level(logging.INFO)
    task = start(trained, corpus, tmp_path).task
    old = SpeakerTask(load_config([trained / "config.yaml"]), 5)
    old.load_state_dict(checkpoint.load_newest(trained / "checkpoints")["task"])
    assert same(task.state_dict(), old.state_dict())
    assert "the head of aam is kept: 40 weights, 5 speakers" in caplog.text
    assert f"starting from {trained}: {sum(v.numel() for v in old.model.state_dict().values())} weights" in caplog.text
    batch = EpochDataset(CutTable(corpus), load_config([], TINY), {}, 0, 0, 1)[0]
    losses = []
    for each in (task, old):
        each.eval()
        losses.append(float(each(batch["wave"], batch["label"])[0].detach()))
    assert losses[0] == losses[1]


def test_a_larger_margin_keeps_the_head(trained, corpus, tmp_path, root):
    config = load_config([root / "conf" / "large_margin.yaml"], TINY, trained)
    task = build_task(config, 5)
    task.initialise(trained, checkpoint.load(trained / "model.pt")["speakers"])
    assert task.losses[0].margin == 0.5
    assert same(task.losses[0].state_dict(), checkpoint.load(trained / "model.pt")["losses"]["aam"])


def test_other_speakers_get_a_new_head(trained, tmp_path, caplog):
    """The model and the weights of a metric loss, which do not depend on the speakers, are kept."""
    caplog.set_level(logging.INFO)
    torch.manual_seed(1)
    task = start(trained, write_corpus(tmp_path / "others", 6, 4), tmp_path).task
    then = checkpoint.load(trained / "model.pt")
    assert same(task.model.state_dict(), then["model"])
    assert task.losses[0].weight.shape == (6, 8)
    assert "the head of aam is new (48 weights): its 6 speakers are not the 5 of that experiment" in caplog.text
    assert same(task.losses[1].state_dict(), then["losses"]["angular_prototypical"])


def test_reordered_speakers_get_a_new_head(trained, corpus, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    trainer = start(trained, corpus, tmp_path)
    task = build_task(trainer.config, 5)
    task.initialise(trained, trainer.speakers[::-1])  # the same speakers with other labels
    assert not torch.equal(task.losses[0].weight, trainer.task.losses[0].weight)


@pytest.mark.parametrize(("loss", "why"), [
    ("softmax", "that experiment saved none (it has: aam, angular_prototypical)"),
    ("aam, subcenters: 2", "that experiment's head has other shapes")])
def test_another_loss_gets_a_new_head(trained, corpus, tmp_path, caplog, loss, why):
    caplog.set_level(logging.INFO)
    start(trained, corpus, tmp_path, f"losses=[{{name: {loss}}}]")
    assert f"the head of {loss.split(',')[0]} is new" in caplog.text and why in caplog.text


def test_a_model_file_without_losses(trained, corpus, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    old = checkpoint.load(trained / "model.pt")
    del old["losses"]
    checkpoint.save(tmp_path / "model.pt", old)
    (tmp_path / "config.yaml").write_text((trained / "config.yaml").read_text())
    task = start(tmp_path, corpus, tmp_path / "new").task
    assert same(task.model.state_dict(), old["model"])
    assert "the head of aam is new (40 weights): that experiment saved none (it has: nothing)" in caplog.text


def test_own_checkpoints_take_precedence(trained, corpus, tmp_path, caplog):
    """A run that continues ignores --init with a log line; its checkpoints keep the original init."""
    config = load_config([], [LOSSES, *TINY, "train.epochs=1"], trained)
    Trainer(config, CutTable(corpus), {}, tmp_path, CPU, init=str(trained)).run()
    first = checkpoint.load(tmp_path / "model.pt")
    assert not same(first["model"], checkpoint.load(trained / "model.pt")["model"])
    caplog.set_level(logging.INFO)
    again = Trainer(config, CutTable(corpus), {}, tmp_path, CPU, init="exp/other")
    assert not again.run()
    assert same(again.task.model.state_dict(), first["model"])
    assert again.init == str(trained)
    assert f"--init exp/other is ignored: this run continues; it was started from {trained}" in caplog.text


def test_init_sets_the_model_unless_another_is_configured(trained, tmp_path):
    assert load_config([], [], trained).model == load_config([trained / "config.yaml"]).model
    assert load_config([], ["train.epochs=3"], trained).losses == [{"name": "softmax"}]
    (tmp_path / "a.yaml").write_text("model: {name: resnext}\n")
    assert load_config([tmp_path / "a.yaml"], [], trained).model == {"name": "resnext"}


@pytest.fixture
def train(root, monkeypatch, capsys):
    """Run steps/train.py in this process: options -> (exit status, stderr)."""
    def run(*options):
        monkeypatch.setattr("rawnext.log.setup_log", lambda: None)  # leaves pytest's own logging as it is
        monkeypatch.setattr(sys, "argv", [str(root / "steps" / "train.py"), *map(str, options)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(sys.argv[0], run_name="__main__")
        return caught.value.code, capsys.readouterr().err

    return run


def test_mismatched_model_is_a_one_line_error(train, trained, corpus, tmp_path):
    status, stderr = train("--check", "--init", trained, "--set", "model.embedding_dim=16", "-")
    assert status == 1 and stderr.count("\n") == 1
    assert stderr.startswith(f"train.py: {trained}/model.pt: does not fit the configured model: ")
    part = checkpoint.load(trained / "model.pt")
    part["model"].popitem()
    checkpoint.save(tmp_path / "model.pt", part)
    with pytest.raises(InputError, match="does not fit the configured model: Missing key"):
        checkpoint.load_weights(build_task(load_config([trained / "config.yaml"]), 5).model, tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_config([], [], tmp_path / "none")
    status, stderr = train("--init", trained, "--train", corpus, f"{trained}/../{trained.name}")
    assert status == 1 and "cannot start from its own folder" in stderr


@pytest.mark.parametrize(("options", "why"), [
    (["model={name: rawnext, channels: 3}"], "model rawnext cannot be built with channels: 3: "),
    ([f"model={MODEL}", "losses=[{name: aam, subcenters: x}]"], "loss aam cannot be built with subcenters: x: "),
    ([f"model={MODEL}", "losses=[{name: ge2e}]", "batch.utts=1"], "loss ge2e cannot be built with utts_per_speaker: ")])
def test_wrong_values_are_one_line_errors(options, why):
    with pytest.raises(InputError, match=f"^configuration: {why}") as caught:
        build_task(load_config([], options), 4)
    assert "\n" not in str(caught.value)


def test_train_info_records_init(train, trained, corpus, tmp_path):
    status, stderr = train("--init", trained, "--set", f"'{LOSSES}' {' '.join(TINY)}", "--train", corpus,
                           "--num-workers", "0", "--num-threads", "1", tmp_path)
    assert status == 0, stderr
    assert f'"init": "{trained}"' in (tmp_path / "train_info.json").read_text()
