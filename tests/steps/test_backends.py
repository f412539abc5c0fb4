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
from rawnext.scoring.adaptation import adapt_plda, coral
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
                        for s in range(SPEAKERS) for u in range(5)}
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
    assert done.stdout == "train_backend.py: 30 embeddings of 6 speakers, LDA from 6 to 4 dimensions, PLDA, in model\n"
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
    spk = np.repeat(np.arange(6), 5)
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


SMALL = ("normalize.py: WARNING: {}: a cohort of 30 is too small, and scores will be worse than cosines; want 100 "
         "vectors or more of other speakers (in recipes: --cohort-utts)\n")


@pytest.mark.parametrize(("options", "t_cohort", "z_cohort", "top"), [
    (["--top", "0"], 0, 0, 30), (["--top", "5", "--test-cohort", "cut.scp"], 0, 0.1, 5)])
def test_normalised_scores(folder, options, t_cohort, z_cohort, top):
    folder.score("cosine")
    done = folder.run("normalize.py", "--enroll", "test.scp", "--test", "test.scp", "--cohort", "train.scp", *options,
                      "cosine.scores", "normalised")
    cohorts = dict.fromkeys(["train.scp", *options[3:]])
    assert (done.returncode, done.stderr) == (0, "".join(map(SMALL.format, cohorts)))
    enroll, test, ours = read_scores(folder.path / "normalised")
    assert list(zip(enroll, test)) == folder.pairs

    def z(score, utt, cohort):
        nearest = np.sort([cosine(folder.vectors[utt], c) for c in cohort])[-top:]
        return (score - nearest.mean()) / nearest.std()

    for a, b, score in zip(enroll, test, ours):
        raw = cosine(folder.vectors[a], folder.vectors[b])
        expected = (z(raw, a, folder.train + z_cohort) + z(raw, b, folder.train + t_cohort)) / 2
        assert score == pytest.approx(expected, abs=2e-4)


def normalised(folder, cosines, *options):
    done = folder.run("normalize.py", "--enroll", "test.scp", "--test", "test.scp", "--cohort", "train.scp", "--top",
                      "5", *options, cosines, "normalised")
    assert (done.returncode, done.stderr) == (0, SMALL.format("train.scp"))
    return read_scores(folder.path / "normalised")[2]


def test_models_of_one_utterance_score_as_the_utterance(folder):
    write_lines(folder.path / "singles", (f"m-{a} {a}" for a in dict.fromkeys(a for a, _ in folder.pairs)))
    write_lines(folder.path / "of_singles", (f"m-{line}" for line in (folder.path / "trials").read_text().splitlines()))
    for backend, *model in (("cosine",), ("cosine_mean", "--model", "model"), ("plda", "--model", "model")):
        whole = folder.score(backend, *model)
        ours = folder.score(backend, *model, "--enroll-map", "singles", trials="of_singles")
        np.testing.assert_allclose(ours, whole, atol=2e-6)
    folder.score("cosine", "--enroll-map", "singles", trials="of_singles")
    ours = normalised(folder, "cosine.scores", "--enroll-map", "singles")
    folder.score("cosine")
    np.testing.assert_allclose(ours, normalised(folder, "cosine.scores"), atol=2e-5)


def test_models_are_normalised_by_their_mean_unit_vector(folder):
    raw = folder.score("cosine", "--enroll-map", "map", trials="models")
    ours = normalised(folder, "cosine.scores", "--enroll-map", "map")
    units = {utt: x / np.linalg.norm(x) for utt, x in folder.vectors.items()}
    means = {"m6": np.mean([units[f"s6-{u}"] for u in range(2)], axis=0),
             "m7": np.mean([units[f"s7-{u}"] for u in range(3)], axis=0)}

    def z(score, x):
        nearest = np.sort([cosine(x, c) for c in folder.train])[-5:]
        return (score - nearest.mean()) / nearest.std()

    expected = [(z(score, means[model]) + z(score, folder.vectors[utt])) / 2
                for score, model, utt in zip(raw, ("m6", "m7", "m7"), ("s6-3", "s6-3", "s7-3"))]
    np.testing.assert_allclose(ours, expected, atol=2e-4)


