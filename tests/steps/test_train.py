# SPDX-License-Identifier: Apache-2.0
"""The command line of steps/train.py: devices, the first line of the log, validation."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
import torch
from corpus import write_corpus
from programs import forking
from small_models import small

from rawnext.config import Config, save_config
from rawnext.data.wav import load_wave, read_sources
from rawnext.errors import InputError
from rawnext.inference.extract import embed_all, load_model
from rawnext.scoring.metrics import eer
from rawnext.stamp import sha256
from rawnext.training.checkpoint import fingerprint
from rawnext.training.task import SpeakerTask
from steps.train import Validator


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "train", num_speakers=5, num_utts=3, seconds=0.2)


def train(root, corpus, exp, *options, launcher=()):
    exp.parent.mkdir(exist_ok=True)
    config = Config(model=small("convmixer"))
    config.batch.speakers, config.crop.samples, config.crop.short_from, config.train.epochs = 4, 1900, 0, 1
    save_config(config, exp.parent / "small.yaml")
    command = [*launcher, root / "steps/train.py", "--config", exp.parent / "small.yaml", "--train", corpus,
               "--num-workers", "0", *options, exp]
    env = forking({**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": ""})
    return subprocess.run([sys.executable, *map(str, command)], env=env, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_gpu_that_cannot_be_used_is_an_error_before_work_starts(root, corpus, tmp_path, processes):
    launcher = [str(root / "steps/torchrun.py"), "--nproc-per-node", "2"] if processes == 2 else []
    done = train(root, tmp_path / "nowhere", tmp_path / "exp", "--device", "cuda", launcher=launcher)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"^train.py: --device cuda: no GPU can be used: ", done.stderr, re.M)
    assert "nowhere" not in done.stderr and not (tmp_path / "exp").exists()


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_the_first_line_describes_the_machine(root, corpus, tmp_path, device):
    done = train(root, corpus, tmp_path / "exp", "--device", device, "--num-threads", "1", "--dev", corpus)
    assert done.returncode == 0, done.stderr
    assert re.search(r" INFO train.py:\d+ device=CPU, .* processes=1 precision=float32 tf32=off torch=\S+ cuda=\S+ "
                     "threads=1 compiled=False augment_on=workers$", done.stderr.splitlines()[0])
    model, config = load_model(tmp_path / "exp")
    found = Validator(corpus, config.extract, 1)(model)
    eer_dev = float(re.search(r"eer_dev=(\S+)", done.stderr)[1])
    assert eer_dev == pytest.approx(found["eer_dev"], rel=1e-3)


def test_validation_is_the_eer_of_the_trials(corpus):
    model = SpeakerTask(Config(model=small("next_tdnn")), 5).model.eval()
    config = Config().extract
    vectors = {utt: torch.from_numpy(x) for utt, x in embed_all(
        model, ((source.utt, load_wave(source)) for source in read_sources(corpus)), "native", config)}
    sides = {"target": [], "nontarget": []}
    for line in (corpus / "trials").read_text().splitlines():
        enroll, test, kind = line.split()
        sides[kind].append(float(torch.cosine_similarity(vectors[enroll], vectors[test], dim=0)))
    expected = 100 * eer(*(torch.tensor(sides[kind]).numpy() for kind in ("target", "nontarget")))
    for num_workers in (0, 2):
        found = Validator(corpus, config, num_workers)(model)
        assert found["eer_dev"] == pytest.approx(expected) and 0 < found["min_dcf_dev"] <= 1


@pytest.mark.parametrize("num_workers", [0, 1])
def test_audio_damaged_after_the_check_is_one_line(tmp_path, num_workers):
    corpus = write_corpus(tmp_path / "dev", num_speakers=2, num_utts=2, seconds=0.2)
    validate = Validator(corpus, Config().extract, num_workers)
    (corpus / "audio" / "s01-u1.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"wav.scp:4: s01-u1: "):
        validate(SpeakerTask(Config(model=small("convmixer")), 5).model.eval())


FAILING = """
import multiprocessing, sys
from pathlib import Path
from rawnext.config import Config
from rawnext.models import MODELS
from steps.train import Validator
validate = Validator(sys.argv[1], Config().extract, 2)
workers, model = multiprocessing.active_children(), MODELS.build("mel_stats", {}).eval()
assert len(workers) == 2 and validate(model) == validate(model) and workers == multiprocessing.active_children()
Path(sys.argv[1], "audio/s01-u1.wav").write_bytes(b"no audio")
try:
    validate(model)
finally:
    validate.close()
"""


def test_data_workers_of_the_validation_are_there_before_training_and_end_with_it(root, tmp_path):
    """They ignore SIGTERM, by which Python would end them at its exit, and would then wait for them."""
    dev = write_corpus(tmp_path / "dev", num_speakers=2, num_utts=2, seconds=0.2)
    done = subprocess.run([sys.executable, "-c", FAILING, dev], cwd=root, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(root)}, timeout=60)
    assert done.returncode == 1 and "InputError" in done.stderr and "s01-u1" in done.stderr, done.stderr


def test_a_data_worker_of_the_validation_that_hangs_is_an_error(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "dev", num_speakers=2, num_utts=2, seconds=0.2)
    monkeypatch.setattr("rawnext.data.wav.load_wave", lambda source: time.sleep(2))
    validate = Validator(corpus, Config().extract, 1, timeout_minutes=0.005)
    with pytest.raises(RuntimeError, match="timed out after 0.3 s"):
        validate(SpeakerTask(Config(model=small("convmixer")), 5).model.eval())


def test_a_training_does_not_wait_for_a_data_worker_longer_than_its_timeout(root, corpus, tmp_path):
    done = train(root, corpus, tmp_path / "exp", "--num-workers", "1", "--set", "train.timeout_minutes=1e-6")
    assert done.returncode == 1 and "DataLoader timed out after " in done.stderr


def test_train_info_has_the_command_of_the_first_run_and_the_identity_of_the_model(root, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("RAWNEXT_COMMAND", "./run.sh --name first")
    assert train(root, corpus, tmp_path / "exp").returncode == 0
    info = json.loads((tmp_path / "exp/train_info.json").read_text())
    model, config = load_model(tmp_path / "exp")
    assert info["fingerprint"] == fingerprint(config, model.state_dict())
    assert (info["command"], info["seed"]) == ("./run.sh --name first", 1234) and len(info["runs"]) == 1
    assert info["data"] == {"train": sha256(corpus / "cuts.jsonl")}
    monkeypatch.setenv("RAWNEXT_COMMAND", "./run.sh --name later")
    (tmp_path / "exp/train_info.json").write_text(json.dumps({**info, "fingerprint": "that of another model"}))
    assert train(root, corpus, tmp_path / "exp").returncode == 0
    again = json.loads((tmp_path / "exp/train_info.json").read_text())
    assert (again["fingerprint"], again["command"]) == (info["fingerprint"], info["command"])
