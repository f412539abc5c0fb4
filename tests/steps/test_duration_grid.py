# SPDX-License-Identifier: Apache-2.0
"""steps/duration_grid.sh: each cell is scored from the right cuts; its tables and its picture."""

import csv
import os
import shutil
import subprocess

import numpy as np
import pytest
from corpus import write_corpus
from matplotlib.image import imread
from page_commands import example
from programs import forking

from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import read_scores, read_trials
from rawnext.scoring.metrics import eer

pytestmark = pytest.mark.slow

# Extraction has its own tests: here it takes prepared embeddings, and records its arguments.
EXTRACT = """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do shift 2; done
echo "$(basename "$1") $2" >> asked
mkdir -p "$3"
cp "ready/$(basename "$1").scp" "$3/embedding.scp"
"""


@pytest.fixture
def place(root, tmp_path):
    """A folder with steps, a data directory, trials, two experiments and their embeddings; returns run(*args)."""
    for link in ("path.sh", "cmd.sh", "utils"):
        (tmp_path / link).symlink_to(root / link)
    (tmp_path / "steps").mkdir()
    for path in (root / "steps").iterdir():
        if path.name not in ("extract.sh", "__pycache__"):
            (tmp_path / "steps" / path.name).symlink_to(path)
    (tmp_path / "steps/extract.sh").write_text(EXTRACT)
    (tmp_path / "steps/extract.sh").chmod(0o755)
    write_corpus(tmp_path / "data", num_speakers=6, num_utts=2, seconds=0.3)
    rng = np.random.default_rng(0)
    for cut in ("data", "0.2s"):
        vectors = [(f"s{s:02}-u{u}", rng.normal(size=4)) for s in range(6) for u in range(2)]
        (tmp_path / "ready").mkdir(exist_ok=True)
        write_vectors(tmp_path / f"ready/{cut}.ark", tmp_path / f"ready/{cut}.scp", vectors)
    for name in ("one", "two"):
        write_lines(tmp_path / "exp" / name / "config.yaml", ["seed: 1"])
        (tmp_path / "exp" / name / "model.pt").touch()

    def run(*args):
        command = ["steps/duration_grid.sh", *args, "data", "data/trials", "exp/one"]
        return subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)

    return run


