# SPDX-License-Identifier: Apache-2.0
"""requirements.lock agrees with pyproject.toml and is installed by make env; make lock and make newest."""

import os
import re
import shutil
import subprocess
from importlib.metadata import distribution, distributions

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet


@pytest.fixture(scope="module")
def lock(root):
    lines = (root / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


NOT_INSTALLED = {"huggingface-hub", "wandb"}  # of extras that make env leaves out


def test_every_dependency_is_pinned_within_its_bounds(root, lock):
    text = (root / "pyproject.toml").read_text()
    own = [Requirement(line) for line in re.findall(r'^  "([\w.-]+[<>=][^"]*)",', text, re.M)]
    assert len(own) > 20
    for requirement in own:
        assert len(requirement.specifier) == 2, f"{requirement}: a lower and an upper bound"
        if (name := normal(requirement.name)) not in NOT_INSTALLED:
            assert lock.get(name, "0") in requirement.specifier, f"{requirement}: make lock"
    assert list(lock) == sorted(lock)


def test_every_version_of_the_lock_but_torch_has_hashes(root, lock):
    text = (root / "requirements.hashes").read_text()
    versions = dict(re.findall(r"^(\S+)==(\S+) \\$", text, re.M))
    assert versions == {name: version for name, version in lock.items() if not name.startswith("torch")}, "make lock"
    comment, *rest = text.splitlines()
    assert comment.endswith("written by make lock")
    lines = [line for line in rest if "==" not in line]
    assert len(lines) > len(versions) and all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?", x) for x in lines)
    script = (root / "utils/setup_env.sh").read_text()
    assert "HASHES=requirements.hashes" in script and " install --no-deps --require-hashes -r $HASHES" in script
    uv = re.search(r"install .*--require-hashes -r <\(sed -n '(.*?)' \$HASHES\)", script)
    done = subprocess.run(["sed", "-n", uv[1], "requirements.hashes"], cwd=root, capture_output=True, text=True)
    assert re.fullmatch(rf"uv=={lock['uv']} \\\n( {{4}}--hash=sha256:\w{{64}}( \\)?\n)+", done.stdout)


def test_no_dependency_of_the_package_has_a_strong_copyleft():
    todo, seen = ["rawnext"], set()
    while todo:
        found = distribution(name := todo.pop())
        seen.add(name)
        licences = [found.metadata.get("License-Expression", ""), found.metadata.get("License", "")[:100],
                    *(line for line in found.metadata.get_all("Classifier", []) if line.startswith("License"))]
        assert not re.search(r"GPL|GNU|CC-BY-SA|SSPL", " ".join(licences)), f"{name}: {licences}"
        for requirement in map(Requirement, found.requires or []):
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                todo += {normal(requirement.name)} - seen
    assert len(seen) > 20


def test_actions_and_images_are_named_by_their_digests(root):
    uses = re.findall(r"uses: (\S+)", (root / ".github/workflows/test.yml").read_text())
    assert uses and all(re.search(r"@[0-9a-f]{40}$", action) for action in uses)
    images = re.findall(r"^FROM (\S+)", (root / "Dockerfile").read_text(), re.M)
    assert images and all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)


def test_the_lock_holds_for_later_pythons_too(root, lock):
    """utils/setup_env.sh installs it, with hashes, for Python 3.12 as well: no package refuses that or needs more."""
    first, last = (int(re.search(r"python 3\.(\d+)", (root / "requirements.lock").read_text())[1]), 12)
    names = {normal(name) for name in lock}
    for version in (f"3.{minor}" for minor in range(first, last + 1)):
        env = {"python_version": version, "python_full_version": f"{version}.9", "extra": ""}
        for found in distributions():
            if (name := normal(found.metadata["Name"])) in names:
                assert f"{version}.9" in SpecifierSet(found.metadata.get("Requires-Python") or ""), name
                needed = [normal(one.name) for one in map(Requirement, found.requires or [])
                          if one.marker and one.marker.evaluate(env)]
                assert set(needed) <= names, f"{name} on Python {version}"


def test_setup_takes_the_versions_of_the_lock(root, lock):
    """The lock has the lines that the script searches for, once each: the version of Python, and torch."""
    text, script = (root / "requirements.lock").read_text(), (root / "utils/setup_env.sh").read_text()
    assert re.match(r"# python 3\.1[012]\n", text)
    for package in ("torch", "torchaudio"):
        assert text.count(f"\n{package}==") == 1 and f"grep '^{package}==' $LOCK" in script
    newest = re.search(r"sed -n '(.*?)' pyproject.toml", script)
    done = subprocess.run(["sed", "-n", newest[1], "pyproject.toml"], cwd=root, capture_output=True, text=True)
    assert re.fullmatch(r"torch>=[\d.]+,<[\d.]+\n", done.stdout)


