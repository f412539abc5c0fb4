# SPDX-License-Identifier: Apache-2.0
"""steps/train_backend.py, score.py with its models, normalize.py: from arks to scores, and every fault in one line."""

import subprocess
import sys

import numpy as np
import pytest
from kaldi_numbers import read_ark

from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import read_scores
from rawnext.scoring.kaldi_models import read_arrays, read_plda, read_vector, write_arrays, write_plda
from rawnext.scoring.plda import Plda, fit_plda, plda_scores

pytestmark = pytest.mark.usefixtures("forked_programs")

DIM, SPEAKERS = 6, 9


class Folder:
    """Training speakers (train.scp, utt2spk), enroll and test utterances, trials of models."""

    def __init__(self, root, path):
        self.root, self.path, rng = root, path, np.random.default_rng(0)
        spk = rng.normal(size=(SPEAKERS, DIM)) * 2 + 1
        self.vectors = {f"s{s}-{u}": (spk[s] + rng.normal(size=DIM)).astype(np.float32)
                        for s in range(SPEAKERS) for u in range(4)}
        train = {utt: x for utt, x in self.vectors.items() if utt < "s6"}
        test = {utt: x for utt, x in self.vectors.items() if utt >= "s6"}
        for name, part in (("train", train), ("test", test), ("cut", {k: x + 0.1 for k, x in train.items()})):
            write_vectors(path / f"{name}.ark", path / f"{name}.scp", part.items())
        write_lines(path / "utt2spk", (f"{utt} {utt[:2]}" for utt in train))
        write_lines(path / "map", ["m6 s6-0 s6-1", "m7 s7-0 s7-1 s7-2"])
        self.pairs = [(f"s{s}-0", f"s{t}-3") for s in (6, 7, 8) for t in (6, 7, 8)]
        write_lines(path / "trials", (f"{a} {b} {'target' if a[1] == b[1] else 'nontarget'}" for a, b in self.pairs))
        write_lines(path / "models", ["m6 s6-3 target", "m7 s6-3 nontarget", "m7 s7-3 target"])
        self.train = np.stack(list(train.values()))

    def run(self, step, *args):
        return subprocess.run([sys.executable, self.root / "steps" / step, *map(str, args)], cwd=self.path,
                              capture_output=True, text=True)

    def score(self, backend, *more, trials="trials"):
        done = self.run("score.py", "--enroll", "test.scp", "--test", "test.scp", "--backend", backend, *more, trials,
                        f"{backend}.scores")
        assert (done.returncode, done.stderr) == (0, "")
        return read_scores(self.path / f"{backend}.scores")[2]


@pytest.fixture(scope="module")
def folder(root, tmp_path_factory):
    folder = Folder(root, tmp_path_factory.mktemp("backends"))
    done = folder.run("train_backend.py", "--lda-dim", "4", "train.scp", "utt2spk", "model")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "train_backend.py: 24 embeddings of 6 speakers, LDA from 6 to 4 dimensions, PLDA, in model\n"
    return folder


def scaled(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True) * np.sqrt(x.shape[-1])


def cosine(x, y):
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def behind_lda(folder, x):
    """What transform-vec makes of vectors less the mean."""
    matrix = read_arrays(folder.path / "model" / "transform.mat", [2])[0]
    return np.column_stack([x - read_vector(folder.path / "model" / "mean.vec"), np.ones(len(x))]) @ matrix.T


def test_the_model_is_trained_on_what_scoring_sees(folder):
    np.testing.assert_allclose(read_vector(folder.path / "model/mean.vec"), folder.train.mean(axis=0), atol=1e-6)
    spk = np.repeat(np.arange(6), 4)
    expected = fit_plda(scaled(behind_lda(folder, folder.train)), spk)
    for ours, other in zip(read_plda(folder.path / "model/plda"), expected):
        np.testing.assert_allclose(np.abs(ours), np.abs(other), atol=1e-5)


def test_cosines_behind_mean_and_lda(folder):
    sides = [np.stack([folder.vectors[pair[side]] for pair in folder.pairs]) for side in (0, 1)]
    mean = folder.train.mean(axis=0)
    np.testing.assert_allclose(folder.score("cosine_mean", "--model", "model"),
                               [cosine(x - mean, y - mean) for x, y in zip(*sides)], atol=2e-6)
    np.testing.assert_allclose(folder.score("lda", "--model", "model"),
                               [cosine(x, y) for x, y in zip(*(behind_lda(folder, side) for side in sides))], atol=2e-6)


@pytest.mark.parametrize("options", [[], ["--no-normalize-length"]])
def test_plda_knows_the_number_of_enrolment_utterances(folder, options):
    ours = folder.score("plda", "--model", "model", "--enroll-map", "map", *options, trials="models")
    means = np.stack([np.mean([folder.vectors[f"{s}-{u}"] for u in range(n)], axis=0)
                      for s, n in (("s6", 2), ("s7", 3))])
    tests = np.stack([folder.vectors["s6-3"], folder.vectors["s7-3"]])
    expected = plda_scores(read_plda(folder.path / "model/plda"), scaled(behind_lda(folder, means)),
                           scaled(behind_lda(folder, tests)), np.array([0, 1, 1]), np.array([0, 0, 1]),
                           np.array([2, 3]), not options)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_cosines_of_models_average_unit_vectors(folder):
    ours = folder.score("cosine", "--enroll-map", "map", trials="models")
    m6 = sum(folder.vectors[f"s6-{u}"] / np.linalg.norm(folder.vectors[f"s6-{u}"]) for u in range(2))
    assert ours[0] == pytest.approx(cosine(m6, folder.vectors["s6-3"]), abs=2e-6)


