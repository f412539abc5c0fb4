# SPDX-License-Identifier: Apache-2.0
"""Training is a function of configuration and data, whether killed or not, in one process or several."""

import functools
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from corpus import write_corpus
from programs import forking, program
from ranks import run_ranks
from torch.nn.parallel import DistributedDataParallel

from rawnext.config import load_config
from rawnext.data.cuts import CutTable
from rawnext.dist import cleanup, init_process_group, mean_over_processes, sync_batchnorm
from rawnext.errors import InputError
from rawnext.inference.extract import load_model
from rawnext.training import checkpoint
from rawnext.training.dataset import EpochDataset
from rawnext.training.precision import amp_type, describe, set_gpu_options
from rawnext.training.task import SpeakerTask
from rawnext.training.trainer import Trainer

TINY = """
model: {name: rawnext, channels: [8, 8, 8, 8, 8, 8], blocks: [2, 2, 2, 2], cardinality: 8, embedding_dim: 8}
losses: [{name: aam}, {name: angular_prototypical}]
batch: {speakers: 4}
crop: {samples: 2500, short_from: 1600}
train: {epochs: 2, log_every: 1, save_every: 1, margin_from: 1, margin_full: 2}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "train", num_speakers=6, num_utts=6)


@pytest.fixture
def config(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path / "tiny.yaml"


def command(root, config, corpus, exp, *options):
    return [sys.executable, str(root / "steps" / "train.py"), "--config", str(config), "--train", str(corpus), "--dev",
            str(corpus), "--num-workers", "0", "--num-threads", "1", *options, str(exp)]


def run(root, *args, launcher=()):
    env = forking({**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"})
    words = [*launcher, *command(root, *args)[1 if launcher else 0:]]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=200)


def rows(exp):
    """train.tsv without the columns of times."""
    lines = [line.split("\t") for line in (exp / "train.tsv").read_text().splitlines()]
    keep = [i for i, name in enumerate(lines[0]) if name in ("epoch", "step", "loss", "acc", "lr", "eer_dev")]
    return [[line[i] for i in keep] for line in lines]


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_killed_training_equals_an_uninterrupted_one(root, config, corpus, tmp_path):
    done = run(root, config, corpus, tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    env = forking({**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"})
    exp, kills = tmp_path / "killed", 0
    for _ in range(9):
        process = subprocess.Popen(command(root, config, corpus, exp), env=env, stderr=subprocess.PIPE, text=True)
        steps = 0
        for line in process.stderr:  # kill after the third step of this process, at any place in an epoch
            steps += "step=" in line and "loss=" in line
            if steps == 3:
                time.sleep(0.013 * kills)
                os.kill(program(process.pid), signal.SIGKILL)
                kills += 1
                break
        process.wait()
        if process.returncode == 0:
            break
    assert process.returncode == 0 and kills >= 2
    assert rows(exp) == rows(tmp_path / "whole")
    states = [checkpoint.load_newest(folder / "checkpoints") for folder in (exp, tmp_path / "whole")]
    assert same(states[0]["task"], states[1]["task"])
    assert same(checkpoint.load(exp / "model.pt")["model"], checkpoint.load(tmp_path / "whole" / "model.pt")["model"])


def curve(text):
    return [float(value) for value in re.findall(r" epoch=1 .* loss=(\S+)", text)]


@pytest.mark.slow
def test_loss_does_not_depend_on_the_number_of_processes(root, config, corpus, tmp_path):
    """One, two and four processes share the same global batch; the losses differ by rounding only."""
    small = config.with_name("small.yaml")   # few BatchNorms: the processes wait for each other at each
    small.write_text(TINY.replace("[2, 2, 2, 2]", "[1, 1, 1, 1], dla: false, elastic: false, up: false, gate: false, "
                                  "quiet_init: true"))
    curves = []
    for num in (1, 2, 4):
        exp = tmp_path / str(num)
        torchrun = (sys.executable, str(root / "steps/torchrun.py"), "--nproc-per-node", str(num))
        done = run(root, small, corpus, exp, "--set", "train.epochs=1", launcher=torchrun)
        assert done.returncode == 0, done.stderr
        assert num == 1 or (f"(0/{num}) epoch" in done.stderr and f"(1/{num}) epoch" not in done.stderr)
        curves.append(curve(done.stderr))
        newest = checkpoint.load_newest(exp / "checkpoints")
        assert checkpoint.load(exp / "model.pt")["step"] == newest["step"] == len(curves[-1]) > 3
        load_model(exp, torch.device("cpu"))
    one, two, four = curves
    assert two == pytest.approx(one, rel=3e-3) and four == pytest.approx(one, rel=3e-3)
    assert two[0] == pytest.approx(one[0], rel=5e-5) and four[0] == pytest.approx(one[0], rel=5e-5)


def first_gradients(config, corpus, rank=0, world=1, sync=True):
    """Loss and gradients of the first batch, in float64, with synchronised BatchNorm or without."""
    config = load_config([config])
    batch = EpochDataset(CutTable(corpus), config, {}, 0, rank, world)[0]
    torch.manual_seed(0)
    task = SpeakerTask(config, 6).double()
    if sync:
        sync_batchnorm(task, torch.device("cpu"))
    wrapped = DistributedDataParallel(task) if world > 1 else task
    loss, _ = wrapped(batch["wave"].double(), batch["label"])
    loss.backward()
    loss = mean_over_processes([loss.item()], torch.device("cpu"))[0]
    return loss, {name: p.grad for name, p in task.named_parameters()}, task.state_dict()


def two_process_worker(rank, port, config, corpus, out):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    init_process_group(torch.device("cpu"))
    unsynchronised, *_ = first_gradients(config, corpus, rank, 2, sync=False)
    torch.save((*first_gradients(config, corpus, rank, 2), unsynchronised), out / f"{rank}.pt")
    cleanup()


@pytest.mark.slow
def test_two_processes_equal_one(config, corpus, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run_ranks(two_process_worker, (port, config, corpus, tmp_path), 2)
    loss, gradients, state = first_gradients(config, corpus)
    largest = max(float(g.abs().max()) for g in gradients.values())
    for rank in (0, 1):
        found_loss, found, found_state, unsynchronised = torch.load(tmp_path / f"{rank}.pt")
        assert abs(unsynchronised / loss - 1) > 1e-2  # BatchNorm over a part of the batch changes the network
        assert found_loss == pytest.approx(loss, rel=1e-12)
        for name, gradient in gradients.items():
            assert float((found[name] - gradient).abs().max()) < 1e-9 * largest, name
        for name, value in state.items():
            assert torch.allclose(found_state[name], value, rtol=1e-9, atol=1e-12), name


@pytest.mark.slow
def test_checkpoints_of_another_configuration_or_corpus_are_refused(config, corpus, tmp_path):
    table = CutTable(corpus)
    short = load_config([config], ["train.epochs=1"])
    Trainer(short, table, {}, tmp_path, torch.device("cpu")).run()
    other = load_config([config], ["train.epochs=1", "optim.lr=1e-2"])
    with pytest.raises(InputError, match="has checkpoints with optim.lr 0.001, not 0.01: choose another experiment"):
        Trainer(other, table, {}, tmp_path, torch.device("cpu")).run()
    more = write_corpus(tmp_path / "more", 7, 2)
    with pytest.raises(InputError, match="other training data"):
        Trainer(short, CutTable(more), {}, tmp_path, torch.device("cpu")).run()


def test_damaged_newest_checkpoint_falls_back(tmp_path, caplog):
    for step in (1, 2, 3, 4):
        checkpoint.save_step(tmp_path, step, {"step": step}, keep=3)
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == [f"step-0000000{i}.pt" for i in (4, 3, 2)]
    newest = tmp_path / "step-00000004.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoint.load_newest(tmp_path) == {"step": 3}
    assert "step-00000004.pt" in caplog.text and "trying the previous checkpoint" in caplog.text
    for path in checkpoint.checkpoints(tmp_path):
        path.write_bytes(b"no")
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        checkpoint.load_newest(tmp_path)
    assert checkpoint.load_newest(tmp_path / "none") is None


def test_loading_a_checkpoint_executes_no_code(tmp_path):
    torch.save({"x": subprocess.Popen}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="evil.pt"):
        checkpoint.load(tmp_path / "evil.pt")


def test_too_much_bad_audio_stops_training(config, tmp_path):
    corpus = write_corpus(tmp_path / "train", 6, 6)
    for path in (corpus / "audio").glob("*-u[12].wav"):
        path.write_bytes(b"no audio")
    few = load_config([config], ["train.max_bad_fraction=0.01"])
    with pytest.raises(InputError, match="could not be read"):
        Trainer(few, CutTable(corpus), {}, tmp_path / "few", torch.device("cpu")).run()
    many = load_config([config], ["train.max_bad_fraction=0.9", "train.epochs=1"])
    trainer = Trainer(many, CutTable(corpus), {}, tmp_path / "many", torch.device("cpu"))
    trainer.run()
    assert trainer.num_bad > 0 and trainer.history[0]["bad_utts"] == trainer.num_bad


def test_a_loss_that_explodes_stops_training(config, corpus, tmp_path):
    wild = load_config([config], ["optim.lr=1e8", "optim.name=sgd"])
    with pytest.raises(InputError, match="the loss is nan at step"):
        Trainer(wild, CutTable(corpus), {}, tmp_path, torch.device("cpu")).run()


def test_too_few_speakers_are_reported(config, corpus, tmp_path):
    with pytest.raises(InputError, match="0 speakers have 9 utterances or more, too few to train on"):
        Trainer(load_config([config], ["batch.utts=9"]), CutTable(corpus), {}, tmp_path, torch.device("cpu")).run()


def test_losses_are_weighted_and_margins_scaled():
    small = "{name: rawnext, channels: [8, 8, 16, 16, 16, 16], cardinality: 8, embedding_dim: 8}"
    losses = "[{name: aam, weight: 0.5}, {name: angular_prototypical, weight: 2}]"
    config = load_config([], [f"model={small}", f"losses={losses}"])
    task = SpeakerTask(config, 3)
    wave, label = torch.randn(6, 2500), torch.tensor([0, 0, 1, 1, 2, 2])
    task.eval().requires_grad_(False)  # the same BatchNorm statistics twice
    embedding = task.model(wave)
    aam, proto = (loss(embedding, label)[0] for loss in task.losses)
    assert float(task(wave, label)[0]) == pytest.approx(float(0.5 * aam + 2 * proto))
    task.set_margin(0.5)
    assert float(task(wave, label)[0]) < float(0.5 * aam + 2 * proto)
    task.set_margin(1)
    assert float(task(wave, label)[0]) == pytest.approx(float(0.5 * aam + 2 * proto))


@pytest.mark.slow
def test_compiled_model_is_one_graph_with_the_same_results(monkeypatch):
    """With a backend that runs the graph unchanged; a real one takes minutes and is torch's to test."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager", fullgraph=True))
    small = "model={name: rawnext, channels: [8, 8, 16, 16, 16, 16], cardinality: 8, blocks: [2, 2, 2, 2]}"
    wave, label, found = torch.randn(4, 2500), torch.arange(4), []
    for value in ("false", "true"):
        torch.manual_seed(0)
        task = SpeakerTask(load_config([], [small, f"train.compiled={value}"]), 4)
        loss = task(wave, label)[0]
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in task.parameters()), *task.state_dict().values()])
    assert len(found[0]) == len(found[1]) and (task.compiled is not None)
    for plain, compiled in zip(*found):
        torch.testing.assert_close(plain, compiled)


