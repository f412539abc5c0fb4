# SPDX-License-Identifier: Apache-2.0
"""egs/mini/run.sh speaks a corpus, prepares it and trains on it; the stages behind are tested with voxceleb."""

from recipe import run_recipe

from rawnext.data.cuts import CutTable


def test_from_nothing_to_a_model(root, tmp_path):
    options = ("--nj", "2", "--corpus-opts", "--train-speakers 16 --test-speakers 4 --utts 6")
    done = run_recipe(root, "mini", tmp_path, *options, "--stop-stage", "3", "--set", "train.epochs=1 batch.speakers=8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("Successfully validated") == 3
    speakers = {name: set(CutTable(tmp_path / "data" / name).speakers) for name in ("train", "dev", "test")}
    assert len(speakers["train"] | speakers["dev"]) == 16 and len(speakers["test"]) == 4
    assert not (speakers["train"] & speakers["dev"]) and not ((speakers["train"] | speakers["dev"]) & speakers["test"])
    assert (tmp_path / "exp" / "rawnext" / "model.pt").stat().st_size > 0
    again = run_recipe(root, "mini", tmp_path, *options, "--stop-stage", "0")
    assert again.returncode == 0 and "kept" in again.stdout + again.stderr
