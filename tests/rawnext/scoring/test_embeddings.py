# SPDX-License-Identifier: Apache-2.0
"""The sides of a trial list: centred, projected by LDA, averaged as in Kaldi; errors are one line."""

import numpy as np
import pytest
from kaldi_numbers import read_ark, read_text

from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import indices_of
from rawnext.scoring import embeddings
from rawnext.scoring.embeddings import Transform, backend_transform, enroll_models, read_side, read_sides
from rawnext.scoring.kaldi_models import write_arrays

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
KEYS = [f"u{i}" for i in range(6)]


@pytest.fixture
def scp(tmp_path):
    write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", zip(KEYS, X))
    return str(tmp_path / "e.scp")


@pytest.mark.parametrize("block", [1, 4, 100])
def test_mean_and_lda_transform_are_applied(monkeypatch, tmp_path, scp, block):
    monkeypatch.setattr(embeddings, "BLOCK", block)
    mean, matrix = np.arange(4.0), np.random.default_rng(1).normal(size=(2, 5))
    write_arrays(tmp_path / "mean.vec", [mean])
    write_arrays(tmp_path / "transform.mat", [matrix])
    np.testing.assert_allclose(read_side(scp, backend_transform(tmp_path, lda=False)).x, X - mean, atol=1e-6)
    expected = np.stack([matrix @ np.append(x - mean, 1) for x in X])
    np.testing.assert_allclose(read_side(scp, backend_transform(tmp_path, lda=True)).x, expected, atol=1e-5)


def test_means_and_counts_equal_kaldis(shared, tmp_path):
    kaldi = shared / "parity" / "kaldi"
    keys, x = read_ark(kaldi / "train.ark")
    write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", zip(keys, x))
    side = enroll_models(read_side(tmp_path / "e.scp"), kaldi / "train.spk2utt", "e.scp", unit=False)
    names, means = read_text(kaldi / "train_spk_mean.txt")
    assert side.keys == names
    np.testing.assert_allclose(side.x, means, rtol=1e-5, atol=1e-6)
    assert side.num_utts.tolist() == read_text(kaldi / "train_num_utts.txt")[1][:, 0].tolist()


def test_centring_equals_kaldis(shared):
    kaldi = shared / "parity" / "kaldi"
    centred = Transform(read_text_vector(kaldi / "train_mean.vec"))(read_ark(kaldi / "eval.ark")[1])
    np.testing.assert_allclose(centred, read_text(kaldi / "eval_centered.txt")[1], rtol=1e-5, atol=1e-5)


def read_text_vector(path):
    return np.array(path.read_text().strip("[] \n").split(), dtype=float)


def test_unit_vectors_have_equal_weight(tmp_path, scp):
    write_lines(tmp_path / "map", ["m u0 u3 u5", "n u1"])
    models = enroll_models(read_side(scp), tmp_path / "map", scp, unit=True)
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(models.x, [units[[0, 3, 5]].mean(axis=0), units[1]], atol=1e-6)
    assert models.keys == ["m", "n"] and models.num_utts.tolist() == [3, 1]
    assert indices_of(["n", "m", "n"], models.row_of, "trials", scp).tolist() == [1, 0, 1]


def test_missing_keys_zero_vectors_and_wrong_dimensions_are_refused(tmp_path, scp):
    def fails(why, call, *args, **kwargs):
        with pytest.raises(InputError, match=why):
            call(*args, **kwargs)

    write_lines(tmp_path / "map", ["m u0", "n u1 u9"])
    fails("map:2: u9 is not in e.scp", enroll_models, read_side(scp), tmp_path / "map", "e.scp", unit=True)
    fails("t:2: x is not in e.scp", indices_of, ["u0", "x"], read_side(scp).row_of, "t", "e.scp")
    fails("4 dimensions, but the back end has 3", read_side, scp, Transform(np.zeros(3)))
    fails("e.scp:3: u2 is a zero vector", read_side, scp, Transform(X[2].astype(np.float64)))
    write_vectors(tmp_path / "o.ark", tmp_path / "o.scp", [("a", X[0]), ("b", -X[0])])
    write_lines(tmp_path / "map", ["m a b"])
    fails("map:1: m is a zero vector", enroll_models, read_side(tmp_path / "o.scp"), tmp_path / "map", "o", unit=True)
    write_arrays(tmp_path / "mean.vec", [np.zeros(4)])
    fails("transform.mat: no such file", backend_transform, tmp_path, lda=True)


def test_only_the_vectors_of_the_trials_are_read(tmp_path, scp):
    """From one or two folders, by utts and by models; other vectors may even be damaged."""
    (tmp_path / "e.ark").write_bytes((tmp_path / "e.ark").read_bytes()[:-1])  # u5 is cut off
    sides = read_sides(scp, scp, None, None, True, "t", ["u3", "u0", "u3"], ["u1", "u3", "u1"])
    assert sides.enroll is sides.test and sides.test.keys == ["u0", "u1", "u3"]
    assert np.array_equal(sides.enroll.x[sides.enroll_index], X[[3, 0, 3]])
    assert np.array_equal(sides.test.x[sides.test_index], X[[1, 3, 1]])
    write_vectors(tmp_path / "o.ark", tmp_path / "o.scp", zip(KEYS, -X))
    sides = read_sides(str(tmp_path / "o.scp"), scp, None, None, True, "t", ["u3"], ["u4"])
    assert (sides.enroll.keys, sides.test.keys) == (["u3"], ["u4"]) and np.array_equal(sides.enroll.x, -X[[3]])
    write_lines(tmp_path / "map", ["m u0 u3", "n u1"])
    sides = read_sides(scp, scp, None, str(tmp_path / "map"), False, "t", ["n"], ["u4"])
    np.testing.assert_allclose(sides.enroll.x[sides.enroll_index], X[[1]])
    assert np.array_equal(sides.test.x[sides.test_index], X[[4]])
    for test_scp in (scp, str(tmp_path / "o.scp")):
        with pytest.raises(InputError, match=r"t:2: x is not in .*\.scp"):
            read_sides(scp, test_scp, Transform(np.zeros(4)), None, True, "t", ["u0", "u0"], ["u1", "x"])


def test_zero_vector_is_reported_by_its_line_in_the_scp(tmp_path):
    write_vectors(tmp_path / "z.ark", tmp_path / "z.scp", [("a", X[0]), ("b", X[1]), ("z", 0 * X[2])])
    with pytest.raises(InputError, match="z.scp:3: z is a zero vector"):
        read_side(tmp_path / "z.scp", wanted={"b", "z"})
    assert read_side(tmp_path / "z.scp", wanted={"b"}).keys == ["b"]