@pytest.mark.parametrize(("step", "args", "message"), [
    ("score.py", ["--backend", "plda", "--model", "none"], "none/mean.vec: no such file"),
    ("score.py", ["--backend", "plda", "--model", "wrong"], "wrong/plda: 2 dimensions, but transform.mat gives 4"),
    ("score.py", ["--backend", "cosine_mean", "--model", "kaldi4"], "test.scp: 6 dimensions, but the back end has 4"),
    ("score.py", ["--enroll-map", "map"], "trials:1: s6-0 is not in map"),
    ("normalize.py", ["--cohort", "one.scp"], "one.scp: a cohort of 1 of one speaker, a: statistics need two or more, "
     "and want 100 vectors of as many speakers as possible")])
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


# --- adaptation

@pytest.fixture(scope="module")
def target(folder):
    """(40, 6) embeddings of another domain, in target.scp."""
    x = (np.random.default_rng(7).normal(size=(40, DIM)) * np.arange(1, 7) + 3).astype(np.float32)
    write_vectors(folder.path / "target.ark", folder.path / "target.scp", ((f"t{n}", row) for n, row in enumerate(x)))
    return x


@pytest.mark.parametrize("adaptation", ["coral", "plda"])
def test_adaptation_of_a_back_end(folder, target, adaptation):
    """CORAL trains all on adapted embeddings; that of PLDA keeps LDA. Both centre on the other domain."""
    done = folder.run("train_backend.py", "--lda-dim", "4", "--adapt", "target.scp", "--adaptation", adaptation,
                      "train.scp", "utt2spk", adaptation)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"PLDA, adapted by {adaptation} to 40 embeddings, in {adaptation}\n")
    found = [folder.path / adaptation / name for name in ("mean.vec", "transform.mat", "plda")]
    np.testing.assert_allclose(read_vector(found[0]), target.mean(axis=0), atol=1e-5)
    if adaptation == "coral":
        x = coral(folder.train, target).astype(np.float32)
        write_vectors(folder.path / "as_target.ark", folder.path / "as_target.scp",
                      zip([utt for utt in folder.vectors if utt < "s6"], x))
        assert folder.run("train_backend.py", "--lda-dim", "4", "as_target.scp", "utt2spk", "expected").returncode == 0
        expected = read_plda(folder.path / "expected/plda")
    else:
        matrix = read_arrays(folder.path / "model/transform.mat", [2])[0]
        np.testing.assert_allclose(np.abs(read_arrays(found[1], [2])[0]), np.abs(matrix), atol=1e-4)
        rows = np.column_stack([target - target.mean(axis=0), np.ones(len(target))]) @ matrix.T
        expected = adapt_plda(read_plda(folder.path / "model/plda"), scaled(rows))
    for ours, other in zip(read_plda(found[2]), expected):
        np.testing.assert_allclose(np.abs(ours), np.abs(other), rtol=1e-3, atol=1e-4)
    folder.score("plda", "--model", adaptation)


@pytest.mark.parametrize(("num", "dim", "options", "why"), [
    (6, 6, [], "CORAL of 6 dimensions needs more different vectors than that, got 6; --adaptation plda needs fewer"),
    (40, 5, [], "5 dimensions, but the training embeddings have 6")])
def test_adaptation_that_cannot_be(folder, num, dim, options, why):
    write(folder, "odd_target", np.random.default_rng(0).normal(size=(num, dim)), ["t"] * num)
    done = folder.run("train_backend.py", "--adapt", "odd_target.scp", *options, "train.scp", "utt2spk", "none")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, f"train_backend.py: odd_target.scp: {why}")
    assert not (folder.path / "none").exists()


def test_adaptation_to_few_embeddings_is_warned_about(folder):
    write(folder, "few_target", np.random.default_rng(0).normal(size=(10, 6)), ["t"] * 10)
    done = folder.run("train_backend.py", "--adapt", "few_target.scp", "train.scp", "utt2spk", "of_few_target")
    assert done.returncode == 0
    assert done.stderr == ("train_backend.py: WARNING: few_target.scp: 10 embeddings are few for the covariance of 6 "
                           "dimensions, and adaptation may make scores worse; want 24\n")


# --- too little data

def write(folder, name, vectors, speakers):
    """name.scp and name.utt2spk of (N, D) vectors and their N speakers; utterances are SPEAKER-ROW."""
    utts = [f"{spk}-{row:04d}" for row, spk in enumerate(speakers)]
    write_vectors(folder.path / f"{name}.ark", folder.path / f"{name}.scp", zip(utts, vectors))
    write_lines(folder.path / f"{name}.utt2spk", (f"{utt} {spk}" for utt, spk in zip(utts, speakers)))
    return utts