def test_autocast_type(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert amp_type("auto", cpu) is None and amp_type("none", cpu) is None and amp_type("bf16", cpu) is torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert amp_type("auto", gpu) is torch.float16, "emulated bf16 is slower than float32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert amp_type("auto", gpu) is torch.bfloat16


@pytest.mark.parametrize("options, tf32, benchmark", [
    ([], True, True), (["train.tf32=false"], False, True), (["train.benchmark=false"], True, False),
    (["crop.start_samples=30000", "crop.grow_epochs=3"], True, False)])
def test_options_of_gpus(monkeypatch, options, tf32, benchmark):
    flags = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32"),
             (torch.backends.cudnn, "benchmark")]
    before = [getattr(*flag) for flag in flags]
    try:
        set_gpu_options(load_config([], options), torch.device("cpu"))
        assert [getattr(*flag) for flag in flags] == before
        set_gpu_options(load_config([], options), torch.device("cuda", 0))
        assert [getattr(*flag) for flag in flags] == [tf32, tf32, benchmark]
    finally:
        for (place, name), value in zip(flags, before):
            setattr(place, name, value)


def test_description_of_a_run(monkeypatch):
    text = describe(load_config([]), torch.device("cpu"))
    assert re.fullmatch(rf"device=CPU, .+ \(\d+ cores\) processes=1 precision=float32 tf32=off "
                        rf"torch={re.escape(torch.__version__)} cuda=\S+ threads={torch.get_num_threads()} "
                        "compiled=False augment_on=workers", text)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert "device=GPU 1 processes=1 precision=bfloat16 tf32=on" in describe(load_config([]), torch.device("cuda", 1))


