# SPDX-License-Identifier: Apache-2.0
"""The model of docs/howto/extending.md is added to a copy of the project by one file and one line, and trains."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from corpus import write_corpus
from page_commands import example

pytestmark = pytest.mark.slow

CHECK = """
import torch
from rawnext.models import MODELS
torch.manual_seed(0)
model = MODELS.build("statistics_tdnn", {}).double().eval()
waves = [torch.randn(n).double() for n in (1600, 5001, 16000)]
batch = torch.full((3, 17000), 1e3).double()
for row, wave in zip(batch, waves):
    row[: len(wave)] = wave
single = torch.cat([model(wave[None]) for wave in waves])
assert torch.allclose(model(batch, torch.tensor([len(w) for w in waves])), single, atol=1e-9)
"""


@pytest.fixture
def copy(root, tmp_path):
    """The project with the page's model, and the page's files by name."""
    text = (root / "docs/howto/extending.md").read_text()
    blocks = dict(re.findall(r"^(?:The line, in )?`([\w/]+\.\w+)`(?:.|\n(?!\n))*\n\n```(?:python|yaml)\n([^`]*)```",
                             text, re.M))
    for name in ("rawnext", "steps", "utils"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("path.sh", "cmd.sh", "egs/mini/run.sh"):
        shutil.copy(root / name, tmp_path)
    assert set(blocks) == {"rawnext/models/statistics_tdnn.py", "rawnext/models/__init__.py",
                           "conf/statistics_tdnn.yaml"}
    for name, content in blocks.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with open(tmp_path / name, "a") as file:
            assert not name.endswith("__init__.py") or content.count("\n") == 1, "one line"
            file.write(content)
    return tmp_path


def python(folder, *words):
    done = subprocess.run([sys.executable, *map(str, words)], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(folder)})
    assert done.returncode == 0, done.stderr[-3000:]


def test_model_of_the_page_ignores_padding_and_trains(root, copy):
    python(copy, "-c", CHECK)
    write_corpus(copy / "data/train", num_speakers=4, num_utts=4)
    (copy / "data/dev").symlink_to("train")
    page = example(root, "docs/howto/extending.md", "./run.sh --stage 3")
    done = subprocess.run([*page, "--stop-stage", "3", "--set", "batch.speakers=4 crop.samples=8000 train.epochs=2"],
                          cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (copy / "exp/statistics_tdnn/model.pt").stat().st_size > 0
    python(copy, "-m", "ruff", "check", "--isolated", "--line-length", "120", "rawnext/models/statistics_tdnn.py")
