# SPDX-License-Identifier: Apache-2.0
"""Archives of vectors: any scp and ark give finite vectors or one line; nothing is run, written or over-allocated."""

import pickle
import struct

import kaldiio
import numpy as np
import pytest
from fuzzing import answer, damaged, fuzz
from hypothesis import given
from hypothesis import strategies as st

from rawnext.errors import InputError
from rawnext.kaldi.ark import read_matrix, read_vectors, write_vectors

VECTORS = {"a": np.arange(3, dtype=np.float32), "b-ü": np.ones(3, np.float32)}


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arks")


@pytest.fixture
def files(tmp_path):
    """(scp, ark) of two vectors."""
    write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", VECTORS.items())
    return tmp_path / "e.scp", tmp_path / "e.ark"


def ark_of(kind):
    """The bytes of an archive written by kaldiio."""
    import io

    file = io.BytesIO()
    values = {"FV": VECTORS["a"], "DV": VECTORS["a"].astype(np.float64), "FM": np.ones((2, 3), np.float32),
              "DM": np.ones((2, 3)), "IV": np.arange(3, dtype=np.int32), "text": VECTORS["a"]}
    if kind == "CM":
        kaldiio.save_ark(file, {"a": values["FM"]}, compression_method=2)
    else:
        kaldiio.save_ark(file, {"a": values[kind]}, text=kind == "text")
    return file.getvalue()


KINDS = ["FV", "DV", "FM", "DM", "IV", "text", "CM"]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_read_and_matrices_refused(tmp_path, kind):
    (tmp_path / "a.ark").write_bytes(ark_of(kind))
    (tmp_path / "a.scp").write_text(f"a {tmp_path}/a.ark:2\n")
    if kind in ("FV", "DV", "text"):
        vector = read_vectors(tmp_path / "a.scp")["a"]
        assert vector.dtype == np.float32 and np.array_equal(vector, VECTORS["a"])
    else:
        with pytest.raises(InputError, match=r"a.scp:1: a: (a matrix, not a vector|no Kaldi vector)"):
            read_matrix(tmp_path / "a.scp")


@pytest.mark.parametrize(("place", "why"), [
    ("touch {0}/ran |", "a command, not a file"), ("touch {0}/ran|", "a command"), ("| tee {0}/ran", "a command"),
    ("-", "standard input"), ("{0}/e.ark:2[0:1]", "range"), ("{0}/e.ark:99999", "ends before byte 99999"),
    ("{0}/e.ark:-2", "No such file"), ("{0}/e.ark:3", "no Kaldi vector"), ("http://127.0.0.1/e.ark:2", "No such file"),
    ("{0}/none.ark:2", "No such file"), ("{0}", "not a file"), ("/dev/zero", "not a file"), ("/dev/stdin:2", ""),
    ("{0}/fifo:2", "not a file"), ("{0}/locked\u00a0.ark:2", "unusual space"), ("gzip:{0}/e.ark", "No such file"),
    ("{0}/pickle.ark:2", "no Kaldi vector"), ("{0}/npy.ark:2", "no Kaldi vector"),
    ("x" * 5000 + ":1", "name too long")])
def test_locations_that_are_not_files_are_refused(files, tmp_path, place, why):
    import os

    (tmp_path / "pickle.ark").write_bytes(b"a PKL" + pickle.dumps(Evil(tmp_path / "ran")))
    (tmp_path / "npy.ark").write_bytes(b"a NPY" + bytes(100))
    os.mkfifo(tmp_path / "fifo")
    files[0].write_text(f"a {place.format(tmp_path)}\n", encoding="utf-8")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(InputError, match=f"e.scp:1: .*{why}") as caught:
        read_matrix(files[0])
    assert str(caught.value).isprintable()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_kaldiio_runs_pickles(tmp_path):
    """The reason for our own reader; when this fails, kaldiio has become safe."""
    (tmp_path / "pickle.ark").write_bytes(b"a PKL" + pickle.dumps(Evil(tmp_path / "ran")))
    kaldiio.load_mat(f"{tmp_path}/pickle.ark:2")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("dim", [-1, 4, 1 << 20, (1 << 31) - 1])
