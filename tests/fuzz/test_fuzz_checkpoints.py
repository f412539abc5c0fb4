# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: any file gives tensors and plain values or one line; nothing in it is run."""

import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import soundfile
import torch
from fuzzing import answer, damaged, fuzz
from hypothesis import given
from programs import forking

from rawnext.config import Config, save_config
from rawnext.errors import InputError
from rawnext.training import checkpoint


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved(value, **options) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


STATE = {"model": {"a.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}, "step": 7, "speakers": ["ä"]}
FILES = [saved(STATE), saved(STATE, _use_new_zipfile_serialization=False)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


@pytest.mark.parametrize("make", [
    lambda evil: saved({"model": evil}), lambda evil: saved({"model": evil}, _use_new_zipfile_serialization=False),
    pickle.dumps, lambda evil: pickle.dumps({"model": evil}, protocol=0)], ids=["zip", "old", "pickle", "text"])
def test_checkpoint_that_runs_code_is_refused(tmp_path, make):
    (tmp_path / "model.pt").write_bytes(make(Evil(tmp_path / "ran")))
    with pytest.raises(InputError, match=r"model.pt: loading would execute (posix.mkdir|code);"):
        checkpoint.load(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("program", ["import_official.py", "extract.py"])
def test_programs_refuse_a_checkpoint_that_runs_code(root, tmp_path, program):
    (tmp_path / "model.pt").write_bytes(saved({"model": Evil(tmp_path / "ran")}))
    save_config(Config(), tmp_path / "config.yaml")
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.1), 16000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\n")
    arguments = {"import_official.py": [tmp_path / "model.pt", tmp_path / "new"],
                 "extract.py": [tmp_path, tmp_path, tmp_path / "new"]}[program]
    done = subprocess.run([sys.executable, root / "steps" / program, *arguments], capture_output=True, text=True,
                          env=forking({**os.environ, "PYTHONPATH": str(root)}), timeout=100)
    last = done.stderr.strip().splitlines()[-1]
    why = f"{program}: {tmp_path}/model.pt: loading would execute posix.mkdir;"
    assert done.returncode == 1 and last.startswith(why), done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [torch.ones(3), [1], 3, None, "x"])
def test_checkpoint_must_be_a_dict(tmp_path, value):
    (tmp_path / "x.pt").write_bytes(saved(value))
    with pytest.raises(InputError, match=r"x.pt: is a \w+, not a dict"):
        checkpoint.load(tmp_path / "x.pt")


def test_folder_and_empty_file_are_refused(tmp_path):
    (tmp_path / "x.pt").touch()
    for path in (tmp_path, tmp_path / "x.pt"):
        assert answer(lambda path=path: checkpoint.load(path), path) is None


def pickles() -> list[bytes]:
    """The pickle inside a checkpoint; damaged in the zip, it would fail the checksum."""
    with zipfile.ZipFile(io.BytesIO(FILES[0])) as archive:
        return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]


def repacked(data: bytes) -> bytes:
    """A checkpoint with this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(FILES[0])) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@fuzz(150)
@given(raw=damaged(*FILES) | damaged(*pickles()).map(repacked))
def test_damaged_checkpoints(folder, raw):
    path = folder / "x.pt"
    path.write_bytes(raw)
    state = answer(lambda: checkpoint.load(path), path)
    assert state is None or isinstance(state, dict)
