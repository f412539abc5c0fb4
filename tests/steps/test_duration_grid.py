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
    for cut in ("full", "0.2s"):
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


def test_each_cell_has_its_own_cuts(place, tmp_path):
    done = place("--grid", "0.2", "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "asked").read_text() == "0.2s exp/one\nfull exp/one\n", "each cut once"
    trials = read_trials(tmp_path / "data/trials")
    by = {cut: read(tmp_path / f"ready/{cut}.scp") for cut in ("full", "0.2s")}
    with open(tmp_path / "out/grid.tsv", encoding="utf-8") as file:
        rows = {(row["side"], row["duration"]): row for row in csv.DictReader(file, delimiter="\t")}
    sides = {"test": ("full", "0.2s"), "enroll": ("0.2s", "full"), "both": ("0.2s", "0.2s")}
    assert list(rows) == [(side, duration) for side in sides for duration in ("0.2", "full")]
    for (side, duration), row in rows.items():
        enroll, test = sides[side] if duration != "full" else ("full", "full")
        scores = np.array([by[enroll][e] @ by[test][t] for e, t in zip(trials.enroll, trials.test)])
        cell = "full" if duration == "full" else f"{side}_{duration}s"
        assert np.allclose(read_scores(tmp_path / "out/one/scores/cosine" / cell)[2], scores, atol=1e-5), cell
        expected = 100 * eer(scores[trials.is_target], scores[~trials.is_target])
        assert float(row["eer"]) == pytest.approx(expected, abs=1e-3), (side, duration)
        assert float(row["eer_low"]) <= float(row["eer_high"]) and row["act_dcf_01"] == ""
    assert len({row["eer"] for row in rows.values()}) > 2, "embeddings for which the cells differ"
    page = (tmp_path / "out/GRID.md").read_text()
    assert "## EER %, both sides cut" in page and "| shorter utterances | 0 |" in page and "actual" not in page
    assert f"| one | {float(rows['test', '0.2']['eer']):.2f} [" in page
    assert '"crop": "both side, centre"' in (tmp_path / "out/one/scores/cosine/both_0.2s.json").read_text()
    assert min(imread(tmp_path / "out/eer.png").shape[:2]) > 300


def test_the_command_of_the_page(root, place, tmp_path):
    page = example(root, "docs/howto/durations.md", "steps/duration_grid.sh")
    page[-4:-4] = "--grid", "2"     # longer than all utterances
    (tmp_path / "data/vox1_test").mkdir()
    for name in ("wav.scp", "utt2spk", "spk2utt"):
        (tmp_path / "data/vox1_test" / name).symlink_to(tmp_path / "data" / name)
    (tmp_path / "data/vox1_test/trials_O").symlink_to(tmp_path / "data/trials")
    for old, new in (("one", "rawnext"), ("two", "resnext")):
        (tmp_path / "exp" / old).rename(tmp_path / "exp" / new)
    shutil.copy(tmp_path / "ready/full.scp", tmp_path / "ready/2s.scp")
    done = subprocess.run(page, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((tmp_path / "asked").read_text().splitlines()) == 2 * 2
    grid, = (tmp_path / "exp").rglob("grid.tsv")
    assert len(grid.read_text().splitlines()) == 1 + 2 * 3 * 2


def test_usage_errors_stop_at_once(place, tmp_path):
    for args, why in ((("--sides", "left"), "left is not test"), (("--policy", "end"), "invalid choice: 'end'"),
                      (("--grid", "0.01"), "want seconds of at least 0.1")):
        done = place("--stop-stage", "1", *args)
        assert done.returncode != 0 and why in done.stderr and not (tmp_path / "asked").exists()
    (tmp_path / "exp/one/model.pt").unlink()
    assert "no such file exp/one/model.pt" in place().stderr
