# SPDX-License-Identifier: Apache-2.0
import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from corpus import write_corpus

from rawnext.config import load_config
from rawnext.data.cuts import CutTable
from rawnext.errors import InputError
from rawnext.kaldi.ark import write_vectors
from rawnext.training.task import SpeakerTask
from rawnext.training.teacher import Teacher
from rawnext.training.trainer import Trainer

TINY = ["model={name: resnext, channels: [8, 8, 8, 8, 8, 8], blocks: [1, 1, 1, 1], cardinality: 4, embedding_dim: 8}",
        "batch.speakers=4", "crop.samples=2500", "crop.short_from=0", "train.epochs=1", "train.log_every=1"]
CPU = torch.device("cpu")


def write(folder, **vectors):
    write_vectors(folder / "x.ark", folder / "x.scp", [(key, np.array(x, np.float32)) for key, x in vectors.items()])
    return folder / "x.scp"


def test_an_utterances_own_embedding_precedes_its_speakers(tmp_path):
    teacher = Teacher(write(tmp_path, a1=[13, 4], b=[10, 2], c=[7, -6]), ["a1", "b1", "b2"], ["a", "b", "b"])
    assert teacher.dim == 2 and np.allclose(teacher[[0, 1, 2]], [[0.6, 0.8], [0, 1], [0, 1]]), "minus the mean (10, 0)"


def test_utterances_without_a_teacher_are_an_error(tmp_path):
    with pytest.raises(InputError, match="2 of 3 utterances have no embedding, .*; the first: b1 of b"):
        Teacher(write(tmp_path, a=[3, 4], c=[1, 1]), ["a1", "b1", "b2"], ["a", "b", "b"])
    with pytest.raises(InputError, match="b equals the mean of all vectors"):
        Teacher(write(tmp_path, a=[3, 4], b=[0, 0], c=[-3, -4]), ["a1"], ["a"])


def test_loss_is_one_minus_cosine_with_its_weight():
    torch.manual_seed(0)
    plain, taught = (SpeakerTask(load_config([], [*TINY, "train.teacher_weight=8"]), 4, dim) for dim in (0, 3))
    taught.model.load_state_dict(plain.model.state_dict())
    taught.losses.load_state_dict(plain.losses.state_dict())
    wave, label, target = torch.randn(8, 2500), torch.arange(4).repeat_interleave(2), torch.randn(8, 3)
    predicted = taught.student(taught.model(wave))
    expected = 8 * (1 - (F.normalize(predicted) * F.normalize(target)).sum(1)).mean()
    assert torch.allclose(taught(wave, label, target)[0] - plain(wave, label)[0], expected, rtol=1e-4)
    assert "student" not in str(taught.heads()) and not any("student" in key for key in taught.model.state_dict())


def test_a_student_learns_its_teacher_and_keeps_its_head_for_further_training(tmp_path, caplog):
    """Labels of no use, one teacher vector per speaker: what is learned comes from the teacher."""
    caplog.set_level(logging.INFO)
    corpus = CutTable(write_corpus(tmp_path / "train", num_speakers=4, num_utts=6))
    scp = write(tmp_path, s00=[1, 0], s01=[1, 0], s02=[-1, 0], s03=[-1, 0])
    config = load_config([], [*TINY, "train.teacher_weight=8", "losses=[{name: softmax, weight: 1e-9}]",
                              "optim.lr=5e-3", "train.epochs=8"])
    (tmp_path / "exp").mkdir()
    trainer = Trainer(config, corpus, {}, tmp_path / "exp", CPU, teacher=str(scp))
    trainer.run()
    losses = [row["loss"] for row in trainer.history]
    assert losses[-1] < 0.5 * losses[0]
    with pytest.raises(InputError, match="has checkpoints with .*x.scp as --teacher"):
        Trainer(config, corpus, {}, tmp_path / "exp", CPU).run()
    saved = torch.load(tmp_path / "exp/model.pt", weights_only=True)
    assert "student.weight" not in saved["model"] and set(saved["losses"]) == {"softmax"}

    def started(dim):
        task = SpeakerTask(config, 4, dim)
        task.initialise(tmp_path / "exp", trainer.speakers)
        return task.student
    assert all(torch.equal(value, saved["student"][name]) for name, value in started(2).state_dict().items())
    assert "the head for the teacher is kept: 18 weights" in caplog.text and started(3).weight.shape == (3, 8)
    assert "the head for the teacher is new: 27 weights" in caplog.text
    task = SpeakerTask(config, 4)
    task.initialise(tmp_path / "exp", trainer.speakers)
    assert task.student is None


def test_speakers_that_are_never_drawn_are_reported(tmp_path, caplog):
    folder = write_corpus(tmp_path / "train", num_speakers=5)
    lines = (folder / "cuts.jsonl").read_text().splitlines(keepends=True)
    (folder / "cuts.jsonl").write_text("".join(line for line in lines if '"s01-' not in line or '"s01-u0"' in line))
    Trainer(load_config([], TINY), CutTable(folder), {}, tmp_path / "exp", CPU)
    assert "1 of 5 speakers have fewer than batch.utts 2 utterances and are never drawn, the first: s01" in caplog.text
    caplog.clear()
    Trainer(load_config([], [*TINY, "batch.repeat=true"]), CutTable(folder), {}, tmp_path / "exp", CPU)
    assert "never drawn" not in caplog.text


def test_batches_are_smaller_if_the_speakers_do_not_fill_one(tmp_path, caplog):
    table = CutTable(write_corpus(tmp_path / "train", num_speakers=9))
    trainer = Trainer(load_config([], [*TINY, "batch.speakers=64"]), table, {}, tmp_path / "exp", CPU)
    assert trainer.config.batch.speakers == 4 and trainer.loader.num_steps(0) > 1
    assert "batch.speakers: 4 instead of 64, because 9 speakers have 2 utterances or more; --set batch.s" in caplog.text
    caplog.clear()
    full = Trainer(load_config([], [*TINY, "batch.speakers=9"]), table, {}, tmp_path / "exp", CPU)
    assert full.config.batch.speakers == 9 and not caplog.text
    few = [*TINY, "batch.speakers=64", "batch.utts=5"]
    with pytest.raises(InputError, match="0 speakers have 5 utterances or more, .*--set batch.repeat=true"):
        Trainer(load_config([], few), table, {}, tmp_path / "exp", CPU)