def steps_saved(config, corpus, exp, *options):
    """Steps whose checkpoints remain after two epochs, of which each has 6 to 9 steps."""
    Trainer(load_config([config], ["train.keep=99", "train.log_every=50", *options]), CutTable(corpus), {}, exp,
            torch.device("cpu")).run()
    return [int(path.stem.rpartition("-")[2]) for path in reversed(checkpoint.checkpoints(exp / "checkpoints"))]


def test_checkpoints_by_time_and_by_steps(config, corpus, tmp_path):
    ends = steps_saved(config, corpus, tmp_path / "ends", "train.save_every=0")
    assert len(ends) == 2
    every = list(range(1, ends[1] + 1))
    assert steps_saved(config, corpus, tmp_path / "steps", "train.save_every=1") == every
    assert steps_saved(config, corpus, tmp_path / "often", "train.save_every=0", "train.save_minutes=1e-6") == every


def test_config_yaml_changes_only_if_the_training_is_accepted(config, corpus, tmp_path):
    exp, table = tmp_path / "exp", CutTable(corpus)

    def run_with(*options):
        Trainer(load_config([config], ["train.epochs=1", *options]), table, {}, exp, torch.device("cpu")).run()

    run_with()
    before = (exp / "config.yaml").read_bytes()
    with pytest.raises(InputError, match="optim.lr 0.001, not 0.01"):
        run_with("optim.lr=1e-2")
    run_with("train.log_every=7")  # finished, so nothing is trained with it
    assert (exp / "config.yaml").read_bytes() == before
    for path in (exp / "checkpoints").iterdir():
        path.unlink()
    model = (exp / "model.pt").read_bytes()
    trainer = Trainer(load_config([config], ["train.epochs=1", "optim.lr=1e-2"]), table, {}, exp, torch.device("cpu"))
    trainer.run_epoch = lambda: pytest.fail("stopped")
    with pytest.raises(pytest.fail.Exception):
        trainer.run()
    assert not (exp / "model.pt").exists() and (exp / "model.pt.old").read_bytes() == model
