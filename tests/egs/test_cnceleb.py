# SPDX-License-Identifier: Apache-2.0
"""egs/cnceleb/run.sh from the corpus to RESULTS.md, on a tree of a few files."""

import pytest
from page_commands import example
from recipe import run_recipe
from tiny_evaluations import write_cnceleb
from tiny_voxceleb import options, write

pytestmark = pytest.mark.slow


def test_from_the_corpus_to_the_table(root, tmp_path):
    write_cnceleb(tmp_path / "cnceleb")
    for kind in ("noise", "music", "speech"):
        write(tmp_path / f"musan/{kind}/some/{kind}-some-0000.wav", 40, len(kind), 0.6)
    write(tmp_path / "rirs/simulated_rirs/smallroom/Room001/Room001-00001.wav", 50, 0, 0.1)
    page, small = example(root, "egs/cnceleb/README.md", "./run.sh --corpus"), options(tmp_path / "recipe", tmp_path)
    del small[:4]  # --vox1, --vox2
    words = [*page[1:], "--corpus", tmp_path / "cnceleb", *small, "--set", "batch.speakers=2 train.epochs=1",
             "--protocols", "native", "--durations", "", "--backends", "cosine asnorm"]
    done = run_recipe(root, "cnceleb", tmp_path / "recipe", *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = [line.split("\t") for line in (tmp_path / "recipe/exp/tiny/results.tsv").read_text().splitlines()]
    table = [dict(zip(rows[0], row)) for row in rows[1:]]
    assert {(row["data_set"], row["list"], row["backend"].removesuffix("+cal")) for row in table} == {
        ("cnceleb_test", name, backend) for name in ("trials", "parts") for backend in ("cosine", "asnorm")}
    assert "genre of the test side" in (tmp_path / "recipe/exp/tiny/RESULTS.md").read_text()
    done = run_recipe(root, "cnceleb", tmp_path / "recipe", *words, "--stop-stage", "2")
    assert done.returncode == 0 and done.stderr.count("nothing to do, done before") == 2, done.stderr[-3000:]