@pytest.fixture(scope="module")
def few(folder, shared):
    """20 vectors of 5 speakers in 32 dimensions, and all their trials."""
    keys, x = read_ark(shared / "cases/plda_few_vectors/few.ark")
    spk_of = dict(line.split() for line in (shared / "cases/plda_few_vectors/few.utt2spk").read_text().splitlines())
    return x, [spk_of[key] for key in keys]


def scored(folder, name, utts, speakers, backend, model):
    """|scores| of all pairs of different utterances."""
    write_lines(folder.path / f"{name}.trials", (
        f"{a} {b} {'target' if s == t else 'nontarget'}" for a, s in zip(utts, speakers) for b, t in zip(utts, speakers)
        if a < b))
    done = folder.run("score.py", "--enroll", f"{name}.scp", "--test", f"{name}.scp", "--backend", backend, "--model",
                      model, f"{name}.trials", f"{name}.scores")
    assert done.returncode == 0, done.stderr
    return np.abs(read_scores(folder.path / f"{name}.scores")[2])


@pytest.mark.parametrize("copies", [1, 30])
def test_lda_and_plda_of_few_vectors_use_the_directions_that_they_suffice_for(folder, few, copies):
    """Copies of a vector show no more variance within a speaker."""
    x, speakers = few
    utts = write(folder, "few", np.tile(x, (copies, 1)), speakers * copies)
    done = folder.run("train_backend.py", "few.scp", "few.utt2spk", "of_few")
    assert done.returncode == 0
    assert done.stderr == (
        f"train_backend.py: WARNING: few.utt2spk: {20 * copies} vectors of 5 speakers are too few for LDA and PLDA of "
        "32 dimensions: reduced to their 3 principal components, and scores will be worse than cosines; want 133 "
        "different vectors of these speakers (in recipes: --cohort-utts)\n")
    assert read_arrays(folder.path / "of_few/transform.mat", [2])[0].shape == (3, 33)
    for backend in ("lda", "plda"):
        assert scored(folder, "few", utts[:20], speakers, backend, "of_few").max() < 1000


def test_enough_vectors_are_not_reduced(folder):
    rng = np.random.default_rng(3)
    for num, kept in ((27, 6), (26, 5)):  # N - S = 24 is four times the dimension
        write(folder, "enough", rng.normal(size=(num, 6)), [f"s{row % 3}" for row in range(num)])
        done = folder.run("train_backend.py", "enough.scp", "enough.utt2spk", "enough")
        assert done.returncode == 0 and ("WARNING" in done.stderr) == (kept < 6)
        assert f"reduced to their {kept}" in done.stderr or kept == 6


@pytest.mark.parametrize(("speakers", "why"), [
    ("aaaaabbbbb", "LDA of 2 speakers to 1 dimension leaves only a sign; want 3 or more"),
    ("aabb", "4 vectors of 2 speakers are too few for LDA and PLDA of 6 dimensions; want 26 different vectors"),
    ("abcdefgh", "LDA needs a speaker with two vectors; each has one")])
def test_vectors_that_suffice_for_nothing_are_refused(folder, speakers, why):
    write(folder, "none", np.random.default_rng(0).normal(size=(len(speakers), 6)), list(speakers))
    done = folder.run("train_backend.py", "none.scp", "none.utt2spk", "none")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"train_backend.py: none.utt2spk: {why}")
    assert not (folder.path / "none").exists()


def normalize(folder, cohort, *options):
    folder.score("cosine")   # other tests write cosine.scores of models
    (folder.path / "normalised").unlink(missing_ok=True)
    return folder.run("normalize.py", "--enroll", "test.scp", "--test", "test.scp", "--cohort", cohort, *options,
                      "cosine.scores", "normalised")


@pytest.mark.parametrize(("make", "options", "why"), [
    (lambda x: (x[:1].repeat(9, 0), [f"c{n}" for n in range(9)]), [], "equal: the model gives every utterance"),
    (lambda x: (x[:9], ["c"] * 9), ["--cohort-utt2spk", "odd.utt2spk"], "a cohort of 9 of one speaker, c: "),
    (lambda x: (np.r_[x[:1].repeat(9, 0), x[1:2]], [f"c{n}" for n in range(10)]), ["--top", "4"],
     "the same cosine with each of the 4 nearest members of its cohort, so there is no standard deviation")])
