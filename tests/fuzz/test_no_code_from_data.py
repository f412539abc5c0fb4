# SPDX-License-Identifier: Apache-2.0
"""No data from users is run as code: every call that could do so is listed here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for folder in ("rawnext", "steps", "local", "utils") for path in sorted((ROOT / folder).rglob("*.py"))]

# calls that run code or commands, or that may do so with what they read
RISKY = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "pickle.load",
         "subprocess.getstatusoutput", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads",
         "shelve.open", "joblib.load", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
         "torch.load", "torch.jit.load", "torch.hub.load", "np.load", "numpy.load", "kaldiio.load_mat",
         "kaldiio.load_scp", "kaldiio.load_ark", "kaldiio.open_like_kaldi", "kaldiio.ReadHelper",
         "subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output",
         "os.execv", "os.execvp", "os.execve", "os.execvpe", "os.spawnv", "importlib.import_module", "extractall",
         "shutil.unpack_archive"}

# file -> calls that it may make, and why they are safe
ALLOWED = {
    "rawnext/training/checkpoint.py": {"torch.load"},  # with weights_only=True, see below
    "local/open/embed_teachers.py": {"torch.load"},  # likewise
    "rawnext/data/cuts.py": {"np.load"},  # without allow_pickle, see below
    "rawnext/scoring/embeddings.py": {"np.load"},  # likewise
    "rawnext/data/pipes.py": {"subprocess.Popen"},  # commands of wav.scp, only with --allow-pipes
    "rawnext/stamp.py": {"subprocess.run"},  # git, arguments of its own
    "local/voxceleb/transcode_vox2.py": {"subprocess.run"},  # ffmpeg, a list of arguments
    "steps/tasks.py": {"subprocess.run"},  # the commands that the same run has written, without a shell
    "rawnext/download.py": {"tar.extractall"},  # with filter="data", see below
}
LAUNCHERS = "utils/"  # they run the command given by their command line


def name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def risky_calls(source: str) -> Iterator[tuple[int, str]]:
    """(line, name) of each risky call; names imported by `from x import y` count with their module."""
    tree = ast.parse(source)
    full = {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) for alias in node.names}
    full |= {alias.asname: alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for alias in node.names if alias.asname}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            head, dot, rest = name_of(node).partition(".")
            name = full.get(head, head) + dot + rest
            if name in RISKY or name.replace("numpy.", "np.") in RISKY or name.rpartition(".")[2] == "extractall":
                yield node.lineno, name.replace("numpy.", "np.")
        if isinstance(node, ast.keyword) and (node.arg, getattr(node.value, "value", None)) in (
                ("shell", True), ("allow_pickle", True), ("weights_only", False)):
            yield node.value.lineno, f"{node.arg}={node.value.value}"


def breaches(name: str, source: str) -> list[str]:
    allowed = ALLOWED.get(name, set())
    if name.startswith(LAUNCHERS):
        allowed = {"subprocess.Popen", "subprocess.run"}
    return [f"{name}:{line}: {call}" for line, call in risky_calls(source) if call not in allowed]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_makes_only_allowed_risky_calls(path):
    assert breaches(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("path", "function", "keyword", "value"), [
    ("rawnext/training/checkpoint.py", "torch.load", "weights_only", True),
    ("local/open/embed_teachers.py", "torch.load", "weights_only", True),
    ("rawnext/scoring/embeddings.py", "np.load", "allow_pickle", False),
    ("rawnext/download.py", "tar.extractall", "filter", "data")])
def test_safe_mode_is_set_in_each_call(path, function, keyword, value):
    """Whatever the library's default is."""
    tree = ast.parse((ROOT / path).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and name_of(node.func) == function]
    assert calls and all(any(given.arg == keyword and given.value.value == value for given in call.keywords)
                         for call in calls)


@pytest.mark.parametrize("source", [
    "import torch\ntorch.load(p)", "from torch import load\nload(p)", "import torch as t\nt.load(p)",
    "import pickle\npickle.loads(b)", "from pickle import Unpickler\nUnpickler(f)", "eval('1')",
    "import os\nos.system('x')",
    "import subprocess\nsubprocess.run('x')", "run(x, shell=True)", "import numpy\nnumpy.load(p)",
    "import numpy as np\nnp.load(p)", "import numpy as np\nf(allow_pickle=True)", "import yaml\nyaml.load(f)",
    "import kaldiio\nkaldiio.load_scp(p)", "tar.extractall(p)",
    "import functools, torch\nfunctools.partial(torch.load)"])
def test_risky_calls_are_found(source):
    assert breaches("rawnext/foo.py", source)


@pytest.mark.parametrize("source", ["model.load_state_dict(s)", "model.eval()", "import re\nre.compile('x')",
                                    "json.load(f)", "build(x).eval()"])
def test_harmless_calls_pass(source):
    assert breaches("rawnext/foo.py", source) == []
