# SPDX-License-Identifier: Apache-2.0
"""Two processes with gloo: every network trains, validation is shared, and parts of a batch add up to it."""

import logging
import os
import socket
import time

import pytest
import torch
from corpus import write_corpus
from ranks import run_ranks
from small_models import SMALL_MODELS, small
from torch.nn.parallel import DistributedDataParallel

from rawnext.config import load_config
from rawnext.data import wav
from rawnext.data.cuts import CutTable
from rawnext.dist import barrier, cleanup, init_process_group
from rawnext.training.dataset import EpochDataset
from rawnext.training.trainer import Trainer
from steps.train import Validator

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TIMEOUT, SHARE = 3, 3.5  # seconds: of the process group, and of each process's part of a validation
OPTIONS = ["batch.speakers=4", "crop.samples=1900", "crop.short_from=1600", "train.epochs=1", "optim.name=sgd"]


def trainer(corpus, exp, model, *options, validate=None):
    config = load_config([], [*OPTIONS, *options])
    config.model = small(model)
    return Trainer(config, CutTable(corpus), {}, exp, CPU, validate=validate)


def one_step(corpus, exp, rank, world, parts):
    """Weights after one step in float64, and its loss; with BatchNorms in evaluation mode, so that parts add up."""
    training = trainer(corpus, exp, "resnext", f"train.accumulate={parts}", "optim.lr=0.1")
    training.task.double().eval()
    if world > 1:
        training.parallel = DistributedDataParallel(training.task)
    batch = EpochDataset(training.table, training.config, {}, 0, rank, world)[0]
    training.run_step(batch | {"wave": batch["wave"].double()}, 3)
    training.gather()
    return training.sums["loss"], {name: p.detach().clone() for name, p in training.task.named_parameters()}


def worker(rank, ports, corpus, folder):
    import tensorboard  # noqa: F401 (takes seconds, in which the other process would wait)

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=ports[0], CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(False)  # in bf16 it reads memory that was not written (architecture.md)
    init_process_group(CPU)
    found = {"step": one_step(corpus, folder / "step", rank, 2, 2), "losses": {}}
    for name in SMALL_MODELS:
        training = trainer(corpus, folder / name, name, "train.amp=bf16", "optim.lr=1e-4")
        training.run()
        found["losses"][name] = training.history[0]["loss"]
    unsynchronised = trainer(corpus, folder / "other", "convmixer", "train.sync_batchnorm=false",
                             "train.average=1",
                             validate=lambda model: found.update(buffers=dict(model.named_buffers())) or {})
    unsynchronised.run()
    assert unsynchronised.parallel.broadcast_buffers
    barrier()
    cleanup()
    read, os.environ["MASTER_PORT"] = wav.load_wave, ports[1]

    def read_slowly(source):
        time.sleep(SHARE / 12)  # 24 utterances for two processes
        return read(source)

    wav.load_wave = read_slowly
    init_process_group(CPU, TIMEOUT / 60)
    validate = Validator(corpus, load_config([]).extract, 0)
    training = trainer(corpus, folder / "slow", "convmixer", "train.average=1", validate=validate)
    found["broadcast"] = training.parallel.broadcast_buffers
    started = time.monotonic()
    training.run()
    found["seconds"], found["row"] = time.monotonic() - started, training.history[0]
    wav.load_wave = read
    trainer(corpus, folder / "averaged", "convmixer", "train.average=1", validate=validate).run()
    torch.save(found, folder / f"{rank}.pt")
    cleanup()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "train", num_speakers=6, num_utts=4, seconds=0.2)


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = [str(free.getsockname()[1]) for free in (one, other)]
    run_ranks(worker, (ports, corpus, folder), 2)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_validation_may_take_longer_than_the_time_out(found, folder, corpus):
    assert all(each["seconds"] > 2 * SHARE > 2 * TIMEOUT for each in found)  # of the model and of its average
    training = trainer(corpus, folder / "slow", "convmixer")
    training.task.model.load_state_dict(torch.load(folder / "slow/model.pt")["model"])
    alone = Validator(corpus, load_config([]).extract, 2)(training.task.model.eval())
    row, other = found[0]["row"], found[1]["row"]
    assert row["eer_dev"] == pytest.approx(alone["eer_dev"]) and 0 < row["eer_dev"] < 100
    assert row["min_dcf_dev"] == pytest.approx(alone["min_dcf_dev"])
    assert "eer_dev" not in other


def test_buffers_are_broadcast_only_if_they_may_differ(found):
    assert not any(each["broadcast"] for each in found)


def test_all_processes_validate_the_same_network(found):
    one, other = (each["buffers"] for each in found)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_every_network_trains_in_bf16(found):
    for each in found:
        assert each["losses"].keys() == SMALL_MODELS.keys()
        assert all(0 < loss < 10 for loss in each["losses"].values())
    assert found[0]["losses"] == found[1]["losses"]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_parts_of_a_batch_add_up_to_it(found, corpus, tmp_path, parts, caplog):
    caplog.set_level(logging.INFO)
    loss, weights = one_step(corpus, tmp_path, 0, 1, 1)
    assert "BatchNorm" not in caplog.text
    for found_loss, found_weights in [*(each["step"] for each in found), one_step(corpus, tmp_path, 0, 1, parts)]:
        assert found_loss == pytest.approx(loss, rel=1e-12)
        for name, value in weights.items():
            assert torch.allclose(found_weights[name], value, rtol=1e-9, atol=1e-13), name
    assert parts == 1 or f"BatchNorm statistics are those of a part, {8 // parts} utterances" in caplog.text


def test_the_weights_of_that_step_have_moved(corpus, tmp_path):
    torch.manual_seed(1234)
    before = {name: p.clone() for name, p in trainer(corpus, tmp_path, "resnext").task.double().named_parameters()}
    _, after = one_step(corpus, tmp_path, 0, 1, 1)
    moved = [name for name, value in before.items() if not torch.allclose(after[name], value, rtol=1e-9, atol=1e-13)]
    assert len(moved) > len(before) / 2


def test_an_average_is_validated_by_all_processes(found, folder):
    assert (folder / "averaged/model.pt").exists(), "the processes wait for each other in the validation of the average"