def test_cohorts_without_statistics_are_refused(folder, make, options, why):
    write(folder, "odd", *make(np.stack(list(folder.vectors.values()))))
    done = normalize(folder, "odd.scp", *options)
    assert done.returncode == 1 and why in done.stderr.splitlines()[-1] and "normalize.py: odd.scp: " in done.stderr
    assert not (folder.path / "normalised").exists()


def test_speakers_of_the_trials_are_left_out_of_the_cohort(folder):
    """By the tables, or because a trial has an utterance of the cohort."""
    train = {utt: x for utt, x in folder.vectors.items() if utt < "s6"}
    write(folder, "clean", np.stack(list(train.values())), [utt[:2] for utt in train])
    assert normalize(folder, "clean.scp", "--top", "5").returncode == 0
    expected = read_scores(folder.path / "normalised")
    more = np.stack([*train.values(), folder.vectors["s7-2"], folder.vectors["s8-4"]])
    write(folder, "mixed", more, [*(utt[:2] for utt in train), "s7", "s8"])
    write_lines(folder.path / "sides", (f"{utt} {utt[:2]}" for utt in folder.vectors))
    done = normalize(folder, "mixed.scp", "--top", "5", "--cohort-utt2spk", "mixed.utt2spk", "--utt2spk", "sides")
    assert done.returncode == 0 and read_scores(folder.path / "normalised")[2].tolist() == expected[2].tolist()
    assert ("normalize.py: WARNING: mixed.scp: 2 of its 32 vectors are of speakers of the trials, such as s7; they are "
            "left out\n") in done.stderr
    write(folder, "own", more[-5:], ["s0", "s0", "s7", "s7", "s8"])
    done = normalize(folder, "own.scp", "--top", "0", "--cohort-utt2spk", "own.utt2spk", "--utt2spk", "sides")
    assert done.returncode == 0 and (
        "own.scp: 3 of its 5 vectors are of speakers of the trials, such as s7, and too few are left without them; the "
        "scores are not to be trusted, because a cohort needs other speakers\n") in done.stderr
    write_vectors(folder.path / "same.ark", folder.path / "same.scp",
                  [*train.items(), ("s6-0", folder.vectors["s6-0"])])
    done = normalize(folder, "same.scp", "--top", "5")
    assert "1 of its 31 vectors are of speakers of the trials, such as s6-0; they are left out\n" in done.stderr
    np.testing.assert_allclose(read_scores(folder.path / "normalised")[2], expected[2], atol=1e-6)


def test_nearest_members_are_by_default_a_quarter_of_a_small_cohort(folder):
    assert normalize(folder, "train.scp").stderr == SMALL.format("train.scp")
    quarter = read_scores(folder.path / "normalised")[2]
    normalize(folder, "train.scp", "--top", "7")
    assert quarter.tolist() == read_scores(folder.path / "normalised")[2].tolist()
    done = normalize(folder, "train.scp", "--top", "300")
    assert "train.scp: a cohort of 30, fewer than --top 300: all are used, as in S-norm\n" in done.stderr
    everyone = read_scores(folder.path / "normalised")[2].tolist()
    normalize(folder, "train.scp", "--top", "0")
    assert everyone == read_scores(folder.path / "normalised")[2].tolist()


def test_speakers_may_be_the_cohort(folder):
    """Their means, by steps/average_speakers.py, whose ids are speakers."""
    train = [utt for utt in folder.vectors if utt < "s6"]
    write_lines(folder.path / "spk2utt", (f"s{s} {' '.join(u for u in train if u[:2] == f's{s}')}" for s in range(6)))
    write_vectors(folder.path / "embedding.ark", folder.path / "embedding.scp", ((u, folder.vectors[u]) for u in train))
    assert folder.run("average_speakers.py", "spk2utt", ".").returncode == 0
    done = normalize(folder, "spk_embedding.scp", "--cohort-utt2spk", "utt2spk", "--top", "3")
    assert done.returncode == 0 and done.stderr == SMALL.format("spk_embedding.scp").replace("30", "6")
    write_lines(folder.path / "sides", (f"{utt} s0" for utt in folder.vectors if utt >= "s6"))
    done = normalize(folder, "spk_embedding.scp", "--cohort-utt2spk", "utt2spk", "--utt2spk", "sides",
                     "--enroll-utt2spk", "sides")
    assert "1 of its 6 vectors are of speakers of the trials, such as s0; they are left out" in done.stderr
