# SPDX-License-Identifier: Apache-2.0
"""utils/unpack.py: what comes out is what went in, and nothing leaves the target."""

import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "utils/unpack.py"
TREE = {"wav/id1/a b.wav": b"one" * 5000, "wav/id1/ü.wav": b"", "wav/id2/c.wav": os.urandom(200_000), "README": b"x\n"}
KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def pack(path: Path, kind: str, files: dict[str, bytes]) -> Path:
    path = path.with_name(f"{path.name}.{kind}")
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, f"w:{kind[4:]}") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0, mode: int = 0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, mode
    return info


def split(path: Path, size: int, names: str = "_part") -> list[Path]:
    """As split(1) does, with its own names: x_partaa, ..."""
    subprocess.run(["split", "-b", str(size), path, f"{path}{names}"], check=True)
    path.unlink()
    return sorted(path.parent.glob(f"{path.name}{names}*"))


def unpack(out: Path, *args) -> tuple[int, str]:
    done = subprocess.run([sys.executable, PROGRAM, out, *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- what should come out

@pytest.mark.parametrize("kind", KINDS)
def test_all_that_went_in(tmp_path, kind):
    code, said = unpack(tmp_path / "out", pack(tmp_path / "x", kind, TREE))
    assert code == 0 and "4 files, 0.2 MB" in said
    assert content(tmp_path / "out") == TREE


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("size", [999, 50_000])
def test_parts_are_joined(tmp_path, kind, size):
    parts = split(pack(tmp_path / "x", kind, TREE), size)
    assert len(parts) > 3
    assert unpack(tmp_path / "out", *reversed(parts))[0] == 0
    assert content(tmp_path / "out") == TREE


def test_numbered_parts(tmp_path):
    for number, part in enumerate(split(pack(tmp_path / "x", "zip", TREE), 50_000), 1):
        part.rename(tmp_path / f"x.zip.{number:03}")
    assert unpack(tmp_path / "out", *tmp_path.glob("x.zip.*"))[0] == 0
    assert content(tmp_path / "out") == TREE


def test_several_archives(tmp_path):
    done = subprocess.run([sys.executable, PROGRAM, tmp_path / "out", pack(tmp_path / "x", "zip", {"a": b"1"}),
                           pack(tmp_path / "y", "tar", {"b": b"2"})], capture_output=True, text=True)
    assert done.returncode == 0 and content(tmp_path / "out") == {"a": b"1", "b": b"2"}


def test_a_stopped_unpacking_goes_on(tmp_path):
    archive = pack(tmp_path / "x", "zip", TREE)
    unpack(tmp_path / "out", archive)
    kept, cut, gone = (tmp_path / "out" / name for name in ("README", "wav/id2/c.wav", "wav/id1/a b.wav"))
    kept.write_bytes(b"y\n")  # of the right size: not looked into
    cut.write_bytes(TREE["wav/id2/c.wav"][:9])
    gone.unlink()
    assert "(2 were there)" in unpack(tmp_path / "out", archive)[1]
    assert content(tmp_path / "out") == {**TREE, "README": b"y\n"}


def test_links_that_stay_inside(tmp_path):
    archive = tar_of(tmp_path / "x.tar", member("d/e/", tarfile.DIRTYPE), member("d/e/a", size=3),
                     member("d/b", tarfile.SYMTYPE, "e/a"), member("d/e/c", tarfile.SYMTYPE, "../../d/e/a"),
                     member("d/h", tarfile.LNKTYPE, "d/e/a"))
    assert unpack(tmp_path / "out", archive)[0] == 0
    assert content(tmp_path / "out") == dict.fromkeys(["d/e/a", "d/b", "d/e/c", "d/h"], bytes(3))
    assert (tmp_path / "out/d/h").stat().st_nlink == 2 and (tmp_path / "out/d/b").is_symlink()


def test_rights_are_those_of_data(tmp_path):
    archive = tar_of(tmp_path / "x.tar", member("a", mode=0o6777), member("b", mode=0), member("c", mode=0o755))
    os.umask(old := os.umask(0o022))
    assert unpack(tmp_path / "out", archive)[0] == 0
    modes = {name: stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in "abc"}
    assert modes == {"a": 0o755 & ~old, "b": 0o644 & ~old, "c": 0o755 & ~old}


# --- what must not

def refused(tmp_path: Path, why: str, *args) -> None:
    code, said = unpack(tmp_path / "deep" / "out", *args)
    assert code == 1 and why in said and said.startswith("unpack.py: ") and "Traceback" not in said, said
    assert not content(tmp_path / "deep")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(("name", "why"), [
    ("/etc/x", "leaves the target"), ("../x", "leaves the target"), ("a/../../x", "leaves the target"),
    ("a/..", "leaves the target"), ("a\nb", "control characters"), ("a\x1b[2Jb", "control characters"),
    ("x" * 256, "more than 255 bytes"), ("good", "stands twice"), ("./good", "stands twice"),
    ("good/x", "lies behind 'good'")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names(tmp_path, kind, name, why):
    path = tmp_path / f"x.{kind}"
    if kind == "tar":
        tar_of(path, member("good", size=1), member(name, size=1))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("good", "x")
            archive.writestr(name, "x")
    refused(tmp_path, why, path)


@pytest.mark.parametrize(("infos", "why"), [
    ([member("a", tarfile.SYMTYPE, "/etc/passwd")], "leaves the target"),
    ([member("a", tarfile.SYMTYPE, "../x")], "leaves the target"),
    ([member("d/a", tarfile.SYMTYPE, "../../x")], "leaves the target"),
    ([member("a", tarfile.SYMTYPE, "."), member("b", tarfile.SYMTYPE, "a/../..")], "leaves the target"),
    ([member("a", tarfile.SYMTYPE, "."), member("b", tarfile.SYMTYPE, "a/..")], "leaves the target"),
    ([member("d", tarfile.SYMTYPE, "e"), member("d/x", size=1)], "lies behind 'd'"),
    ([member("d/x", size=1), member("d", tarfile.SYMTYPE, "e")], "stands twice"),
    ([member("a", tarfile.LNKTYPE, "/etc/passwd")], "leaves the target"),
    ([member("a", tarfile.LNKTYPE, "../x")], "leaves the target"),
    ([member("a", tarfile.LNKTYPE, "b"), member("b", size=1)], "a link to no file before it"),
    ([member("b", tarfile.SYMTYPE, "c"), member("a", tarfile.LNKTYPE, "b")], "a link to no file before it"),
    ([member("a", tarfile.CHRTYPE)], "no file, folder or link"), ([member("a", tarfile.FIFOTYPE)], "no file, folder"),
    ([member("a", size=1), member("b", tarfile.BLKTYPE)], "no file, folder or link")])
def test_links_and_devices(tmp_path, infos, why):
    refused(tmp_path, why, tar_of(tmp_path / "x.tar", *infos))


@pytest.mark.parametrize(("mode", "content_", "why"), [(stat.S_IFLNK, "../../x", "leaves the target"),
                                                       (stat.S_IFLNK, "x" * 5000, "a damaged link"),
                                                       (stat.S_IFCHR, "", "no file, folder or link")])
def test_links_and_devices_of_zip(tmp_path, mode, content_, why):
    info = zipfile.ZipInfo("a")
    info.create_system, info.external_attr = 3, (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, content_)
    refused(tmp_path, why, tmp_path / "x.zip")


def test_a_link_that_was_there_before(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "wav").symlink_to(tmp_path / "elsewhere")
    code, said = unpack(tmp_path / "out", pack(tmp_path / "x", "zip", TREE))
    assert code == 1 and "lies behind 'wav', which is no folder" in said
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_that_is_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "mine").write_bytes(b"keep")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README").symlink_to(tmp_path / "mine")
    assert unpack(tmp_path / "out", pack(tmp_path / "x", "tar", TREE))[0] == 0
    assert (tmp_path / "mine").read_bytes() == b"keep" and content(tmp_path / "out") == TREE


@pytest.mark.parametrize("kind", KINDS)
def test_bombs(tmp_path, kind):
    archive = pack(tmp_path / "x", kind, {"a": bytes(9_000_000), "b": bytes(9_000_000)})
    refused(tmp_path, "holds more than --max-size (16.8 MB)", "--max-size", "16M", archive)


def test_more_than_the_disk_holds(tmp_path):
    """A sparse file of a header and nothing."""
    with open(tmp_path / "x.tar", "wb") as file:
        file.write(member("a", size=1 << 39).tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + (1 << 39) + 1024)
    refused(tmp_path, "needs 549.8 GB", tmp_path / "x.tar")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", [lambda raw: raw[:len(raw) // 2], lambda raw: raw[:-700], lambda raw: b"",
                                    lambda raw: bytes(len(raw)), lambda raw: b"no archive" * 99])
def test_damaged_archives(tmp_path, kind, damage):
    path = pack(tmp_path / "x", kind, {"a": os.urandom(9000), "b": os.urandom(9000)})
    path.write_bytes(damage(path.read_bytes().rstrip(b"\0")))
    refused(tmp_path, f"unpack.py: {path}: ", path)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_wrong_checksums(tmp_path, kind):
    path = pack(tmp_path / "x", kind, {"a": os.urandom(9000)})
    raw = bytearray(path.read_bytes())
    raw[4000] ^= 1
    path.write_bytes(raw)
    refused(tmp_path, "", path)


def test_a_damaged_header_is_not_the_end(tmp_path):
    """Python's own reader would stop there and say nothing."""
    path = pack(tmp_path / "x", "tar", {"a": bytes(600), "b": bytes(600)})
    raw = bytearray(path.read_bytes())
    raw[512 + 1024 + 20] ^= 1
    path.write_bytes(raw)
    refused(tmp_path, "damaged or cut off: bad checksum", path)


def test_extended_headers_have_a_size(tmp_path):
    """Python's own reader would take the gigabyte into memory."""
    with open(tmp_path / "x.tar", "wb") as file:
        file.write(member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=1 << 30).tobuf(tarfile.GNU_FORMAT))
        file.truncate(2 << 30)
    refused(tmp_path, "damaged", tmp_path / "x.tar")


def test_missing_parts(tmp_path):
    parts = split(pack(tmp_path / "x", "zip", TREE), 20_000)
    refused(tmp_path, f"{parts[1]}: this part is missing before {parts[2].name}", *parts[:1], *parts[2:])
    refused(tmp_path, f"{parts[0]}: this part is missing before {parts[1].name}", *parts[1:])
    refused(tmp_path, "its end is missing (is that the last part?)", *parts[:-1])
    refused(tmp_path, f"unpack.py: {tmp_path}/none: no such file", tmp_path / "none")
    refused(tmp_path, f"unpack.py: {tmp_path}: is not a file", tmp_path)


def test_passwords(tmp_path):
    path = pack(tmp_path / "x", "zip", {"a": b"x"})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(raw)
    refused(tmp_path, "locked by a password", path)
