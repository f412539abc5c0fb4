# SPDX-License-Identifier: Apache-2.0
"""utils/unpack.py: whatever the archive, nothing is written outside of the target, and a fault is one line."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import warnings
import zipfile
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from fuzzing import answer, damaged, fuzz, utils_module
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/e/b", "../x", "/tmp/x", "d/../../x", ".", "..", "./a", "d//a", "a/b",
                         "é", "a\nb", "", "d/e", "x" * 300])
KINDS = [tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
         tarfile.CHRTYPE, tarfile.CONTTYPE, b"x"]


def tar_of(members) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, target, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, target, len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zip_of(members) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, kind, target, content in members:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            modes = {tarfile.SYMTYPE: 0o120777, tarfile.DIRTYPE: 0o040755, tarfile.FIFOTYPE: 0o010644}
            info.external_attr = modes.get(kind, 0o100644) << 16
            archive.writestr(info, target if kind == tarfile.SYMTYPE else content)
    return file.getvalue()


CONTENTS = st.sampled_from([b"", b"x", b"x" * 3000])
MEMBERS = st.lists(st.tuples(NAMES, st.sampled_from(KINDS), NAMES, CONTENTS), max_size=5)
TREE = [("d/", tarfile.DIRTYPE, "", b""), ("d/a", tarfile.REGTYPE, "", b"x" * 2000),
        ("l", tarfile.SYMTYPE, "d/a", b""), ("é", tarfile.REGTYPE, "", b"y")]


def compressed(raw: bytes, kind: str) -> bytes:
    return {"gz": partial(gzip.compress, mtime=0), "bz2": bz2.compress, "xz": lzma.compress, "": bytes}[kind](raw)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("archives")


def check(folder, raw: bytes, number: int = 0) -> None:
    """Unpack into a new folder between two others, which stay as they are."""
    room = folder / f"room{len(list(folder.iterdir()))}"
    out, path = room / "deep" / "out", room / "x.archive"
    out.mkdir(parents=True)
    path.write_bytes(raw)

    def unpack() -> bool:
        with patch("sys.argv", ["unpack.py", "--max-size", "1M", str(out), str(path)]):
            try:
                utils_module("unpack").main()
            except SystemExit as end:
                text = str(end.code)
                assert text.startswith("unpack.py: /") and "\n" not in text and text.isprintable(), text
                return False
        return True

    done = answer(unpack, path, 40_000_000)
    assert {entry.name for entry in room.iterdir()} == {"deep", "x.archive"} and os.listdir(room / "deep") == ["out"]
    for entry in out.rglob("*"):
        assert Path(os.path.realpath(entry)).is_relative_to(out)
        assert entry.is_symlink() or entry.is_file() or entry.is_dir()
        assert ".unpack" not in entry.name
    assert not done or any(out.iterdir())


@fuzz(150)
@given(members=MEMBERS, make=st.sampled_from([tar_of, zip_of]))
def test_members(folder, members, make):
    check(folder, make(members))


@fuzz(150)
@given(raw=damaged(tar_of(TREE), zip_of(TREE), *(compressed(tar_of(TREE), kind) for kind in ("gz", "bz2", "xz"))))
def test_bytes(folder, raw):
    check(folder, raw)


@fuzz(150)
@given(raw=damaged(tar_of(TREE)[:1536]), kind=st.sampled_from(["", "gz", "xz"]), data=st.data())
def test_headers(folder, raw, kind, data):
    """A tar's headers, each with a new checksum: sizes and kinds may be anything."""
    raw = bytearray(raw.ljust(2048, b"\0"))
    for start in (0, 512):
        field = data.draw(st.sampled_from([(124, 12), (156, 1), (100, 8), (157, 30), (345, 40)]))
        change = data.draw(st.binary(max_size=field[1]) | st.sampled_from([b"77777777777", b"\x80" + b"\xff" * 11,
                                                                         b"\xff" * 12, b"L", b"x", b"S", b"g"]))
        raw[start + field[0]:start + field[0] + len(change[:field[1]])] = change[:field[1]]
        raw[start + 148:start + 156] = b" " * 8
        raw[start + 148:start + 156] = b"%06o\0 " % sum(raw[start:start + 512])
    check(folder, compressed(bytes(raw), kind))