def environment():
    return forking({k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAWNEXT_COMMAND")})


def read(scp):
    from rawnext.kaldi.ark import read_matrix

    keys, matrix = read_matrix(scp)
    return dict(zip(keys, matrix / np.linalg.norm(matrix, axis=1, keepdims=True)))


def results(folder):
    """(side, duration, backend) -> evaluation of a system."""
    with open(folder / "results.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    sides = {"trials": "test", "trials, enroll side cut": "enroll", "trials, both sides cut": "both"}
    return {(sides[row["list"]], row["duration"], row["backend"]): row for row in rows}


def test_each_cell_has_its_own_cuts(place, tmp_path):
    done = place("--grid", "0.2", "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted((tmp_path / "asked").read_text().splitlines()) == ["0.2s out/one", "data out/one"], "each cut once"
    trials = read_trials(tmp_path / "data/trials")
    by = {cut: read(tmp_path / f"ready/{cut}.scp") for cut in ("data", "0.2s")}
    rows = results(tmp_path / "out/one")
    cells = {("test", "full"): ("data", "data", "trials_native"),
             ("test", "0.2"): ("data", "0.2s", "trials_native_0.2s"),
             ("enroll", "0.2"): ("0.2s", "data", "trials_native_full_0.2s"),
             ("both", "0.2"): ("0.2s", "0.2s", "trials_native_0.2s_0.2s")}
    assert rows.keys() == {(*cell, "cosine") for cell in cells}
    for cell, (enroll, test, name) in cells.items():
        row = rows[(*cell, "cosine")]
        scores = np.array([by[enroll][e] @ by[test][t] for e, t in zip(trials.enroll, trials.test)])
        assert np.allclose(read_scores(tmp_path / "out/one/scores/cosine/data" / name)[2], scores, atol=1e-5), cell
        expected = 100 * eer(scores[trials.is_target], scores[~trials.is_target])
        assert float(row["eer"]) == pytest.approx(expected, abs=1e-3), cell
        assert row["data_set"] == "data" and "eer_interval" in row and "act_dcf_01" not in row
    assert len({row["eer"] for row in rows.values()}) > 2, "embeddings for which the cells differ"
    assert rows["both", "0.2", "cosine"]["crop"] == "both sides, out/data"
    assert rows["test", "full", "cosine"]["crop"] == "none"
    page = (tmp_path / "out/GRID.md").read_text()
    assert "### data, trials, both sides cut (native, cosine)" in page
    assert f"{float(rows['both', '0.2', 'cosine']['eer']):.2f} [" in page
    assert "| duration | shorter | utts |" in page and "| 0.2s | 0 | 12 | " in page
    assert min(imread(tmp_path / "out/eer.png").shape[:2]) > 300


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_second_run_makes_nothing_and_another_grid_no_more_than_needed(place, tmp_path):
    assert place("--grid", "0.2", "--out", "out").returncode == 0
    (tmp_path / "asked").unlink()
    before = times(tmp_path / "out/one/scores")
    done = place("--grid", "0.2", "--out", "out")
    assert done.returncode == 0 and not (tmp_path / "asked").exists()
    assert done.stderr.count("nothing to do") == 5, done.stderr
    assert times(tmp_path / "out/one/scores") == before
    assert place("--grid", "0.2", "--sides", "both", "--out", "out").returncode == 0
    assert {side for side, *_ in results(tmp_path / "out/one")} == {"test", "both"}, "no scores of other cells"


def test_a_calibration_of_the_experiment_is_applied(root, place, tmp_path):
    assert place("--grid", "0.2", "--out", "first").returncode == 0
    scores = "first/one/scores/cosine/data/trials_native"
    command = ["steps/calibrate.py", "fit", "--backend", "cosine", "--protocol", "native", "--data", "first/data/full",
               "--trials", "data/trials", "--out", "exp/one/calibration/cosine/native", f"{scores}:full:full",
               f"{scores}_0.2s:full:0.2"]
    subprocess.run(command, cwd=tmp_path, env={**environment(), "PYTHONPATH": str(root)}, check=True)
    done = place("--grid", "0.2", "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = results(tmp_path / "out/one")
    assert len(rows) == 8
    for (_, _, backend), row in rows.items():
        assert bool(row["act_dcf_01"]) == (backend == "cosine+cal")


def test_the_command_of_the_page(root, place, tmp_path):
    page = example(root, "docs/howto/durations.md", "steps/duration_grid.sh")
    page[-4:-4] = "--grid", "2"     # longer than all utterances
    (tmp_path / "data/vox1_test").mkdir()
    for name in ("wav.scp", "utt2spk", "spk2utt"):
        (tmp_path / "data/vox1_test" / name).symlink_to(tmp_path / "data" / name)
    (tmp_path / "data/vox1_test/trials_O").symlink_to(tmp_path / "data/trials")
    for old, new in (("one", "rawnext"), ("two", "resnext")):
        (tmp_path / "exp" / old).rename(tmp_path / "exp" / new)
    for name in ("2s", "vox1_test"):
        shutil.copy(tmp_path / "ready/data.scp", tmp_path / f"ready/{name}.scp")
    done = subprocess.run(page, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((tmp_path / "asked").read_text().splitlines()) == 2 * 2
    grid, = (tmp_path / "exp").rglob("GRID.md")
    tables = grid.read_text().partition("### Where")[0]
    assert tables.count("### vox1_test, O") == 3
    assert tables.count("| rawnext |") == tables.count("| resnext |") == 3


def test_usage_errors_stop_at_once(place, tmp_path):
    for args, why in ((("--sides", "left"), "left is not test"), (("--policy", "end"), "invalid choice: 'end'"),
                      (("--grid", "0.01"), "want seconds of at least 0.1")):
        done = place("--stop-stage", "1", *args)
        assert done.returncode != 0 and why in done.stderr and not (tmp_path / "asked").exists()
    (tmp_path / "exp/one/model.pt").unlink()
    assert "no such file exp/one/model.pt" in place().stderr
