# SPDX-License-Identifier: Apache-2.0
"""egs/csv/run.sh from two CSV files to a submission, both ways, at a tiny size."""

import csv
import random

import numpy as np
import pytest
import soundfile
from corpus import voice
from page_commands import example
from recipe import run_recipe
from tiny_model import write_experiment

from rawnext.training import checkpoint

pytestmark = pytest.mark.slow

TINY = "model.widths=[8,8,8,8] model.blocks=[1,1,1,1] model.embedding_dim=8 crop.samples=8000 train.epochs=1"
SMALL = ("--nj", "1", "--num-workers", "0", "--num-threads", "1", "--set", TINY)


def write_csv(path, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """train.csv of 10 speakers with 4 utterances each, fewer than a batch of the configuration has, and pairs.csv
    whose last pair is a file and itself."""
    folder = tmp_path_factory.mktemp("csv")
    (folder / "wavs").mkdir()
    waves = [(f"wavs/{4 * s + u:03d}.wav", f"speaker {s}", voice(s, u, 0.8)) for s in range(10) for u in range(4)]
    for name, _, wave in waves:
        soundfile.write(folder / name, wave, 16000)
    write_csv(folder / "train.csv", ("idx", "wav path", "speaker id"), *((i, *w[:2]) for i, w in enumerate(waves)))
    names = [name for name, *_ in waves]
    drawn = [random.Random(i).sample(names, 2) for i in range(9)]
    pairs = [(f"p{7 * i % 9}", *names) for i, names in enumerate(drawn)]
    write_csv(folder / "pairs.csv", ("idx", "left wav", "right wav"), *pairs, ("itself", names[0], names[0]))
    return folder


@pytest.fixture(scope="module", params=["siamese", "contrastive"])
def run(root, folder, request):
    """Either way on the same data: the first with a table of results, both without the pictures."""
    way = request.param
    _, *words = {"siamese": example(root, "docs/reference/recipes.md", "./run.sh --train-csv"),
                 "contrastive": example(root, "egs/csv/README.md", "./run.sh --train-csv")}[way]
    first = ("--stop-stage", "8") if way == "siamese" else ("--stage", "3", "--stop-stage", "5")
    for more in (first, ("--stage", "10")):
        done = run_recipe(root, "csv", folder, *words, "--way", way, *SMALL, *more)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    backend = "siamese" if way == "siamese" else "cosine"
    return folder / "exp" / way, folder / "exp" / way / "scores" / backend, done


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_submission_answers_the_pairs_in_their_order(folder, run):
    exp, scores, _ = run
    answers = read_rows(exp / "submission.csv")
    assert list(answers[0]) == ["idx", "score", "label"]
    assert [row["idx"] for row in answers] == [row["idx"] for row in read_rows(folder / "pairs.csv")]
    assert [row["score"] for row in answers] == [
        line.split()[2] for line in (scores / "pairs" / "pairs_native").read_text().splitlines()]
    head = checkpoint.load(exp / "model.pt")["losses"].get("siamese", {})
    same = -float(head["linear.bias"]) if exp.name == "siamese" else 1.0
    assert float(answers[-1]["score"]) == pytest.approx(same, abs=1e-5) and answers[-1]["label"] == "0", \
        "a file has the speaker of itself"


def test_the_threshold_is_the_validation_pairs(folder, run):
    exp, scores, done = run
    kinds = [line.split()[2] == "target" for line in (folder / "data/dev/trials").read_text().splitlines()]
    values = [float(line.split()[2]) for line in (scores / "dev" / "trials_native").read_text().splitlines()]
    target, value = np.array(kinds), np.array(values)
    threshold = float(done.stdout.split("threshold ")[1].split(":")[0])
    accuracy = [np.mean((value >= t) == target) for t in [threshold, *value]]
    assert target.mean() == 0.5 and accuracy[0] >= max(accuracy) - 1e-9
    assert f"accuracy {100 * accuracy[0]:.2f} %" in done.stdout and "; EER" in done.stdout
    for row in read_rows(exp / "submission.csv"):
        assert row["label"] == ("0" if float(row["score"]) >= threshold else "1")


def test_speakers_are_held_out_and_results_say_what_scored(folder, run):
    train, dev = ({line.split()[1] for line in (folder / "data" / name / "utt2spk").read_text().splitlines()}
                  for name in ("train", "dev"))
    assert (len(train), len(dev)) == (8, 2) and not train & dev
    assert run[0].name != "siamese" or "\tsiamese\t" in (run[0] / "results.tsv").read_text()


@pytest.mark.parametrize(("more", "why"), [
    ((), "--train-csv is needed"), (("--train-csv", "none.csv"), "no such file none.csv"),
    (("--train-csv", "train.csv", "--pairs", "none.csv"), "no such file none.csv"),
    (("--train-csv", "train.csv", "--way", "siames"), "conf/csv/siames.yaml: no such file"),
    (("--train-csv", "train.csv", "--data", "other", "--wav-dir", "/none"), "40 of 40 audio files cannot be read")])
def test_mistakes_end_before_any_work(root, folder, more, why):
    stop = ("--stop-stage", "1") if "/none" in more else ()
    done = run_recipe(root, "csv", folder, *more, "--name", "mistake", *stop)
    assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr
    assert not (folder / "exp" / "mistake").exists() and not (folder / "other" / "train").exists()


def test_fine_tuning_on_speakers_of_a_csv(root, folder, tmp_path):
    write_experiment(tmp_path / "voxceleb/exp/rawnext_aam")
    here = tmp_path / "csv"
    here.mkdir()
    for name in ("wavs", "mine.csv"):
        (here / name).symlink_to(folder / name.replace("mine", "train"))
    small = [*SMALL[:-1], "batch.speakers=6 crop.samples=8000 crop.short_from=0 train.epochs=1"]
    for page in (example(root, "docs/howto/fine_tuning.md", "./run.sh --stop-stage 2"),
                 example(root, "docs/howto/fine_tuning.md", "./run.sh --stage 3 --stop-stage 3")):
        done = run_recipe(root, "csv", here, *page[1:], *small)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "rawnext_aam" in (here / "exp/mine/train_info.json").read_text()
