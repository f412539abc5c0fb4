# SPDX-License-Identifier: Apache-2.0
"""The folder is complete or absent; damaged and hostile archives are refused with one line."""

import io
import subprocess
import sys
import tarfile

import pytest

PROGRAM = "local/unpack_tar.py"
WORDS = b"words\n" * 20000


def write_tar(path, *members, mode="w:gz"):
    """Each of members: the attributes of a TarInfo, whose type is a file of WORDS unless given."""
    with tarfile.open(path, mode) as tar:
        for attributes in members:
            info = tarfile.TarInfo()
            info.size = 0 if "type" in attributes else len(WORDS)
            for name, value in attributes.items():
                setattr(info, name, value)
            tar.addfile(info, io.BytesIO(WORDS))
    return path


@pytest.fixture
def unpack(root, tmp_path):
    """Unpacks to tmp_path/out; returns stderr. A failure leaves nothing."""
    def call(archive, rc=0):
        before = {*tmp_path.iterdir()}
        done = subprocess.run([sys.executable, root / PROGRAM, archive, tmp_path / "out"],
                              capture_output=True, text=True)
        assert done.returncode == rc and done.stderr.count("\n") == rc, done.stderr
        assert {*tmp_path.iterdir()} - before == ({tmp_path / "out"} if rc == 0 else set())
        return done.stderr
    return call


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_becomes_a_folder(unpack, tmp_path, mode):
    unpack(write_tar(tmp_path / "a.part", {"name": "corpus/a/b.wav", "mode": 0o4777}, mode=mode))
    assert (tmp_path / "out/corpus/a/b.wav").read_bytes() == WORDS
    assert (tmp_path / "out/corpus/a/b.wav").stat().st_mode & 0o7022 == 0


@pytest.mark.parametrize("member", [
    {"name": "../evil"}, {"name": "a/../../evil"}, {"name": "l", "type": tarfile.SYMTYPE, "linkname": "../../etc"},
    {"name": "l", "type": tarfile.SYMTYPE, "linkname": "/etc"}, {"name": "null", "type": tarfile.CHRTYPE},
    {"name": "h", "type": tarfile.LNKTYPE, "linkname": "../a.tar"}, {"name": "pipe", "type": tarfile.FIFOTYPE}],
    ids=lambda member: f"{member['name']}-{member.get('linkname', '')}".replace("/", "_"))
def test_what_leaves_the_folder_is_refused(unpack, tmp_path, member):
    archive = write_tar(tmp_path / "a.tar", {"name": "good"}, member)
    assert f"unpack_tar.py: {archive}: cannot be unpacked: " in unpack(archive, rc=1)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no tar", "header"])
def test_damage_is_reported(unpack, tmp_path, damage):
    mode = "w" if damage == "header" else "w:gz"
    archive = write_tar(tmp_path / "a.tar", {"name": "good"}, {"name": "second"}, mode=mode)
    data = bytearray(archive.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 255
    if damage == "header":
        data = data[:len(data) // 2]
    archive.write_bytes({"cut": data[:-9], "empty": b"", "no tar": b"no tar" * 999}.get(damage, data))
    assert f"unpack_tar.py: {archive}: cannot be unpacked: " in unpack(archive, rc=1)


def test_missing_archive_and_existing_folder(unpack, tmp_path):
    assert "a.tar: cannot be unpacked: No such file or directory" in unpack(tmp_path / "a.tar", rc=1)
    (tmp_path / "out").mkdir()
    assert "out: exists already" in unpack(write_tar(tmp_path / "a.tar", {"name": "good"}), rc=1)


def test_a_python_without_the_filter_is_refused(root, tmp_path):
    program = ("import runpy, sys, tarfile; del tarfile.data_filter; sys.argv = sys.argv[1:];"
               "runpy.run_path(sys.argv[0], run_name='__main__')")
    archive = write_tar(tmp_path / "a.tar", {"name": "good"})
    done = subprocess.run([sys.executable, "-c", program, root / PROGRAM, archive, tmp_path / "out"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "this Python cannot unpack safely" in done.stderr and done.stderr.count("\n") == 1