@pytest.mark.parametrize("kind", [b"FV ", b"DV "])
def test_dimension_in_a_header_allocates_no_memory(tmp_path, dim, kind):
    (tmp_path / "a.ark").write_bytes(b"a \0B" + kind + struct.pack("<bi", 4, dim) + bytes(24 if kind == b"DV " else 12))
    (tmp_path / "a.scp").write_text(f"a {tmp_path}/a.ark:2\n")
    assert answer(lambda: read_matrix(tmp_path / "a.scp"), tmp_path, 1_000_000) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_non_finite_vectors_are_refused(tmp_path, value):
    file = tmp_path / "a.ark"
    kaldiio.save_ark(str(file), {"a": np.array([1, value])}, scp=str(tmp_path / "a.scp"))
    with pytest.raises(InputError, match=r"a.scp:1: a: is not finite"):
        read_vectors(tmp_path / "a.scp")["a"]


def test_different_dimensions_are_refused(tmp_path):
    for name, dim in (("a", 2), ("b", 3)):
        write_vectors(tmp_path / f"{name}.ark", tmp_path / f"{name}.scp", [(name, np.ones(dim))])
    (tmp_path / "e.scp").write_text("".join((tmp_path / f"{name}.scp").read_text() for name in "ab"))
    with pytest.raises(InputError, match=r"e.scp:2: b: 3 dimensions, the first has 2"):
        read_matrix(tmp_path / "e.scp")


@pytest.mark.parametrize(("key", "why"), [("a b", "cannot be an id"), ("../a", "cannot be an id"),
                                          ("a", "is listed twice")])
def test_invalid_and_repeated_keys_are_not_written(tmp_path, key, why):
    with pytest.raises(InputError, match=why):
        write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", [("a", np.ones(2)), (key, np.ones(2))])
    assert list(tmp_path.iterdir()) == []


def test_folder_that_an_scp_cannot_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="an scp cannot carry this name"):
        write_vectors(tmp_path / "a\nb" / "e.ark", tmp_path / "e.scp", [])


@pytest.mark.slow
@fuzz(250)
@given(raw=damaged(*(ark_of(kind) for kind in KINDS)))
def test_damaged_archives(folder, raw):
    (folder / "a.ark").write_bytes(raw)
    (folder / "a.scp").write_text(f"a {folder}/a.ark:2\n")
    found = answer(lambda: read_matrix(folder / "a.scp"), folder, 3_000_000)
    if found is not None:
        keys, matrix = found
        assert keys == ["a"] and matrix.ndim == 2 and matrix.shape[1] and matrix.dtype == np.float32
        assert np.isfinite(matrix).all()
        write_vectors(folder / "b.ark", folder / "b.scp", zip(keys, matrix))
        assert np.array_equal(read_matrix(folder / "b.scp")[1], matrix)


@pytest.mark.slow
@fuzz(250)
@given(place=st.one_of(
    damaged(b"{0}/e.ark:2", b"{0}/e.ark:24[0:1]", b"touch {0}/ran |", b"| tee {0}/ran", b"-", b"cat {0}/e.ark | x |"),
    st.tuples(st.sampled_from(["{0}/e.ark", "{0}", "", "/dev/zero", "-"]), st.sampled_from([":", "", "|", "["]),
              st.integers(-9, 99)).map(lambda parts: "{}{}{}".format(*parts).encode())))
def test_damaged_locations(folder, place):
    write_vectors(folder / "e.ark", folder / "f.scp", VECTORS.items())
    (folder / "e.scp").write_bytes(b"a " + place.replace(b"{0}", str(folder).encode()) + b"\n")
    before = {path.name for path in folder.iterdir()}
    found = answer(lambda: read_matrix(folder / "e.scp"), folder, 3_000_000)
    assert {path.name for path in folder.iterdir()} == before
    if found is not None:
        assert any(np.array_equal(row, wave) for row in found[1] for wave in VECTORS.values())
