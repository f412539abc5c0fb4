# SPDX-License-Identifier: Apache-2.0
"""The rooms of the house: who may import whom, and what every script owes its user."""

import ast
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("rawnext", "steps", "local", "utils", "bench", "docs")

# What a file may import besides the standard library; the longest prefix of its path counts. In steps, local and
# utils also the neighbours in its own folder.
MAY = {
    "utils/": (),
    "local/": ("rawnext.data", "rawnext.tables", "rawnext.log", "lhotse", "numpy", "scipy", "soundfile",
               "espeakng_loader"),
    "steps/": ("rawnext", "torch", "numpy"),
    "bench/": ("bench", "rawnext", "torch", "numpy", "scipy", "lhotse", "soundfile", "onnxruntime"),
    "docs/": ("rawnext", "torch", "numpy"),
    "bench/scoring_loop.py": ("rawnext.tables", "numpy", "kaldiio"),
    "rawnext/": ("rawnext", "torch", "torchaudio", "numpy", "scipy", "soundfile", "lhotse", "kaldiio", "omegaconf",
                 "yaml", "tqdm", "matplotlib", "python_stretch", "jinja2", "PIL", "safetensors", "shtab",
                 "onnx", "onnxruntime", "starlette", "uvicorn"),
    "rawnext/__init__.py": ("rawnext.extractor", "rawnext.data.media"),  # for types, and when they are asked for
    "rawnext/dist.py": ("torch",),
    "rawnext/models/": ("torch", "torchaudio", "rawnext.models", "rawnext.registry"),
    "rawnext/losses/": ("torch", "torchaudio", "pytorch_metric_learning", "rawnext.losses", "rawnext.dist",
                        "rawnext.registry"),
    "rawnext/backend/": ("numpy", "scipy", "rawnext.backend", "rawnext.registry"),
}
# Libraries that have one owner.
OWNERS = {
    "lhotse": ("rawnext/data/", "local/", "bench/"),
    "kaldiio": ("rawnext/ark.py", "bench/scoring_loop.py"),
    "python_stretch": ("rawnext/data/",),
    "matplotlib": ("rawnext/analysis/plots.py",),
    "jinja2": ("rawnext/analysis/html_report.py",),
    "onnx": ("rawnext/export.py",),
    "onnxruntime": ("rawnext/export.py", "bench/extraction.py"),
    "PIL": ("rawnext/analysis/error_browser.py",),
    "safetensors": ("rawnext/checkpoint.py", "rawnext/release.py"),
    "shtab": ("rawnext/cli/main.py",),
    "starlette": ("rawnext/serve/",),
    "uvicorn": ("rawnext/serve/server.py",),
}


def imports(source: str) -> Iterator[tuple[int, str, bool]]:
    """(line, dotted name, stands inside a function) of each import."""
    tree = ast.parse(source)
    inner = {id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
             for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, id(node) in inner) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{prefix}.{alias.name}", id(node) in inner) for alias in node.names)


def within(dotted: str, allowed: tuple[str, ...]) -> bool:
    return any(dotted == name or dotted.startswith(name + ".") for name in allowed)


def breaches(name: str, source: str, neighbours: set[str]) -> list[str]:
    """What the file of this name (relative to the project) imports and should not."""
    allowed = MAY[max((prefix for prefix in MAY if name.startswith(prefix)), key=len)]
    found = []
    for line, dotted, inside in imports(source):
        top = dotted.split(".")[0]
        if top == "":
            found.append(f"{name}:{line}: relative import {dotted}")
        elif not (top in sys.stdlib_module_names or top in neighbours or within(dotted, allowed)):
            found.append(f"{name}:{line}: may not import {dotted}")
        elif top in OWNERS and not name.startswith(OWNERS[top]):
            found.append(f"{name}:{line}: {top} belongs to {' and '.join(OWNERS[top])}")
        elif top == "matplotlib" and not inside:
            found.append(f"{name}:{line}: import matplotlib inside the function that needs it")
    return found


FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
SCRIPTS = [path for path in FILES if path.parent.name in ("steps", "local", "utils", "bench", "figures")]
PROGRAMS = [path for path in SCRIPTS if path.read_bytes().startswith(b"#!")]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_stay_in_their_rooms(path):
    neighbours = {other.stem for other in SCRIPTS if other.parent == path.parent}
    assert not breaches(name_of(path), path.read_text(encoding="utf-8"), neighbours)


@pytest.mark.parametrize("name, source", [
    ("utils/run.py", "import numpy"),
    ("utils/run.py", "from rawnext.tables import InputError"),
    ("utils/run.py", "def f():\n  import torch"),
    ("local/prepare.py", "from rawnext.models import MODELS"),
    ("local/prepare.py", "from rawnext import trainer"),
    ("local/prepare.py", "import rawnext.tables_of_mine"),
    ("steps/score.py", "import jobs"),
    ("steps/score.py", "from local import prepare"),
    ("steps/score.py", "import kaldiio"),
    ("rawnext/__init__.py", "import torch"),
    ("rawnext/__init__.py", "from rawnext.trainer import Trainer"),
    ("rawnext/trainer.py", "import utils.jobs"),
    ("rawnext/trainer.py", "from steps.train import main"),
    ("rawnext/trainer.py", "import lhotse"),
    ("rawnext/extract.py", "def f():\n  from python_stretch.Signalsmith import Stretch"),
    ("rawnext/models/foo.py", "import numpy"),
    ("rawnext/models/foo.py", "from rawnext import data"),
    ("rawnext/models/foo.py", "from . import pooling"),
    ("rawnext/losses/foo.py", "from rawnext.tables import InputError"),
    ("rawnext/task.py", "def f():\n  from pytorch_metric_learning.miners import BatchHardMiner"),
    ("rawnext/backend/plda.py", "import torch"),
    ("rawnext/analysis/plots.py", "import matplotlib.pyplot as plt"),
    ("rawnext/report.py", "def f():\n  import matplotlib"),
])
def test_a_breach_is_found(name, source):
    assert len(breaches(name, source, {"neighbour"})) == 1


@pytest.mark.parametrize("name, source", [
    ("utils/run.py", "import os.path, neighbour\nfrom collections.abc import Callable"),
    ("local/prepare.py", "from rawnext.data.cuts import CutTable\nfrom rawnext import tables\nimport lhotse"),
    ("rawnext/models/foo.py", "import math\nimport torch.nn.functional as F\nfrom rawnext.models import MODELS"),
    ("rawnext/analysis/plots.py", "def f():\n  from matplotlib.figure import Figure"),
])
def test_what_is_allowed_passes(name, source):
    assert breaches(name, source, {"neighbour"}) == []


def test_egs_holds_no_python():
    assert not [path for path in (ROOT / "egs").glob("*/*.py")]


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_no_script_hides_a_standard_module(path):
    """A script's folder comes first on sys.path: a queue.py there breaks `import queue`, and with it torch."""
    assert path.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_programs_and_only_programs_are_executable(path):
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    assert os.access(path, os.X_OK) == (path in PROGRAMS)
    assert path not in PROGRAMS or first == "#!/usr/bin/env python3"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_licence_and_docstring(path):
    source = path.read_text(encoding="utf-8")
    lines = [line for line in source.split("\n")[:2] if not line.startswith("#!")]
    assert lines[0] == "# SPDX-License-Identifier: Apache-2.0"
    assert ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_help_answers_soon(path):
    for _ in range(3):  # a machine that is busy may be slow once
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, path, "--help"], env={**os.environ, "PYTHONPATH": str(ROOT)},
                              cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout) > 100
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if (spent := after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) < 0.5:
            return
    pytest.fail(f"{spent:.2f} s of a processor: import what is heavy inside functions")
