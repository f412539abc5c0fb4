# SPDX-License-Identifier: Apache-2.0
"""The experiment of version 0.1 in tests/data/experiment_v0.1 still gives its scores."""

import json
import os
import subprocess

import kaldiio
import numpy as np
import pytest
from corpus import integer_voice, write_corpus
from programs import forking

from rawnext import Extractor, read_audio

pytestmark = pytest.mark.slow

# Trials: options of extraction for the enroll side and the test side.
SIDES = {"native": ("native", 0, 0), "native_1s": ("native", 0, 1), "paper_1s": ("paper", 0, 1)}


@pytest.fixture(scope="module")
def exp(root):
    return root / "tests/data/experiment_v0.1"


@pytest.fixture(scope="module")
def work(root, exp, tmp_path_factory):
    """A recipe's folder with the test utterances and a link to each file of the experiment."""
    work = tmp_path_factory.mktemp("work")
    for name in ("path.sh", "steps", "utils"):
        (work / name).symlink_to(root / name)
    (work / "exp").mkdir()
    for name in ("model.pt", "config.yaml", "train_info.json", "calibration"):
        (work / "exp" / name).symlink_to(exp / name)
    write_corpus(work / "data", 6, 5, 1.2, voice=integer_voice)
    return work


@pytest.fixture(scope="module")
def embeddings(work):
    """A function (protocol, seconds) -> folder of the embeddings, extracted as by a user."""
    def extract(protocol, seconds):
        out = work / f"exp/embeddings/{protocol}_{seconds}"
        if not out.exists():
            shell(work, "steps/extract.sh", "--nj", 1, "--protocol", protocol, "--duration", seconds, "data", "exp",
                  out)
        return out

    return extract


def shell(work, *command):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(["bash", "-c", '. ./path.sh && exec "$@"', "-", *map(str, command)], cwd=work,
                          env=forking(env), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("trials", SIDES)
def test_scores_are_identical_to_the_byte(exp, work, embeddings, trials):
    protocol, enroll, test = SIDES[trials]
    shell(work, "steps/score.py", "--enroll", embeddings(protocol, enroll) / "embedding.scp", "--test",
          embeddings(protocol, test) / "embedding.scp", exp / "trials" / trials, f"scores/{trials}")
    assert (work / "scores" / trials).read_bytes() == (exp / "scores" / trials).read_bytes()


@pytest.mark.parametrize("protocol, seconds, old", [
    ("native", 0, "test_native"), ("native", 1, "test_native_1s"), ("paper", 0, "test_paper"),
    ("paper", 1, "test_paper_1s")])
def test_embeddings_are_unchanged(exp, embeddings, protocol, seconds, old):
    new = kaldiio.load_scp(str(embeddings(protocol, seconds) / "embedding.scp"))
    old = dict(kaldiio.load_ark(str(exp / "embeddings" / old / "embedding.1.ark")))
    assert set(new) == set(old) and len(old) == 30
    for utt, vector in old.items():
        assert np.abs(new[utt] - vector).max() < 1e-5 * np.abs(vector).max()


def test_embeddings_of_version_0_1_are_scored(root, exp, tmp_path):
    scp = [f"tests/data/experiment_v0.1/embeddings/test_{name}/embedding.scp" for name in ("native", "native_1s")]
    shell(root, "steps/score.py", "--enroll", scp[0], "--test", scp[1], exp / "trials/native_1s", tmp_path / "scores")
    assert (tmp_path / "scores").read_bytes() == (exp / "scores/native_1s").read_bytes()


def test_python_and_command_line_give_these_scores(exp, work):
    enroll, test, score = (exp / "scores/native").read_text().split("\n")[0].split()
    files = [str(work / f"data/audio/{utt}.wav") for utt in (enroll, test)]
    extractor = Extractor.from_pretrained(exp, "cpu")
    a, b = (extractor.embed(*read_audio(file)) for file in files)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) == pytest.approx(float(score), abs=1e-6)
    row = json.loads(shell(work, "rawnext", "verify", "-m", "exp", "--json", *files))
    assert row["score"] == float(score)
    assert row["llr"] == pytest.approx(0.302959, abs=1e-4) and row["same_speaker"]   # what version 0.1 printed
