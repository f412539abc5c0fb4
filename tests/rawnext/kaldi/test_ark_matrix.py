# SPDX-License-Identifier: Apache-2.0
"""Archives read in blocks give the same vectors or the same error as read one by one, in few reads."""

import kaldiio
import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.kaldi import ark
from rawnext.kaldi.ark import Vectors, read_matrix, read_vectors, write_vectors

X = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
KEYS = [f"{'u' * (n % 4)}{n}" for n in range(20)]  # different lengths, so that records are not evenly spaced


@pytest.fixture
def lines(tmp_path):
    """Shuffled lines of an scp: float vectors of two archives, two of them listed twice, one double, one text."""
    found = []
    for name, part in (("a", slice(0, 9)), ("b", slice(9, 18))):
        write_vectors(tmp_path / f"{name}.ark", tmp_path / f"{name}.scp", zip(KEYS[part], X[part]))
        found += (tmp_path / f"{name}.scp").read_text().splitlines()
    for name, row in (("d", 18), ("t", 19)):
        kaldiio.save_ark(f"{tmp_path}/{name}.ark", {KEYS[row]: X[row].astype(np.float64)}, f"{tmp_path}/{name}.scp",
                         text=name == "t")
        found.append((tmp_path / f"{name}.scp").read_text().strip())
    found += [f"again{n} {found[n].split()[1]}" for n in (3, 11)]
    return [found[n] for n in np.random.default_rng(1).permutation(len(found))]


@pytest.mark.parametrize("window", [1, 100, 1 << 22])
@pytest.mark.parametrize("wanted", [None, {"u1", "9", "uuu19", "again3"}, {"uu2"}])
def test_blocks_equal_reading_one_by_one(tmp_path, monkeypatch, lines, window, wanted):
    monkeypatch.setattr(ark, "WINDOW", window)
    write_lines(tmp_path / "e.scp", lines)
    keys, matrix = read_matrix(tmp_path / "e.scp", wanted)
    one_by_one = read_vectors(tmp_path / "e.scp")
    assert keys == [line.split()[0] for line in lines if wanted is None or line.split()[0] in wanted]
    np.testing.assert_array_equal(matrix, [one_by_one[key] for key in keys])
    assert matrix.dtype == np.float32 and matrix.flags.writeable


def test_only_the_first_vector_is_read_by_itself(tmp_path, monkeypatch):
    places = []
    read = Vectors.read
    monkeypatch.setattr(Vectors, "read", lambda self, *place: places.append(place) or read(self, *place))
    write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", zip(KEYS, X))
    assert np.array_equal(read_matrix(tmp_path / "e.scp")[1], X) and len(places) == 1


def test_first_vector_is_returned_if_none_is_wanted(tmp_path):
    write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", zip(KEYS, X))
    keys, matrix = read_matrix(tmp_path / "e.scp", {"x"})
    assert keys == KEYS[:1] and np.array_equal(matrix, X[:1])


def test_path_without_offset_is_read_from_byte_0(tmp_path):
    kaldiio.save_ark(str(tmp_path / "t.ark"), {"a": X[0]})
    (tmp_path / "v").write_bytes((tmp_path / "t.ark").read_bytes()[2:])
    write_lines(tmp_path / "e.scp", [f"a {tmp_path}/v", f"b {tmp_path}/t.ark:2"])
    assert np.array_equal(read_matrix(tmp_path / "e.scp")[1], X[[0, 0]])


@pytest.mark.parametrize(("at", "byte", "why"), [
    (0, 1, "no Kaldi vector"), (1, 0, "no Kaldi vector"), (2, ord("I"), "no Kaldi vector"),
    (3, ord("M"), "a matrix|no Kaldi vector"), (5, 8, "damaged header"), (6, 4, "4 dimensions, the first has 5"),
    (9, 1, "cut off or damaged"), (13, 0xff, "not finite")])
def test_damaged_vector_is_reported_with_its_line(tmp_path, at, byte, why):
    write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", zip(KEYS, X))
    offset = int((tmp_path / "e.scp").read_text().splitlines()[7].rpartition(":")[2])
    raw = bytearray((tmp_path / "e.ark").read_bytes())
    raw[offset + at] = byte
    if at == 13:
        raw[offset + 12] = 0x80
    (tmp_path / "e.ark").write_bytes(raw)
    with pytest.raises(InputError, match=f"e.scp:8: {KEYS[7]}: .*({why})"):
        read_matrix(tmp_path / "e.scp")
    keys, matrix = read_matrix(tmp_path / "e.scp", set(KEYS) - {KEYS[7]})  # the damaged one is not wanted
    assert len(keys) == 19 and np.array_equal(matrix, np.delete(X, 7, axis=0))


@pytest.mark.parametrize("cut", [1, 19, 25, 400])
def test_truncated_archive_is_reported_at_its_first_missing_vector(tmp_path, cut):
    write_vectors(tmp_path / "e.ark", tmp_path / "e.scp", zip(KEYS, X))
    raw = (tmp_path / "e.ark").read_bytes()
    (tmp_path / "e.ark").write_bytes(raw[:-cut])
    offsets = [int(line.rpartition(":")[2]) for line in (tmp_path / "e.scp").read_text().splitlines()]
    first = next(n for n, offset in enumerate(offsets) if offset + 30 > len(raw) - cut)
    why = "cut off|its file ends|damaged header|no Kaldi vector"
    with pytest.raises(InputError, match=f"e.scp:{first + 1}: {KEYS[first]}: ({why})"):
        read_matrix(tmp_path / "e.scp")


@pytest.mark.parametrize("place", ["-", "|x:3", "cat y |", "y:3[0:1]", "none.ark:5", "", ":7"])
def test_invalid_location_is_reported_with_its_line(tmp_path, lines, place):
    write_lines(tmp_path / "e.scp", [*lines[:3], f"odd {place}", *lines[3:]])
    with pytest.raises(InputError, match="e.scp:4: "):
        read_matrix(tmp_path / "e.scp")
