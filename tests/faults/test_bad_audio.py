# SPDX-License-Identifier: Apache-2.0
"""Each kind of damaged audio, in training and in extraction."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from corpus import RATE, write_corpus
from programs import forking
from test_training_faults import TINY

from rawnext.config import load_config
from rawnext.data.cuts import CutTable
from rawnext.errors import InputError
from rawnext.training.trainer import Trainer


def cut_off(path):
    path.write_bytes(path.read_bytes()[:3000])


def not_a_number(path):
    wave = soundfile.read(path, dtype="float32")[0]
    wave[::100] = np.nan
    soundfile.write(path, wave, RATE, subtype="FLOAT")


def infinite(path):
    wave = soundfile.read(path, dtype="float32")[0]
    wave[::100] = np.inf
    soundfile.write(path, wave, RATE, subtype="FLOAT")


FAULTS = {
    "cut off": cut_off,
    "no audio": lambda path: path.write_bytes(b"<html>404 not found</html>"),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "NaN": not_a_number,
    "infinity": infinite,
    "silent": lambda path: soundfile.write(path, np.zeros(RATE), RATE),
}


@pytest.fixture
def corpus(tmp_path):
    """Each speaker has an utterance with one of the faults; returns the data directory and fault -> utterance."""
    corpus, bad = write_corpus(tmp_path / "train", num_speakers=len(FAULTS), num_utts=4), {}
    for i, (fault, damage) in enumerate(FAULTS.items()):
        bad[fault] = f"s{i:02d}-u1"
        damage(corpus / "audio" / f"{bad[fault]}.wav")
    return corpus, bad


def trainer(tmp_path, corpus, fraction):
    (tmp_path / "tiny.yaml").write_text(TINY)
    config = load_config([tmp_path / "tiny.yaml"], [f"train.max_bad_fraction={fraction}", "train.epochs=2"])
    return Trainer(config, CutTable(corpus), {}, tmp_path / "exp", torch.device("cpu"))


def test_training_replaces_logs_and_counts_bad_audio(tmp_path, corpus, caplog):
    data, bad = corpus
    training = trainer(tmp_path, data, 1.0)
    training.run()
    for fault, utt in bad.items():
        assert f"bad audio, replaced: {utt}: " in caplog.text, fault
    assert training.history[-1]["bad_utts"] == training.num_bad == caplog.text.count("bad audio, replaced")
    assert all(np.isfinite(row["loss"]) for row in training.history)


def test_too_much_bad_audio_stops_training(tmp_path, corpus):
    data, _ = corpus
    with pytest.raises(InputError, match=r"cuts.jsonl: \d+ of \d+ utterances drawn could not be read, more than"):
        trainer(tmp_path, data, 0).run()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An experiment with a model."""
    folder = tmp_path_factory.mktemp("trained")
    training = trainer(folder, write_corpus(folder / "good", num_speakers=6, num_utts=2), 0)
    training.run()
    (folder / "exp/config.yaml").write_text(TINY)
    return folder / "exp"


@pytest.mark.parametrize("fault", FAULTS)
def test_extraction_reports_bad_audio_and_stops(root, tmp_path, trained, fault):
    data = write_corpus(tmp_path / "data", num_speakers=1, num_utts=3)
    FAULTS[fault](data / "audio/s00-u1.wav")
    done = subprocess.run([sys.executable, root / "steps/extract.py", data, trained, tmp_path / "out"],
                          env=forking({"PYTHONPATH": str(root)}), capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "data/wav.scp:2: s00-u1" in done.stderr
    assert not (tmp_path / "out/embedding.1.scp").exists()
