# SPDX-License-Identifier: Apache-2.0
"""docs/howto/embeddings.md: every block runs unchanged."""

import os
import re
import shlex
import subprocess
from shutil import which

import numpy as np
import pytest
import soundfile
from corpus import voice
from tiny_model import calibrate, inform, write_experiment

from rawnext.cli.main import main
from rawnext.files import write_lines

pytestmark = pytest.mark.slow


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The folder that the page describes."""
    if not which("ffmpeg"):
        pytest.skip("no ffmpeg, which b.m4a needs")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings").mkdir()
    inform(calibrate(write_experiment(tmp_path / "exp/rawnext")))
    soundfile.write("a.wav", voice(0, 0, 1), 16000)
    soundfile.write("meeting.wav", np.concatenate([voice(s, 2, 1.1) for s in range(4)]), 16000)
    for speaker, name in enumerate(("anna", "bert")):
        for utt in (1, 2):
            soundfile.write(f"recordings/{name}-{utt}.flac", voice(speaker, utt, 1), 16000)
    utts = [f"{name}-{utt}" for name in ("anna", "bert") for utt in (1, 2)]
    pairs = [(a, b) for a in utts for b in utts if a < b]
    write_lines("trials", [f"{a} {b} {'target' if a[0] == b[0] else 'nontarget'}" for a, b in pairs])
    write_lines("speakers", [f"{utt.split('-')[0]} recordings/{utt}.flac" for utt in utts])
    write_lines("wav.scp", [f"{utt} recordings/{utt}.flac" for utt in utts])
    subprocess.run(["ffmpeg", "-v", "error", "-i", "a.wav", "b.m4a"], check=True)
    return tmp_path


def test_every_block_runs(root, work, capsys):
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", (root / "docs/howto/embeddings.md").read_text(), re.M | re.S)
    assert [kind for kind, _ in blocks].count("python") == len(blocks) - 4 == 7
    names: dict = {}
    for kind, text in blocks:
        if kind == "python":
            pytest.importorskip("faiss") if "import faiss" in text else None
            exec(text, names)
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line)
            assert program == "rawnext"
            main(words)
    out = capsys.readouterr().out
    assert "decision  " in out and '"same_speaker": ' in out and "b.m4a 1 " in out and "enrolled" in out
    assert "\nEER " in out and '"act_dcf": ' in out
    assert (work / "release/README.md").exists() and os.path.exists("xvec/wav.scp")
    assert names["vectors"].shape == names["batch"].shape
