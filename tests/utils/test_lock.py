# SPDX-License-Identifier: Apache-2.0
"""requirements.lock agrees with pyproject.toml, is what make env installs, and holds what the packages need."""

import importlib.metadata
import os
import re
import runpy
import shutil
import subprocess

import pytest
from packaging.requirements import Requirement


@pytest.fixture(scope="module")
def lock(root):
    lines = (root / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_within_its_bounds(root, lock):
    text = (root / "pyproject.toml").read_text()
    own = [Requirement(line) for line in re.findall(r'^  "([^"]+[<>=][^"]*)",', text, re.M)]
    assert len(own) > 20
    for requirement in own:
        assert len(requirement.specifier) == 2, f"{requirement}: a lower and an upper bound"
        assert lock.get(normal(requirement.name), "0") in requirement.specifier, f"{requirement}: make lock"
    assert list(lock) == sorted(lock)


def test_setup_takes_its_versions(root, lock):
    """The Python of the lock, and torch: what the script greps for is there once."""
    text, script = (root / "requirements.lock").read_text(), (root / "utils/setup_env.sh").read_text()
    assert re.match(r"# python 3\.1[012]\n", text)
    for package in ("torch", "torchaudio"):
        assert text.count(f"\n{package}==") == 1 and f"grep '^{package}==' $LOCK" in script
    newest = re.search(r"sed -n '(.*?)' pyproject.toml", script)
    done = subprocess.run(["sed", "-n", newest[1], "pyproject.toml"], cwd=root, capture_output=True, text=True)
    assert re.fullmatch(r"torch>=[\d.]+,<[\d.]+\n", done.stdout)


def test_requirements_are_followed(root, monkeypatch):
    """Extras only where they are asked for; what is not installed and local labels are left out."""
    program = runpy.run_path(str(root / "utils/lock.py"))
    needs = {"rawnext": ["A>=1", 'b_x[fast]; extra == "dev"', 'c; sys_platform == "plan9"'], "a": None,
             "b-x": ['d; extra == "fast"', 'e; extra == "slow"'], "d": [], "torchaudio": ["torch==1"]}
    versions = {"a": "1.0+cpu", "b-x": "2", "d": "3", "e": "4", "torchaudio": "5"}

    class Own:
        def get_all(self, _):
            return ["dev"]

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: Own())
    monkeypatch.setattr(importlib.metadata, "requires", needs.get)
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert program["locked"]("rawnext") == ["a==1.0", "b-x==2", "d==3", "torchaudio==5"]


@pytest.mark.parametrize("failing", ["", "test docs"])
def test_trying_the_newest(root, tmp_path, failing):
    """A copy is set up without the lock and tested; what differs is told; the copy stays if it fails."""
    house, programs = tmp_path / "house", tmp_path / "bin"
    (house / "utils").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(root / "utils/try_newest.sh", house / "utils")
    shutil.copy(root / "pyproject.toml", house)
    for path, text in {house / "requirements.lock": "a==1\nb==1\n", house / "path.sh": "",
                       house / "utils/lock.py": "#!/bin/sh\necho a==1; echo b==2\n",
                       programs / "make": f'#!/bin/sh\necho "make $* NEWEST=$NEWEST"\n[ "$*" != "{failing}" ]\n'
                       }.items():
        path.write_text(text)
        path.chmod(0o755)
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *words], cwd=house, check=True)
    done = subprocess.run([house / "utils/try_newest.sh", "no"], capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)})
    assert "make env NEWEST=1\n" in done.stdout and "make test docs" in done.stdout and "> b==2" in done.stdout
    left = list(tmp_path.glob("tmp.*/rawnext"))
    assert (done.returncode == 0) == (not failing) == (not left), done.stderr
    if left:
        changed = (left[0] / "pyproject.toml").read_text()
        assert '"numpy>=1.26"' in changed and '"numpy>=1.26,<3"' not in changed


def test_trying_the_newest_takes_the_bounds_away(root, tmp_path):
    script = (root / "utils/try_newest.sh").read_text()
    change = re.search(r"sed -i -E '(.*?)' pyproject.toml", script)[1]
    done = subprocess.run(["sed", "-E", change, root / "pyproject.toml"], capture_output=True, text=True, check=True)
    own = [Requirement(line) for line in re.findall(r'^  "([^"]+[<>=][^"]*)",', done.stdout, re.M)]
    assert len(own) > 20 and all("<" not in str(requirement.specifier) for requirement in own)
    assert 'requires-python = ">=3.10,<3.13"' in done.stdout
