# SPDX-License-Identifier: Apache-2.0
"""The stamp in a clean checkout, in a changed one, and outside a checkout."""

import hashlib
import os
import subprocess
import sys

import pytest

from rawnext.errors import InputError
from rawnext.stamp import commit, hardware, sha256, stamp


def git(folder, *args):
    identity = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", "-C", folder, *args], check=True, capture_output=True, text=True,
                          env={**os.environ, **identity})
    return done.stdout.strip()


def test_commit_is_short_and_marks_changed_files(tmp_path):
    assert commit(tmp_path) == "unknown"
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) == "unknown"  # no commit yet
    (tmp_path / "code").write_text("1")
    git(tmp_path, "add", "code")
    git(tmp_path, "commit", "-q", "-m", "first")
    git(tmp_path, "tag", "-a", "v1", "-m", "v1")  # a tag must not replace the commit
    short = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert commit(tmp_path) == short
    (tmp_path / "data").write_text("not tracked")
    assert commit(tmp_path) == short
    (tmp_path / "code").write_text("2")
    assert commit(tmp_path) == f"{short}-dirty"
    below = tmp_path / "installed"
    below.mkdir()
    assert commit(below) == "unknown"  # not the commit of another project's repository further up


def test_commit_is_unknown_without_git(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(tmp_path) == "unknown"


def test_sha256_of_a_file_larger_than_a_block(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match="none: no such file"):
        sha256(tmp_path / "none")
    with pytest.raises(InputError, match="is not a file but a folder"):
        sha256(tmp_path)


def test_command_is_from_the_recipe_or_the_program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["steps/x.py", "a b"])
    monkeypatch.delenv("RAWNEXT_COMMAND", raising=False)
    assert stamp()["command"] == "steps/x.py 'a b'"
    monkeypatch.setenv("RAWNEXT_COMMAND", "./run.sh --stage 8")
    assert stamp()["command"] == "./run.sh --stage 8"


def test_hardware_names_a_processor():
    assert hardware().endswith(f"({len(os.sched_getaffinity(0))} cores)") and len(hardware()) > len("(2 cores)")
