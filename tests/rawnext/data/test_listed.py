# SPDX-License-Identifier: Apache-2.0
"""Lists of published corpora: their lines, and the files that they name in one format or another."""

import numpy as np
import pytest
import soundfile

from rawnext.data.listed import existing_folder, listed_file, rows, scan_all
from rawnext.errors import InputError


@pytest.mark.parametrize(("form", "text", "found"), [
    ("MODEL FILE", "m  a.wav\nn b.wav\n", [["m", "a.wav"], ["n", "b.wav"]]),
    ("A B ...", "a b\na b c d\n", [["a", "b"], ["a", "b", "c", "d"]]),
    ("MODEL FILE", "m a b\n", "list:1: expected `MODEL FILE`, got 'm a b'"),
    ("A B ...", "a b\na\n", "list:2: expected `A B ...`, got 'a'")])
def test_lines(tmp_path, form, text, found):
    (tmp_path / "list").write_text(text)
    if isinstance(found, list):
        assert list(rows(tmp_path / "list", form)) == list(enumerate(found, 1))
    else:
        with pytest.raises(InputError) as error:
            list(rows(tmp_path / "list", form))
        assert str(error.value) == f"{tmp_path}/{found}"


def test_files_in_another_format(tmp_path):
    for name in ("a.flac", "b.wav", "c.flac", "c.wav", "d.e.flac"):
        (tmp_path / name).touch()
    for name, found in (("a.wav", "a.flac"), ("b.flac", "b.wav"), ("c.wav", "c.wav"), ("d.e.wav", "d.e.flac")):
        assert listed_file(tmp_path, name, tmp_path / "list", 1) == f"{tmp_path}/{found}"
    with pytest.raises(InputError, match=r"list:7: no such file .*/e.wav, nor with .flac or .wav"):
        listed_file(tmp_path, "e.wav", tmp_path / "list", 7)


def test_folders(tmp_path):
    (tmp_path / "b").mkdir()
    assert existing_folder(tmp_path, "a", "b") == tmp_path / "b"
    for root, why in ((tmp_path, "expected a or c in this folder, found b"), (tmp_path / "b", "found nothing"),
                      (tmp_path / "x", "x: no such folder")):
        with pytest.raises(InputError, match=why):
            existing_folder(root, "a", "c")


def test_unreadable_files_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 16000)
    files = {"s-a": ("s", str(tmp_path / "a.wav"))}
    assert [u.utt for u in scan_all(files, tmp_path / "bad", 1)] == ["s-a"]
    (tmp_path / "b.wav").touch()
    with pytest.raises(InputError, match="bad: 1 of 2 audio files cannot be read"):
        scan_all({**files, "s-b": ("s", str(tmp_path / "b.wav"))}, tmp_path / "bad", 1)
