# SPDX-License-Identifier: Apache-2.0
"""Archives: Kaldi reads them, invalid vectors are not written, and commands are refused."""

import kaldi_native_io
import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.kaldi.ark import read_matrix, read_vectors, write_vectors


def test_written_vectors_are_read_by_kaldi_and_by_us(tmp_path):
    rng = np.random.default_rng(0)
    vectors = {f"ü{i}": rng.standard_normal(5).astype(np.float32) for i in range(4)}
    assert write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", vectors.items()) == 4
    for source in (f"ark:{tmp_path}/e.ark", f"scp:{tmp_path}/e.scp"):
        with kaldi_native_io.SequentialFloatVectorReader(source) as reader:
            assert all(np.array_equal(value, vectors[key]) for key, value in reader)
    keys, matrix = read_matrix(tmp_path / "e.scp")
    assert keys == list(vectors) and np.array_equal(matrix, np.stack(list(vectors.values())))
    assert np.array_equal(read_vectors(tmp_path / "e.scp")["ü2"], vectors["ü2"])


@pytest.mark.parametrize("bad", [np.array([1, np.nan]), np.zeros((2, 2)), np.zeros(3)])
def test_invalid_vectors_leave_the_last_good_file(tmp_path, bad):
    write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", [("a", np.ones(2))])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="b: want 2"):
        write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", [("a", np.zeros(2)), ("b", bad)])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_scp_with_a_command_is_refused(tmp_path):
    (tmp_path / "e.scp").write_text("a cat x |\n")
    with pytest.raises(InputError, match="a command"):
        read_vectors(tmp_path / "e.scp")
