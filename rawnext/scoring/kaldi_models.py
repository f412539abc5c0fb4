# SPDX-License-Identifier: Apache-2.0
"""Kaldi's files of a single object: a vector (mean.vec), a matrix (transform.mat) or a PLDA model; binary or text.

Kaldi's programs read the files written here. Files are read with the checks of archives (rawnext/kaldi/ark.py):
regular files only, and no allocation beyond the size of the file.
"""

import io
import re
import struct
from collections.abc import Sequence

import numpy as np

from rawnext.errors import InputError, as_input_error
from rawnext.files import PathLike, atomic_path, newest, readable
from rawnext.kaldi.ark import open_regular, read_array
from rawnext.scoring.plda import Plda


def read_arrays(path: PathLike, axes: Sequence[int], tag: str = "") -> list[np.ndarray]:
    """The arrays of a file, float64.

    Args:
        axes: for each array 1 (vector) or 2 (matrix).   tag: enclosing tag, as in `<Plda> ... </Plda>`.
    Raises: InputError: missing, cut off, another kind of file, not finite.
    """
    path = newest(path)
    with as_input_error(path), readable(path), open_regular(str(path)) as file:
        data = file.read()
    try:
        arrays = _binary(data, axes, tag) if data.startswith(b"\0B") else _text(data, axes, tag)
    except ValueError as why:
        raise InputError(path, None, f"not {'a PLDA model' if tag else 'a vector or matrix'} of Kaldi: {why}") from None
    if not all(array.size and np.isfinite(array).all() for array in arrays):
        raise InputError(path, None, "contains an empty array or a number that is not finite")
    return arrays


def _binary(data: bytes, axes: Sequence[int], tag: str) -> list[np.ndarray]:
    head, tail = (f"<{tag}> ".encode(), f"</{tag}> ".encode()) if tag else (b"", b"")
    file = io.BytesIO(data)
    if file.read(2 + len(head)) != b"\0B" + head:
        raise ValueError(f"no {head.decode()}")
    arrays = [read_array(file, len(data), num_axes).astype(np.float64) for num_axes in axes]
    if file.read() != tail:
        raise ValueError("unexpected data at the end")
    return arrays


def _text(data: bytes, axes: Sequence[int], tag: str) -> list[np.ndarray]:
    text = data.decode("ascii", "replace").strip()
    if tag:
        if not (text.startswith(f"<{tag}>") and text.endswith(f"</{tag}>")):
            raise ValueError(f"no <{tag}>")
        text = text[len(tag) + 2:-len(tag) - 3]
    bodies = re.findall(r"\[([^\[\]]*)\]", text)
    if len(bodies) != len(axes) or re.sub(r"\[[^\[\]]*\]", "", text).strip():
        raise ValueError(f"expected {len(axes)} array{'s' if len(axes) > 1 else ''} in brackets")
    arrays = []
    for body, num_axes in zip(bodies, axes):
        rows = [[float(word) for word in line.split()] for line in body.strip().split("\n")]
        if len({len(row) for row in rows}) > 1 or (num_axes == 1 and len(rows) > 1):
            raise ValueError("lines of different lengths" if num_axes == 2 else "a matrix, not a vector")
        arrays.append(np.array(rows if num_axes == 2 else rows[0]))
    return arrays


def write_arrays(path: PathLike, arrays: Sequence[np.ndarray], tag: str = "") -> None:
    """Write vectors and matrices (float32 or float64) in binary form by atomic rename."""
    parts = [b"\0B", f"<{tag}> ".encode() if tag else b""]
    for array in arrays:
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: a number is not finite")
        number, form = ("<f4", "F") if array.dtype == np.float32 else ("<f8", "D")
        parts += [f"{form}{'VM'[array.ndim - 1]} ".encode(), *(struct.pack("<bi", 4, size) for size in array.shape),
                  np.ascontiguousarray(array, number).tobytes()]
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"".join([*parts, f"</{tag}> ".encode() if tag else b""]))


def read_vector(path: PathLike) -> np.ndarray:
    """A vector (D,), float64."""
    return read_arrays(path, [1])[0]


def read_transform(path: PathLike, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The (K, dim) linear part and (K,) offset of a transform, stored as (K, dim) or as affine (K, dim + 1)."""
    matrix = read_arrays(path, [2])[0]
    if matrix.shape[1] - dim not in (0, 1):
        raise InputError(path, None, f"a transform of {matrix.shape[1]} columns does not fit {dim} dimensions")
    return matrix[:, :dim], matrix[:, dim] if matrix.shape[1] > dim else np.zeros(len(matrix))


def read_plda(path: PathLike) -> Plda:
    """Read a model as written by ivector-compute-plda."""
    plda = Plda(*read_arrays(path, [1, 2, 1], "Plda"))
    dim = len(plda.mean)
    if plda.transform.shape != (dim, dim) or len(plda.psi) != dim or not (plda.psi >= 0).all():
        raise InputError(path, None, "the sizes of mean, transform and psi do not match, or psi is negative")
    return plda


def write_plda(path: PathLike, plda: Plda) -> None:
    """Write a model in float64, as ivector-compute-plda does."""
    write_arrays(path, [np.asarray(array, np.float64) for array in plda], "Plda")
