# SPDX-License-Identifier: Apache-2.0
"""docs/howto/other_evaluations.md from corpora to RESULTS.md, on trees of a few files."""

import os
import subprocess

import pytest
from corpus import write_corpus
from page_commands import example
from programs import forking
from recipe import place_recipe
from tiny_evaluations import write_cnceleb, write_sitw, write_voices
from tiny_model import write_experiment

from rawnext.kaldi.tables import read_scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(root, tmp_path_factory):
    """egs/voxceleb with an experiment, its training data and these corpora, prepared by the commands of the page."""
    top = tmp_path_factory.mktemp("evaluations")
    for name, write in (("CN-Celeb_flac", write_cnceleb), ("sitw", write_sitw), ("VOiCES", write_voices)):
        write(top / "corpora" / name)
    folder = top / "egs/voxceleb"
    folder.parent.mkdir()
    (top / "rawnext").symlink_to(root / "rawnext")
    env = forking(place_recipe(root, "voxceleb", folder))
    write_corpus(folder / "data/train", num_speakers=6, num_utts=3)
    write_experiment(folder / "exp/rawnext")

    def run(words):
        words = [word.replace("/corpora", str(top / "corpora")) for word in words]
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    run(example(root, "docs/howto/other_evaluations.md", "local/cnceleb/prepare_cnceleb.py"))
    run(example(root, "docs/howto/other_evaluations.md", "local/sitw/prepare_sitw.py"))
    run(example(root, "docs/howto/other_evaluations.md", "local/voices/prepare_voices.py"))
    return folder, run


def results(folder):
    rows = [line.split("\t") for line in (folder / "results.tsv").read_text().splitlines()]
    return [dict(zip(rows[0], row)) for row in rows[1:]]


def test_an_experiment_on_all_lists(root, recipe):
    folder, run = recipe
    *words, exp = example(root, "docs/howto/other_evaluations.md", "steps/verification.sh --stage 4 --backends")
    run([*words, "--protocols", "native", "--durations", "0.5", "--nj", "1", "--stop-stage", "8", exp])
    cells = {(row["data_set"], row["list"], row["backend"], row["duration"]) for row in results(folder / exp)}
    parts = [word.split(":") for word in words[words.index("--eval") + 1].split()]
    names = [(test.split("/")[1], trials.removeprefix("trials_")) for test, trials, _ in parts]
    assert len(names) == 5 and names[0] == ("cnceleb_test", "trials")
    assert cells == {(*name, backend, duration) for backend in ("cosine", "asnorm", "plda")
                     for name, duration in [*((name, "full") for name in names), (names[0], "0.5")]}
    models = read_scores(folder / exp / "scores/plda/cnceleb_test/trials_parts_native")[0]
    assert len(models) == 18 and set(models) == {"id00800", "id00801", "id00802"}
    assert "genre of the test side" in (folder / exp / "RESULTS.md").read_text()


def test_the_model_of_the_package(root, recipe):
    folder, run = recipe
    run(example(root, "docs/howto/other_evaluations.md", "cp -r"))
    *words, exp = example(root, "docs/howto/other_evaluations.md", "steps/verification.sh --stage 4 --protocols")
    run([*words, "--durations", "", "--nj", "1", "--stop-stage", "8", exp])
    assert [(row["data_set"], row["list"]) for row in results(folder / exp)] == [("sitw_eval_test", "core-core")]
    assert sorted(os.listdir(folder / exp / "embeddings")) == ["sitw_eval_enroll_native", "sitw_eval_test_native"]
