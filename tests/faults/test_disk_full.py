# SPDX-License-Identifier: Apache-2.0
"""A full disk during writing: a one-line error, and the last good file unchanged."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus import write_corpus
from programs import forking
from test_training_faults import TINY

from rawnext.data.manifest import Utterance, write_data_dir
from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.kaldi.ark import read_matrix, write_vectors
from rawnext.training import checkpoint

SMALL = 64 * 1024


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"cannot mount a file system here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def limited(tmp_path):
    """A folder in which no file may grow beyond 64 KiB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, hard))
    yield tmp_path
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.fixture(params=["tmpfs", "limited"])
def disk(request):
    return request.getfixturevalue(request.param)


def data_dir(folder: Path, num: int) -> None:
    write_data_dir((Utterance(f"s-{i:06d}", "s", f"/audio/{i}.wav", 16000, 16000, 1) for i in range(num)), folder)


WRITERS = {
    "x.txt": lambda path, num: write_lines(path, ("a line" for _ in range(num))),
    "x.pt": lambda path, num: checkpoint.save(path, {"x": torch.zeros(2 * num)}),
    "x.ark": lambda path, num: write_vectors(path, path.with_suffix(".scp"),
                                             ((f"u{i}", np.ones(9)) for i in range(num))),
    "cuts.jsonl": lambda path, num: data_dir(path.parent, num),
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_last_good_file_is_kept(disk, name):
    path = disk / name
    WRITERS[name](path, 10)
    before = {p: p.read_bytes() for p in disk.iterdir()}
    with pytest.raises(InputError, match=r"cannot be written: (No space left on device|File too large)") as error:
        WRITERS[name](path, 20_000)
    assert "\n" not in str(error.value)
    left = {p: p.read_bytes() for p in disk.iterdir() if p.is_file()}
    if name == "cuts.jsonl":    # removed before the directory is rewritten, so that a partial one is not used
        assert path not in left and not [p for p in left if p.suffix == ".tmp"]
    else:
        assert left == before


def run(root: Path, script: str, *args) -> subprocess.CompletedProcess:
    env = forking({**os.environ, "PYTHONPATH": str(root)})
    return subprocess.run([sys.executable, root / "steps" / script, *map(str, args)], env=env, capture_output=True,
                          text=True, timeout=200)


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    """(configuration, data directory, a trained experiment)"""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY)
    corpus = write_corpus(folder / "train", num_speakers=6, num_utts=8)
    config, exp = folder / "tiny.yaml", folder / "exp"
    done = run(root, "train.py", "--config", config, "--train", corpus, "--num-workers", 0, exp)
    assert done.returncode == 0, done.stderr
    return config, corpus, exp


@pytest.mark.slow
def test_training_on_a_full_disk_continues_when_there_is_space(root, trained, tmpfs):
    config, corpus, whole = trained
    size = sum(p.stat().st_size for p in (whole / "checkpoints").iterdir())
    subprocess.run(["mount", "-o", f"remount,size={size}", tmpfs], check=True)     # too little for the final model
    options = ["--config", config, "--train", corpus, "--num-workers", 0, tmpfs / "exp"]
    full = run(root, "train.py", *options)
    assert full.returncode == 1 and "No space left on device" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr
    assert checkpoint.load_newest(tmpfs / "exp/checkpoints")["step"] >= 2
    assert not list(tmpfs.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=64m", tmpfs], check=True)
    done = run(root, "train.py", *options)
    assert done.returncode == 0 and "continuing from" in done.stderr, done.stderr
    one, other = (checkpoint.load(exp / "model.pt")["model"] for exp in (whole, tmpfs / "exp"))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_extraction_on_a_full_disk_continues_when_there_is_space(root, trained, tmpfs):
    _, corpus, exp = trained
    subprocess.run(["mount", "-o", "remount,size=4k", tmpfs], check=True)
    full = run(root, "extract.py", corpus, exp, tmpfs)
    assert full.returncode == 1 and "No space left on device" in full.stderr and "Traceback" not in full.stderr
    assert not (tmpfs / "embedding.1.ark").exists() and not (tmpfs / "embedding.1.scp").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", tmpfs], check=True)
    assert run(root, "extract.py", corpus, exp, tmpfs).returncode == 0
    assert read_matrix(tmpfs / "embedding.1.scp")[1].shape == (48, 8)


@pytest.mark.slow
def test_export_to_tar_files_on_a_full_disk_continues_when_there_is_space(root, trained, tmpfs):
    _, corpus, _ = trained
    subprocess.run(["mount", "-o", "remount,size=512k", tmpfs], check=True)
    options = ["make_shar.py", "--shard-utts", 4, "--nj", 1, corpus, tmpfs / "out"]
    full = run(root, *options)
    assert full.returncode == 1 and full.stderr.count("\n") == 1, full.stderr
    assert "cannot be written: No space left on device" in full.stderr
    assert not (tmpfs / "out/cuts.jsonl").exists() and not list(tmpfs.glob("out/.shar*"))
    first = (tmpfs / "out/shar/recording.000000.tar").stat().st_mtime_ns
    subprocess.run(["mount", "-o", "remount,size=64m", tmpfs], check=True)
    done = run(root, *options)
    assert done.returncode == 0, done.stderr
    assert (tmpfs / "out/shar/recording.000000.tar").stat().st_mtime_ns == first
    assert len((tmpfs / "out/cuts.jsonl").read_text().splitlines()) == 48
