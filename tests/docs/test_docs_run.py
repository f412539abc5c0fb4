# SPDX-License-Identifier: Apache-2.0
"""Commands of the pages that need no corpus and no training are run, word for word, in a folder of tiny data."""

import contextlib
import io
import runpy
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from corpus import write_corpus
from page_commands import blocks, commands

from rawnext.ark import write_vectors
from rawnext.tables import write_lines

ROOT = Path(__file__).resolve().parents[2]
RUN = {"utils/validate_data_dir.py", "utils/make_trials.py", "utils/lint_trials.py", "local/convert_trials.py",
       "steps/score.py", "steps/paired_test.py", "steps/compare.py", "steps/calibrate.py", "steps/report.py"}
# Want trained networks or a whole recipe's results: their own tests run them; test_docs.py checks the pages' words.
TOO_LONG = {"steps/train.py", "steps/branch_variation.py", "steps/activation_map.py", "steps/paper_tables.py",
            "bench/performance.py"}
DATA = ("mine", "new", "dev", "test", "train", "vox1_test")
EXPERIMENTS = ("a", "b", "c", "x", "rawnext", "resnext")


def examples() -> list[list[str]]:
    """Words of the Python commands of all pages, without those that leave something out."""
    found = [command.words for page in sorted(ROOT.glob("docs/*.md")) for block in blocks(page.read_text())
             if block.language == "bash" for command in commands(block.code)]
    return [words for words in found if words[0].endswith(".py") and not {"...", "--help"} & set(words)]


def run(folder: Path, words: list[str]) -> str:
    """Run a program of ours in a folder; returns what it has told, if it failed."""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, mock.patch.object(sys, "argv", words), \
            contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        patch.chdir(folder)
        patch.syspath_prepend(str((ROOT / words[0]).parent))
        try:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except SystemExit as end:
            return f"{words}: {end.code} {told.getvalue()}" if end.code else ""
    return ""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Data directories and evaluated experiments of the names that the pages use."""
    folder = tmp_path_factory.mktemp("house")
    data = write_corpus(folder / "data/mine", num_speakers=8)
    utts = [line.split()[0] for line in (data / "utt2spk").read_text().splitlines()]
    pairs = [(a, b) for a in utts for b in utts if a < b]
    same = np.array([a[:3] == b[:3] for a, b in pairs])
    write_lines(data / "utt2dur", [f"{utt} 1.5" for utt in utts])
    for name in ("trials", "trials_O"):
        write_lines(data / name, [f"{a} {b} {'target' if y else 'nontarget'}" for (a, b), y in zip(pairs, same)])
    write_lines(folder / "my_list.txt", [f"{int(y)} {a}.wav {b}.wav" for (a, b), y in zip(pairs, same)])
    for name in DATA[1:]:
        (folder / "data" / name).symlink_to("mine")
    rng = np.random.default_rng(0)
    for exp in EXPERIMENTS:
        write_scores(folder, exp, pairs, rng.normal(size=len(pairs)) + 2 * same)
    write_vectors(folder / "a.ark", folder / "a.scp", ((utt, rng.normal(size=8).astype("float32")) for utt in utts))
    shutil.copy(folder / "a.scp", folder / "b.scp")
    assert not run(folder, ["steps/train_backend.py", "a.scp", "data/mine/utt2spk", "xvectors_train"])
    return folder


def write_scores(folder: Path, exp: str, pairs: list[tuple[str, str]], values: np.ndarray) -> None:
    """What stages 3 and 5 leave behind."""
    lines = [f"{a} {b} {value:.6f}" for (a, b), value in zip(pairs, values)]
    for name in ("test/trials_native", "mine/trials_native", "mine/trials_native_2s"):
        write_lines(folder / "exp" / exp / "scores/cosine" / name, lines)
    write_lines(folder / "SCORES", lines)
    write_lines(folder / "exp" / exp / "config.yaml", ["model: {name: rawnext}"])
    words = f"steps/evaluate.py --exp exp/{exp} --list trials --data-set test --protocol native --duration full"
    scores = f"exp/{exp}/scores/cosine/test/trials_native"
    assert not run(folder, [*words.split(), "--backend", "cosine", scores, "data/test/trials"])


def test_each_program_is_run_or_known_to_take_too_long():
    found = {words[0] for words in examples()}
    assert found <= RUN | TOO_LONG, "a program that no page had: say in this file whether it is run"
    assert found >= RUN, "no page has it any more"


@pytest.mark.parametrize("program", sorted(RUN))
def test_it_runs(program, house, tmp_path):
    shutil.copytree(house, tmp_path / "house", symlinks=True)
    for words in examples():
        if words[0] == program:
            assert not run(tmp_path / "house", words)


def test_a_failure_is_seen(house):
    assert "no such file" in run(house, ["steps/paired_test.py", "nothing", "nothing", "data/test/trials"])
