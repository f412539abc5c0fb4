# SPDX-License-Identifier: Apache-2.0
"""Every system in conf/ trains for a few steps, at its full width on a tiny batch."""

from pathlib import Path

import pytest
import torch
from corpus import write_corpus

from rawnext.data.cuts import CutTable
from rawnext.training.dataset import EpochDataset
from rawnext.training.system import load_system
from rawnext.training.trainer import Trainer

CONF = Path(__file__).resolve().parents[1] / "conf"
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.glob("**/*.yaml"))
BASES = {"augment.yaml": ["rawnext_aam.yaml"], "large_margin.yaml": ["rawnext_aam.yaml"],  # what a part extends
         "small/robust.yaml": ["small/rawnext.yaml"]}
TINY = {"optim.lr=1e-3", "optim.final_lr=0", "optim.schedule=cosine", "batch.speakers=2", "crop.samples=4000",
           "crop.short_from=0", "crop.start_samples=0", "train.margin_from=0", "train.margin_full=0"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder / "train", num_speakers=4, num_utts=4, seconds=0.5)
    bank = CutTable(write_corpus(folder / "bank", num_speakers=1, num_utts=2, seconds=0.3))
    return CutTable(folder / "train"), dict.fromkeys(("musan_noise", "musan_music", "musan_speech", "rirs"), bank)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("_lda.yaml")])  # no network to train
def test_configuration_trains(name, tables, tmp_path):
    bases = BASES.get(name, ["csv/training.yaml"] if name.startswith("csv/") else [])
    config = load_system([CONF / part for part in [*bases, name]], sorted(TINY))
    table, banks = tables
    torch.manual_seed(0)
    trainer = Trainer(config, table, banks, tmp_path, torch.device("cpu"))
    before = {key: p.detach().clone() for key, p in trainer.task.named_parameters()}
    data = EpochDataset(table, config, banks, 0, 0, 1)
    trainer.parallel.train()
    for step in range(2):
        trainer.run_step(data[step], data.num_steps)
    assert torch.isfinite(trainer.sums["loss"])
    moved = [key for key, p in trainer.task.named_parameters() if not torch.equal(p, before[key])]
    assert len(moved) > 0.8 * len(before), "nearly all of the network learns (a dead ReLU may not)"


def test_small_systems_share_one_budget_and_normalise_the_level():
    small = [load_system([CONF / name]) for name in FILES
             if name.startswith("small/") and "_lda" not in name and name not in BASES]
    assert len(small) >= 10
    for config in small:
        assert (config.batch, config.crop, config.optim, config.train, config.losses) == (
            small[0].batch, small[0].crop, small[0].optim, small[0].train, small[0].losses)
        assert config.model["level"] == 0.05