def test_settings_of_pip_are_passed_to_uv(root):
    """Those of a command over those of [global], and PIP_* over both; several indexes are words, the main one first: of
    two indexes with one version uv takes the first, and an extra one may lack the file for this machine."""
    script = (root / "utils/setup_env.sh").read_text()
    loop = re.search(r"^main_index=.*?^done .*?^export UV_[^\n]*$", script, re.M | re.S)[0]
    settings = [r":env:.cert='/a.pem'", "global.cert='/b.pem'", r"global.extra-index-url='\nhttps://a\nhttps://b'",
                "global.find-links='/x /y'", "global.index-url='https://c'", "global.quiet='1'",
                "install.index-url='https://d'"]
    text = "pip() { cat << 'E'\n" + "\n".join(settings) + f"\nE\n}}\n{loop}\nenv"
    done = subprocess.run(["bash", "-ec", text], capture_output=True, text=True, check=True,
                          env={"PATH": os.environ["PATH"]})
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    wanted = {"SSL_CERT_FILE": "/a.pem", "UV_INDEX": "https://d https://a https://b", "UV_FIND_LINKS": "/x,/y",
              "UV_DEFAULT_INDEX": "https://d"}
    assert {name: value for name, value in found.items() if name.startswith(("UV_", "SSL_"))} == wanted


def repository(root, folder):
    """A git repository with this Makefile and a small lock."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(root / name, folder)
    (folder / "requirements.lock").write_text("a==1\nb==1\n")
    (folder / "requirements.hashes").touch()
    (folder / "path.sh").touch()
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_make_lock_writes_the_installed_versions(root, tmp_path):
    """pip's list, names as indexes compare them, without local labels; hashes of all but torch."""
    repository(root, tmp_path)
    program(tmp_path / ".venv/bin/python", 'case "$*" in *" freeze "*" --exclude-editable") echo "torch==2.13.0+cpu"; '
                                           'echo Jinja2==3.1; echo ml_dtypes==1;; *) echo "# python 3.11";; esac')
    program(tmp_path / ".venv/bin/uv", 'case "$*" in *"--generate-hashes --python .venv/bin/python -o "*) ;; '
                                       '*) exit 1;; esac; grep == | sed "s/$/ --hash=x/" > .requirements.hashes')
    done = subprocess.run(["make", "-o", "env", "-o", ".venv/.docs", "lock"], cwd=tmp_path, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "requirements.lock").read_text().splitlines()
    assert re.match(r"# python 3\.\d+$", lines[0]) and lines[2:] == ["jinja2==3.1", "ml-dtypes==1", "torch==2.13.0"]
    comment, *hashes = (tmp_path / "requirements.hashes").read_text().splitlines()
    assert comment.startswith("# sha256 ") and hashes == ["jinja2==3.1 --hash=x", "ml-dtypes==1 --hash=x"]


@pytest.mark.parametrize("failing", ["", "test docs"])
def test_make_newest_tests_a_copy_without_the_lock(root, tmp_path, failing):
    """A copy is set up without the lock and tested; differences are printed; the copy remains if a test fails."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    repository(root, folder)
    make = program(tmp_path / "bin/make", 'echo "make $*"; grep \'"numpy>\' pyproject.toml; mkdir -p .venv\n'
                   f'[ "$1" = test ] || printf "a==1\\nb==2\\n" > requirements.lock; [ "$*" != "{failing}" ]')
    done = subprocess.run(["make", "-s", "newest", "BOUNDS=no", f"MAKE={make}"], cwd=folder, capture_output=True,
                          text=True, env={**os.environ, "TMPDIR": str(tmp_path)})
    setup, tests = done.stdout.split("make test docs")
    assert "make env lock NEWEST=1" in setup and "+b==2" in setup
    assert '"numpy>=1.26"' in setup and '"numpy>=1.26,<3"' in tests, "the tests see the checkout's own bounds"
    assert (done.returncode == 0) == (not failing) == (not list(tmp_path.glob("tmp.*"))), done.stderr


def test_make_newest_removes_the_upper_bounds(root):
    change = re.search(r"sed -i -E '(.*?)' pyproject.toml", (root / "Makefile").read_text())[1]
    done = subprocess.run(["sed", "-E", change, root / "pyproject.toml"], capture_output=True, text=True, check=True)
    own = [Requirement(line) for line in re.findall(r'^  "([\w.-]+[<>=][^"]*)",', done.stdout, re.M)]
    assert len(own) > 20 and all("<" not in str(requirement.specifier) for requirement in own)
    assert 'requires-python = ">=3.11,<3.13"' in done.stdout