def test_kaldis_own_model_scores_as_kaldi(folder, shared):
    """A folder of mean.vec, transform.mat and plda, as Kaldi's recipes leave it; here the first two do nothing."""
    kaldi = shared / "parity" / "kaldi"
    model = folder.path / "kaldi"
    write_arrays(model / "mean.vec", [np.zeros(24, np.float32)])
    write_arrays(model / "transform.mat", [np.eye(24, dtype=np.float32)])
    (model / "plda").write_bytes((kaldi / "plda").read_bytes())
    write_vectors(folder.path / "k.ark", folder.path / "k.scp", zip(*read_ark(kaldi / "eval.ark")))
    done = folder.run("score.py", "--backend", "plda", "--model", "kaldi", "--enroll", "k.scp", "--test", "k.scp",
                      kaldi / "trials", "kaldi.scores")
    assert (done.returncode, done.stderr) == (0, "")
    ours, theirs = read_scores(folder.path / "kaldi.scores"), read_scores(kaldi / "plda_scores")
    assert ours[:2] == theirs[:2]
    np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-5, atol=5e-4)


@pytest.mark.parametrize(("options", "t_cohort", "z_cohort", "top"), [
    (["--top", "0"], 0, 0, 24), (["--top", "5", "--test-cohort", "cut.scp"], 0, 0.1, 5)])
def test_normalised_scores(folder, options, t_cohort, z_cohort, top):
    folder.score("cosine")
    done = folder.run("normalize.py", "--enroll", "test.scp", "--test", "test.scp", "--cohort", "train.scp", *options,
                      "cosine.scores", "normalised")
    assert (done.returncode, done.stderr) == (0, "")
    enroll, test, ours = read_scores(folder.path / "normalised")
    assert list(zip(enroll, test)) == folder.pairs

    def z(score, utt, cohort):
        nearest = np.sort([cosine(folder.vectors[utt], c) for c in cohort])[-top:]
        return (score - nearest.mean()) / nearest.std()

    for a, b, score in zip(enroll, test, ours):
        raw = cosine(folder.vectors[a], folder.vectors[b])
        expected = (z(raw, a, folder.train + z_cohort) + z(raw, b, folder.train + t_cohort)) / 2
        assert score == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("step", "args", "message"), [
    ("score.py", ["--backend", "plda", "--model", "none"], "none/mean.vec: no such file"),
    ("score.py", ["--backend", "plda", "--model", "wrong"], "wrong/plda: 2 dimensions, but transform.mat gives 4"),
    ("score.py", ["--backend", "cosine_mean", "--model", "kaldi4"], "test.scp: 6 dimensions, but the back end has 4"),
    ("score.py", ["--enroll-map", "map"], "trials:1: s6-0 is not in map"),
    ("normalize.py", ["--cohort", "one.scp"], "one.scp: a cohort of 1: statistics need two or more")])
def test_faults_are_one_line_and_leave_no_scores(folder, step, args, message):
    for name in ("mean.vec", "transform.mat"):
        (folder.path / "wrong").mkdir(exist_ok=True)
        (folder.path / "wrong" / name).write_bytes((folder.path / "model" / name).read_bytes())
    write_plda(folder.path / "wrong/plda", Plda(np.zeros(2), np.eye(2), np.ones(2)))
    write_arrays(folder.path / "kaldi4/mean.vec", [np.zeros(4)])
    write_vectors(folder.path / "one.ark", folder.path / "one.scp", [("a", np.ones(6))])
    write_lines(folder.path / "raw", (f"{a} {b} 0.5" for a, b in folder.pairs))
    done = folder.run(step, "--enroll", "test.scp", "--test", "test.scp", *args,
                      "raw" if step == "normalize.py" else "trials", "bad/scores")
    assert (done.returncode, done.stderr) == (1, f"{step}: {message}\n")
    assert not (folder.path / "bad").exists()


def test_training_that_cannot_be(folder):
    write_lines(folder.path / "few", ["s0-0 s0"])
    done = folder.run("train_backend.py", "train.scp", "few", "out")
    assert (done.returncode, done.stderr) == (1, "train_backend.py: few: s0-1 of train.scp is missing\n")
    write_lines(folder.path / "lonely", (f"{utt} {utt}" for utt in folder.vectors))
    done = folder.run("train_backend.py", "train.scp", "lonely", "out")
    assert (done.returncode, done.stderr) == (
        1, "train_backend.py: lonely: LDA needs a speaker with two vectors; each has one\n")
    assert not (folder.path / "out").exists()
