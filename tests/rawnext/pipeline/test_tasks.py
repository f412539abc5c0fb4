# SPDX-License-Identifier: Apache-2.0
"""The commands that score normalisation and adaptation become."""

import pytest

from rawnext.files import write_lines
from rawnext.pipeline.plan import make_plan
from rawnext.pipeline.tasks import Experiment, embed, fit_calibration, quality, score_trained, train_backends


@pytest.mark.parametrize(("backend", "cohort", "more"), [
    ("asnorm", "embedding.scp", []), ("snorm", "embedding.scp", ["--top", "0"]),
    ("asnorm_speakers", "spk_embedding.scp", []),
    ("asnorm_matched", "embedding.scp", ["--test-cohort", "x/embeddings/cohort_native/embedding.scp"])])
def test_score_normalisation_knows_its_cohort_and_the_speakers(tmp_path, monkeypatch, backend, cohort, more):
    monkeypatch.chdir(tmp_path)
    for folder in ("x/cohort", "data/test", "data/enroll"):
        write_lines(f"{folder}/utt2spk", ["a a"])
    rows = make_plan("native", "data/test:trials:data/enroll", "", "", backend, "", "")
    (task,) = score_trained(Experiment(tmp_path / "x", rows), "eval")
    words = [word.replace(f"{tmp_path}/", "") for word in task.command]
    assert words[0] == "steps/normalize.py"
    assert words[words.index("--cohort") + 1] == f"x/embeddings/cohort_native/{cohort}"
    options = dict(zip(words[5:-2:2], words[6:-2:2]))
    assert options["--cohort-utt2spk"] == "x/cohort/utt2spk" and options["--utt2spk"] == "data/test/utt2spk"
    assert options["--enroll-utt2spk"] == "data/enroll/utt2spk" and [*map(str, more)] == words[-2 - len(more):-2]
    assert {f"{tmp_path}/x/cohort/utt2spk", "data/test/utt2spk", "data/enroll/utt2spk"} <= set(task.inputs)


def test_adaptation_embeds_its_data_and_depends_on_it(tmp_path):
    """Also if none of the lists has them, but only for back ends that learn from it."""
    def tasks(backend, adapt="data/calls", **options):
        rows = make_plan("native", "data/test:trials", "", "", backend, "", "")
        e = Experiment(tmp_path, rows, adapt=adapt, **options)
        return [task.command[-3] for task in embed(e, "eval")], train_backends(e, "eval")

    folder = f"{tmp_path}/embeddings/calls_native"
    embedded, (task,) = tasks("plda", adaptation="plda")
    assert "data/calls" in embedded and f"embeddings:{folder}" in task.inputs
    assert task.command[1:5] == ("--adapt", f"{folder}/embedding.scp", "--adaptation", "plda")
    assert "data/calls" not in tasks("asnorm")[0]
    embedded, (task,) = tasks("plda", adapt="")
    assert "data/calls" not in embedded and "--adapt" not in task.command


def test_the_calibration_of_cosines_has_the_cohort_of_its_measures(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/trials").touch()
    rows = make_plan("native", "data/test:trials", "", "", "asnorm cosine", "all", f"{tmp_path}/dev")
    measures = "inverse_duration cohort_mean_lower"
    found = fit_calibration(Experiment(tmp_path / "x", rows, measures=measures), "calibration")
    tasks = {task.command[task.command.index("--backend") + 1]: task for task in found}
    task, folder = tasks["cosine"], f"{tmp_path}/x/embeddings/cohort_native"
    assert task.command[task.command.index("--cohort") + 1] == f"{folder}/spk_embedding.scp"
    assert f"embeddings:{folder}" in task.inputs
    assert f"{tmp_path}/x/calibration/cosine/native/cohort.npy" in task.outputs
    assert "--cohort" not in tasks["asnorm"].command
    task = next(quality(Experiment(tmp_path / "x", rows, measures=measures), "calibration"))
    assert task.command[task.command.index("--cohort") + 1] == f"{folder}/spk_embedding.scp"
    found = fit_calibration(Experiment(tmp_path / "x", rows), "calibration")
    assert not any("--cohort" in task.command for task in found)
