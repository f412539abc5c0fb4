# SPDX-License-Identifier: Apache-2.0
"""Kaldi's model files: kaldi_native_io reads ours, we read its and Kaldi's, and damage is reported in one line."""

import itertools

import kaldi_native_io
import numpy as np
import pytest
from kaldi_numbers import read_ark

from rawnext.errors import InputError
from rawnext.scoring.kaldi_models import read_arrays, read_plda, read_transform, read_vector, write_arrays, write_plda
from rawnext.scoring.plda import Plda

RNG = np.random.default_rng(0)
PLDA = Plda(RNG.normal(size=3), RNG.normal(size=(3, 3)), np.array([3.0, 2.0, 0.5]))


def same(ours, theirs):
    return all(np.array_equal(one, other) for one, other in zip(ours, theirs))


@pytest.mark.parametrize(("dtype", "vector", "matrix"), [
    (np.float32, kaldi_native_io.FloatVector, kaldi_native_io.FloatMatrix),
    (np.float64, kaldi_native_io.DoubleVector, kaldi_native_io.DoubleMatrix)])
def test_kaldi_native_io_reads_the_written_files(tmp_path, dtype, vector, matrix):
    values = RNG.normal(size=5).astype(dtype), RNG.normal(size=(2, 3)).astype(dtype)
    for name, value, reader in zip(("v", "m"), values, (vector, matrix)):
        write_arrays(tmp_path / name, [value])
        assert np.array_equal(reader.read(str(tmp_path / name)).numpy(), value)
    assert same([read_vector(tmp_path / "v"), np.column_stack(read_transform(tmp_path / "m", 2))], values)
    assert same(read_transform(tmp_path / "m", 3), (values[1], np.zeros(2)))


@pytest.mark.parametrize("binary", [True, False])
def test_files_of_kaldi_native_io_are_read(tmp_path, binary):
    vector, matrix = RNG.normal(size=4).astype(np.float32), RNG.normal(size=(2, 5)).astype(np.float32)
    kaldi_native_io.FloatVector(vector).write(str(tmp_path / "v"), binary)
    kaldi_native_io.FloatMatrix(matrix).write(str(tmp_path / "m"), binary)
    np.testing.assert_allclose(read_vector(tmp_path / "v"), vector, rtol=1e-6)
    np.testing.assert_allclose(np.column_stack(read_transform(tmp_path / "m", 4)), matrix, rtol=1e-6)


def test_kaldis_plda_is_read_and_written_byte_for_byte(shared, tmp_path):
    kaldi = shared / "parity" / "kaldi"
    plda = read_plda(kaldi / "plda")
    write_plda(tmp_path / "plda", plda)
    assert (tmp_path / "plda").read_bytes() == (kaldi / "plda").read_bytes()
    for binary, text in zip(plda, read_plda(kaldi / "plda.txt")):
        np.testing.assert_allclose(text, binary, rtol=1e-6)
    mean = read_ark(kaldi / "train.ark")[1].mean(axis=0)
    np.testing.assert_allclose(read_vector(kaldi / "train_mean.vec"), mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", [False, True])
def test_damaged_plda_gives_one_line_or_finite_numbers(tmp_path, text):
    write_plda(tmp_path / "whole", PLDA)
    whole = (tmp_path / "whole").read_bytes()
    if text:
        rows = "\n".join(" ".join(map(str, row)) for row in PLDA.transform)
        whole = f"<Plda>  [ {' '.join(map(str, PLDA.mean))} ]\n [\n{rows} ]\n [ 3 2 0.5 ]\n</Plda> ".encode()
    path = tmp_path / "plda"
    path.write_bytes(whole)
    assert same(read_plda(path), PLDA)
    cuts = [whole[:size] for size in range(0, len(whole.rstrip()), 5)]
    flips = [whole[:k] + bytes([whole[k] ^ bit]) + whole[k + 1:]
             for k, bit in zip(range(0, len(whole), 3), itertools.cycle((1, 32, 128)))]
    for data in (*flips, *cuts, whole + b"x", whole[:-8] + whole):
        path.write_bytes(data)
        try:
            assert all(np.isfinite(array).all() for array in read_plda(path)) and data in flips
        except InputError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


@pytest.mark.parametrize(("plda", "why"), [
    (PLDA._replace(psi=np.ones(2)), "sizes"), (PLDA._replace(mean=np.ones(2)), "sizes"),
    (PLDA._replace(transform=np.ones((2, 3))), "sizes"), (PLDA._replace(psi=np.array([1, 1, -1.0])), "negative")])
def test_inconsistent_plda_is_refused(tmp_path, plda, why):
    write_plda(tmp_path / "plda", plda)
    with pytest.raises(InputError, match=why):
        read_plda(tmp_path / "plda")


def test_wrong_types_sizes_and_values_are_refused(tmp_path):
    write_arrays(tmp_path / "m", [np.ones((2, 3))])
    with pytest.raises(InputError, match="a matrix, not a vector"):
        read_vector(tmp_path / "m")
    with pytest.raises(InputError, match="3 columns does not fit 7 dimensions"):
        read_transform(tmp_path / "m", 7)
    with pytest.raises(InputError, match="no such file"):
        read_vector(tmp_path / "none")
    with pytest.raises(InputError, match="is not a file"):
        read_arrays("/dev/zero", [1])
    (tmp_path / "v").write_text(" [ 1 nan ]\n")
    with pytest.raises(InputError, match="not finite"):
        read_vector(tmp_path / "v")
    for head, why in ((b"\4\xff\xff\xff\xff", "cut off or damaged"), (b"\5\2\0\0\0", "damaged header")):
        (tmp_path / "v").write_bytes(b"\0BFV " + head + bytes(8))
        with pytest.raises(InputError, match=why):
            read_vector(tmp_path / "v")
    with pytest.raises(ValueError, match="not finite"):
        write_arrays(tmp_path / "m", [np.array([1, np.inf])])
    assert read_arrays(tmp_path / "m", [2])[0].shape == (2, 3), "the old file remains"
