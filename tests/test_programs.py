# SPDX-License-Identifier: Apache-2.0
"""Rules for every source file and program; `lint-imports` checks which package may import which."""

import ast
import importlib.metadata
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for folder in ("rawnext", "steps", "local", "utils", "bench", "docs")
         for path in sorted((ROOT / folder).rglob("*.py"))] + [ROOT / "hubconf.py"]
SCRIPTS = [path for path in FILES if ROOT / "rawnext" not in path.parents and path.parent not in (ROOT, ROOT / "docs")]
PROGRAMS = [path for path in SCRIPTS if path.read_bytes().startswith(b"#!")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def third_party(source: str) -> set[str]:
    """Top-level packages that a source file imports from outside the project and the standard library."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - {"rawnext", *(path.stem for path in SCRIPTS)}


def test_every_package_imported_by_the_library_is_declared(root):
    """torchaudio is not in pyproject.toml because its wheel pins another torch; utils/setup_env.sh installs it."""
    declared = {*re.findall(r'^  "([\w.-]+)[<>=]', (root / "pyproject.toml").read_text(), re.M)}
    distributions = importlib.metadata.packages_distributions()
    for path in sorted((root / "rawnext").rglob("*.py")):
        for name in third_party(path.read_text(encoding="utf-8")) - {"torchaudio"}:
            owners = {owner.lower() for owner in distributions.get(name, [name])}  # an extra may not be installed
            assert owners & declared or name == "yaml", f"{name_of(path)} imports {name}, which is not declared"


@pytest.mark.parametrize("path", sorted((ROOT / "utils").glob("*.py")), ids=name_of)
def test_utils_need_the_standard_library_only(path):
    """Nodes of a cluster run them before any environment is active."""
    assert not third_party(path.read_text(encoding="utf-8"))


def test_third_party_imports_are_found():
    assert third_party("import os.path, numpy.linalg\ndef f():\n  from torch import nn\nfrom rawnext import log") == {
        "numpy", "torch"}


def test_egs_has_no_python_files():
    assert not [path for path in (ROOT / "egs").glob("*/*.py")]


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_no_script_hides_a_standard_module(path):
    """A script's folder comes first on sys.path: a queue.py there would break `import queue`, and so torch."""
    assert path.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_programs_and_only_programs_are_executable(path):
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    assert os.access(path, os.X_OK) == (path in PROGRAMS)
    assert path not in PROGRAMS or first == "#!/usr/bin/env python3"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_has_a_licence_and_a_docstring(path):
    source = path.read_text(encoding="utf-8")
    lines = [line for line in source.split("\n")[:2] if not line.startswith("#!")]
    assert lines[0] == "# SPDX-License-Identifier: Apache-2.0"
    assert ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_help_is_quick(path):
    for _ in range(3):  # a machine that is busy may be slow once
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, path, "--help"], env={**os.environ, "PYTHONPATH": str(ROOT)},
                              cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 100
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if (spent := after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) < 0.5:
            return
    pytest.fail(f"{spent:.2f} s of processor time: import heavy modules inside functions")
