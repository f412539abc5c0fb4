# SPDX-License-Identifier: Apache-2.0
"""steps/score.py: cosines of real arks, and every fault of its input in one line."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import read_scores
from rawnext.training import checkpoint

pytestmark = pytest.mark.usefixtures("forked_programs")


@pytest.fixture
def score(root, tmp_path):
    """Run the program in a folder with embeddings a1 a2 b1 (all.scp, 4-d), short.scp (3-d), zero.scp and trials."""
    rng = np.random.default_rng(0)
    vectors = {utt: rng.normal(size=4).astype(np.float32) for utt in ("a1", "a2", "b1")}
    write_vectors(tmp_path / "all.ark", tmp_path / "all.scp", vectors.items())
    write_vectors(tmp_path / "test.ark", tmp_path / "test.scp", ((utt, -x) for utt, x in vectors.items()))
    write_vectors(tmp_path / "short.ark", tmp_path / "short.scp", ((utt, x[:3]) for utt, x in vectors.items()))
    write_vectors(tmp_path / "zero.ark", tmp_path / "zero.scp", [("a1", np.ones(4)), ("a2", np.zeros(4))])
    write_lines(tmp_path / "trials", ["a1 a2 target", "a1 b1 nontarget", "a2 a2 target"])

    def run(*args):
        return subprocess.run([sys.executable, root / "steps" / "score.py", *args], cwd=tmp_path, capture_output=True,
                              text=True)

    run.vectors, run.folder = vectors, tmp_path
    return run


def cosine(x, y):
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


ITSELF = ("score.py: WARNING: trials: 1 of 3 trials compare an utterance with itself, first in line 3, a2 a2; the "
          "results depend on them\n")


@pytest.mark.parametrize("test_scp, sign", [("all.scp", 1), ("test.scp", -1)])
def test_scores_are_cosines_in_the_order_of_the_trials(score, test_scp, sign):
    done = score("--enroll", "all.scp", "--test", test_scp, "trials", "new/folder/scores")
    assert (done.returncode, done.stderr) == (0, ITSELF)
    enroll, test, scores = read_scores(score.folder / "new" / "folder" / "scores")
    assert list(zip(enroll, test)) == [("a1", "a2"), ("a1", "b1"), ("a2", "a2")]
    expected = [sign * cosine(score.vectors[e], score.vectors[t]) for e, t in zip(enroll, test)]
    np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize("trial, enroll_scp, test_scp, message", [
    ("b1 c1 target", "all.scp", "all.scp", "trials:4: c1 is not in all.scp"),
    ("c1 b1 target", "all.scp", "all.scp", "trials:4: c1 is not in all.scp"),
    ("a1 a2", "all.scp", "all.scp", "trials:4: expected 3 columns, got 2"),
    ("a1 a2 yes", "all.scp", "all.scp", "trials:4: expected target or nontarget, got 'yes'"),
    ("a1 a2 target", "all.scp", "short.scp", "short.scp: 3 dimensions, but all.scp has 4"),
    ("a1 a2 target", "zero.scp", "all.scp", "zero.scp:2: a2 is a zero vector"),
    ("a1 a2 target", "none.scp", "all.scp", "none.scp: no such file"),
])
def test_bad_input_is_one_line_and_leaves_no_scores(score, trial, enroll_scp, test_scp, message):
    with open(score.folder / "trials", "a") as file:
        file.write(f"{trial}\n")
    done = score("--enroll", enroll_scp, "--test", test_scp, "trials", "scores")
    assert done.returncode == 1
    assert done.stderr == f"score.py: {message}\n"
    assert not list(score.folder.glob("*scores*"))


@pytest.fixture
def exp(score):
    """An experiment with a trained siamese head of 4 dimensions."""
    torch.manual_seed(0)
    head = {"linear.weight": torch.randn(1, 4), "linear.bias": torch.tensor([-0.5])}
    for name, state in (("exp", {"losses": {"siamese": head}}), ("other", {"losses": {"aam": {}}})):
        checkpoint.save(score.folder / name / "model.pt", state)
    return head


def test_a_siamese_head_scores_the_more_alike_higher(score, exp):
    done = score("--backend", "siamese", "--model", "exp", "--enroll", "all.scp", "--test", "test.scp", "trials",
                 "scores")
    assert (done.returncode, done.stderr) == (0, ITSELF)
    enroll, test, scores = read_scores(score.folder / "scores")
    weight, bias = exp["linear.weight"][0].numpy(), exp["linear.bias"].item()
    expected = [-(weight @ np.abs(score.vectors[e] + score.vectors[t]) + bias) for e, t in zip(enroll, test)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("name, scp, message", [
    ("other", "all.scp", "other/model.pt: has no siamese head; it was not trained with the siamese loss"),
    ("exp", "short.scp", "short.scp: 3 dimensions, but the siamese head of exp has 4"),
])
def test_a_siamese_head_that_is_not_there(score, exp, name, scp, message):
    done = score("--backend", "siamese", "--model", name, "--enroll", scp, "--test", scp, "trials", "scores")
    assert (done.returncode, done.stderr) == (1, f"score.py: {message}\n")


def test_pairs_without_label_are_scored_in_their_order(score):
    write_lines(score.folder / "pairs", ["b1 a1 q7", "a1 a2 q1", "b1 a1 q2"])
    done = score("--unlabelled", "--enroll", "all.scp", "--test", "all.scp", "pairs", "scores")
    assert (done.returncode, done.stderr) == (0, "")
    enroll, test, _ = read_scores(score.folder / "scores")
    assert (enroll, test) == (["b1", "a1", "b1"], ["a1", "a2", "a1"])
    (score.folder / "pairs").write_text("")
    done = score("--unlabelled", "--enroll", "all.scp", "--test", "all.scp", "pairs", "scores")
    assert (done.returncode, done.stderr) == (1, "score.py: pairs: is empty\n")


def test_trials_of_copies_and_of_a_model_with_its_own_utterance_are_counted(score):
    copies = {**score.vectors, "c1": score.vectors["b1"]}
    write_vectors(score.folder / "copies.ark", score.folder / "copies.scp", copies.items())
    write_lines(score.folder / "map", ["m a1 a2", "n b1"])
    write_lines(score.folder / "trials", ["m a1 target", "n c1 target", "n a1 nontarget"])
    done = score("--enroll", "copies.scp", "--test", "copies.scp", "--enroll-map", "map", "trials", "scores")
    assert done.returncode == 0 and done.stderr.splitlines() == [
        "score.py: WARNING: trials: 1 of 3 trials compare an utterance with itself, first in line 1, m a1; the results "
        "depend on them"]
    write_lines(score.folder / "trials", ["b1 c1 target", "a1 b1 nontarget"])
    done = score("--enroll", "copies.scp", "--test", "copies.scp", "trials", "scores")
    assert done.returncode == 0 and done.stderr.splitlines() == [
        "score.py: WARNING: trials: 1 of 2 trials have one embedding on both sides, as of a copied recording, first in "
        "line 1, b1 c1; the results depend on them"]


@pytest.mark.parametrize(("change", "why"), [
    (lambda x: np.ones(4), "embeddings are equal: the model gives every utterance the same one"),
    (lambda x: 3 + 1e-7 * x, "embeddings are equal: the model gives every utterance the same one"),
    (lambda x: x * np.array([1, 1, np.inf, 1]), "bad.scp:1: a1: is not finite"),
    (lambda x: x * np.array([1, 1, np.nan, 1]), "bad.scp:1: a1: is not finite"),
    (lambda x: 0 * x, "bad.scp:1: a1 is a zero vector")])
def test_embeddings_without_information_are_refused(score, change, why):
    import kaldiio

    with open(score.folder / "bad.ark", "wb") as ark, open(score.folder / "bad.scp", "w") as scp:
        for utt, x in score.vectors.items():
            scp.write(f"{utt} {score.folder}/bad.ark:{ark.tell() + len(utt) + 1}\n")
            kaldiio.save_ark(ark, {utt: change(x).astype(np.float32)})
    for sides in (("bad.scp", "bad.scp"), ("all.scp", "bad.scp")):
        done = score("--enroll", sides[0], "--test", sides[1], "trials", "scores")
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    done = score("--enroll", "bad.scp", "--test", "bad.scp", "trials", "scores")
    assert why in done.stderr


@pytest.mark.parametrize("kind", ["cosine", "distance"])
def test_pairs_of_segments(score, kind):
    """utt a has the segments a1 and a2, utt b one."""
    write_lines(score.folder / "utt_segments", ["a a1 a2", "b b1"])
    write_lines(score.folder / "pairs", ["a b nontarget", "b a target"])
    args = "--enroll", "all.scp", "--test", "test.scp", "--segments", "utt_segments", "--segment-score", kind
    done = score(*args, "pairs", "scores")
    assert (done.returncode, done.stderr) == (0, "")
    unit = {utt: x / np.linalg.norm(x) for utt, x in score.vectors.items()}
    pairs = [[("a1", "b1"), ("a2", "b1")], [("b1", "a1"), ("b1", "a2")]]
    expected = [np.mean([-np.linalg.norm(unit[e] + unit[t]) if kind == "distance" else -unit[e] @ unit[t]
                         for e, t in of_trial]) for of_trial in pairs]
    np.testing.assert_allclose(read_scores(score.folder / "scores")[2], expected, atol=1e-6)


@pytest.mark.parametrize(("lines", "message"), [
    (["a a1 a2"], "pairs:1: b is not in utt_segments"),
    (["a a1 c1", "b b1"], "all.scp: c1, a segment of a, is missing")])
def test_missing_segments_are_one_line(score, lines, message):
    write_lines(score.folder / "utt_segments", lines)
    write_lines(score.folder / "pairs", ["a b nontarget"])
    done = score("--enroll", "all.scp", "--test", "all.scp", "--segments", "utt_segments", "pairs", "scores")
    assert (done.returncode, done.stderr) == (1, f"score.py: {message}\n")
