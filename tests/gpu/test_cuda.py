# SPDX-License-Identifier: Apache-2.0
"""Models, losses, augmentation, training and extraction on a CUDA device, compared with the CPU.

RAWNEXT_GPU_DRY=1 runs these tests on the CPU instead of skipping them, which tests the tests.
"""

import dataclasses
import os
import re
import signal
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from corpus import voice, write_corpus
from model_checks import error, randomise
from small_models import SMALL_MODELS, UNTRAINED, small
from tiny_model import write_experiment

from rawnext.config import Config, Extract, split_name
from rawnext.data.cuts import CutTable
from rawnext.inference.extract import embed_all, load_model
from rawnext.losses import LOSSES
from rawnext.models import MODELS
from rawnext.models.folded import folded
from rawnext.training.dataset import EpochDataset, epoch_loader, to_device
from rawnext.training.system import load_system
from rawnext.training.task import build_task
from rawnext.training.trainer import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

TINY = {"name": "rawnext", "channels": [8, 8, 16, 16, 16, 16], "cardinality": 8, "embedding_dim": 8}
CASES = [["music", "reverb"], ["reverb", "babble"], ["noise", "reverb", "music", "reverb"], []]


@pytest.fixture
def device():
    """The GPU, with float32 products and convolutions in float32."""
    if os.environ.get("RAWNEXT_GPU_DRY"):
        yield torch.device("cpu")
    elif not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    else:
        float32 = mock.patch.object(torch.backends.cuda.matmul, "allow_tf32", False)
        with float32, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield torch.device("cuda")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Speech, and the recordings for augmentation, which include room responses."""
    folder = tmp_path_factory.mktemp("corpora")
    for name in ("train", "musan_noise", "musan_music", "musan_speech", "rirs"):
        write_corpus(folder / name, 6, 8 if name == "train" else 2, 0.6)
    return folder


def augmented(*changes: str) -> Config:
    config = load_system([], ["batch.speakers=6", "crop={samples: 5000, short_from: 2000}", *changes])
    return dataclasses.replace(config, model=TINY, augment=[{"ops": ops} for ops in CASES])


def banks_of(corpora):
    return {path.name: CutTable(path) for path in corpora.iterdir() if path.name != "train"}


@pytest.mark.parametrize("name", MODELS)
def test_rounding_is_that_of_the_cpu(device, name):
    """In float32, alone and in a padded batch. The CPU's result in float64 counts as exact."""
    options = {} if name in UNTRAINED else small(name)
    model, lengths = randomise(MODELS.build(*split_name({"name": name, **options}))), torch.tensor([12000, 7001, 9000])
    wave = 0.1 * torch.randn(3, 12000, dtype=torch.float64) * (torch.arange(12000) < lengths[:, None])
    with torch.no_grad():
        for given in ((wave,), (wave, lengths)):
            exact = model.double()(*given)
            cpu = model.float()(given[0].float(), *given[1:])
            found = model.to(device)(given[0].float().to(device), *(x.to(device) for x in given[1:])).cpu()
            model.cpu()
            assert error(found.double(), exact) < 10 * error(cpu.double(), exact) + 1e-5


@pytest.mark.parametrize("amp", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SMALL_MODELS)
def test_gradients_in_half_precision_are_finite(device, name, amp):
    config = dataclasses.replace(Config(), model=small(name), losses=[{"name": "aam"}])
    task = build_task(config, 6).to(device).train()
    optimizer = torch.optim.SGD(task.parameters(), 0.0)
    scaler = torch.amp.GradScaler(device.type, 2.0**10, enabled=amp == torch.float16)
    wave, label = 0.1 * torch.randn(4, 4000, device=device), torch.arange(4, device=device)
    for _ in range(1 if amp == torch.bfloat16 else 8):  # the scaler halves its factor until no gradient overflows
        optimizer.zero_grad()
        with torch.autocast(device.type, amp):
            loss = task(wave, label)[0]
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        finite = all(p.grad is None or bool(p.grad.isfinite().all()) for p in task.parameters())
        scaler.step(optimizer)
        scaler.update()
        if finite:
            break
    assert finite and bool(loss.isfinite())


def test_augmentation_of_the_device_is_that_of_the_workers(device, corpora):
    waves = []
    for on in ("workers", "device"):
        config = augmented(f"train.augment_on={on}")
        data = EpochDataset(CutTable(corpora / "train"), config, banks_of(corpora), 0, 0, 1)
        waves.append(torch.cat([to_device(batch, device)[0].cpu() for batch in epoch_loader(data, 2)]))
    assert error(waves[1], waves[0]) < 1e-5


@pytest.mark.parametrize("losses", [["softmax", "angular_prototypical"], *([name] for name in LOSSES)], ids="+".join)
def test_a_step_never_waits_for_the_device(device, corpora, tmp_path, losses):
    config = augmented("train.augment_on=device", "train.amp=bf16", "optim.clip_norm=5")
    config.losses = [{"name": name} for name in losses]
    trainer = Trainer(config, CutTable(corpora / "train"), banks_of(corpora), tmp_path, device)
    data = EpochDataset(trainer.table, config, trainer.banks, 0, 0, 1)
    batch = next(iter(epoch_loader(data, 0, device.type == "cuda")))
    trainer.parallel.train()
    trainer.run_step(batch, 40)  # allocates
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(30 if len(losses) > 1 else 2):
            trainer.run_step(batch, 40)
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert np.isfinite(float(trainer.sums["loss"]))


def test_training_stopped_by_sigterm_continues_with_the_same_losses(device, root, corpora, tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        f"model: {TINY}\nbatch: {{speakers: 4}}\ncrop: {{samples: 2500, short_from: 1600}}\n"
        "train: {epochs: 3, log_every: 1, augment_on: device, amp: none}\n")

    def train(exp, stop_at=0) -> int:
        config = f"{root}/conf/augment.yaml {tmp_path}/tiny.yaml"
        command = [sys.executable, root / "steps/train.py", "--config", config, "--train", corpora / "train", "--banks",
                   corpora, "--device", device.type, "--num-workers", "1", "--num-threads", "1", exp]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            for number, _ in enumerate(filter(re.compile(" epoch=.* loss=").search, process.stderr), 1):
                if number == stop_at:
                    process.send_signal(signal.SIGTERM)
        return process.returncode

    assert (train(tmp_path / "whole"), train(tmp_path / "stopped", 5), train(tmp_path / "stopped")) == (0, 75, 0)
    tables = [np.genfromtxt(tmp_path / exp / "train.tsv", delimiter="\t", names=True) for exp in ("whole", "stopped")]
    assert len(tables[0]) == 3 and (tables[0]["step"] == tables[1]["step"]).all()
    # some of cuDNN's gradients are sums in an order that is not fixed
    np.testing.assert_allclose(tables[1]["loss"], tables[0]["loss"], rtol=1e-3 if device.type == "cuda" else 0)


@pytest.mark.parametrize("protocol", ["native", "paper"])
def test_extraction_equals_the_cpu(device, tmp_path, protocol):
    exp = write_experiment(tmp_path)
    waves = [(f"u{i}", voice(i, 0, seconds)) for i, seconds in enumerate((5, 0.4, 1.3, 9, 4, 6, 62))]
    found, exact = ([x for _, x in embed_all(folded(load_model(exp, place)[0]), waves, protocol, Extract())]
                    for place in (device, "cpu"))
    assert error(np.stack(found), np.stack(exact)) < 1e-4
