# SPDX-License-Identifier: Apache-2.0
"""Shell scripts have valid syntax; symbolic links resolve."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def project_files() -> list[Path]:
    """All files of the project, including untracked ones but not those that git ignores."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout", allow_module_level=True)
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({ROOT / name for name in listing.splitlines()})


FILES = project_files()
SHELL = [path for path in FILES if path.is_file() and not path.is_symlink()
         and (path.suffix == ".sh" or path == ROOT / ".ci/run")]
LINKS = [path for path in FILES if path.is_symlink()]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_files_were_found():
    assert {"path.sh", "cmd.sh", ".ci/run", "utils/parse_options.sh", "utils/stages.sh",
            "steps/options.sh"} <= set(map(name, SHELL))
    assert LINKS


@pytest.mark.parametrize("path", SHELL, ids=name)
def test_valid_bash_syntax(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SHELL, ids=name)
def test_programs_are_executable_and_sourced_files_are_not(path):
    with open(path, encoding="utf-8") as file:
        first = file.readline()
    assert os.access(path, os.X_OK) == first.startswith("#!"), first
    assert not first.startswith("#!") or first == "#!/usr/bin/env bash\n"


@pytest.mark.parametrize("path", LINKS, ids=name)
def test_link_resolves_inside_the_project(path):
    assert path.exists(), f"{path} -> {os.readlink(path)} is broken"
    assert not os.path.isabs(os.readlink(path))
    assert path.resolve().is_relative_to(ROOT)


@pytest.mark.parametrize("recipe", sorted({path.parent for path in FILES if path.name == "run.sh" and
                                           path.parent.parent == ROOT / "egs"}), ids=name)
def test_each_recipe_has_the_six_links(recipe):
    for link in ("path.sh", "cmd.sh", "conf", "local", "steps", "utils"):
        assert (recipe / link).is_symlink() and (recipe / link).resolve() == ROOT / link
