# SPDX-License-Identifier: Apache-2.0
"""Files of two models, mixed by hand, are refused in one line that names both; copied folders heal."""

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus import voice, write_corpus
from programs import forking
from tiny_model import write_experiment

from rawnext.data.wav import pipe_output
from rawnext.errors import run_main
from rawnext.inference.extract import load_model
from rawnext.kaldi.tables import read_scores, write_scores
from rawnext.training.checkpoint import fingerprint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
DATA = ["--data-set", "test", "--protocol", "native", "--list", "trials"]
SIDES = ["--enroll-data", "data", "--test-data", "data"]
CALIBRATION = ["--backend", "cosine", "--protocol", "native"]


def run(name: str, *args: object) -> int:
    """Run a program of steps/ or the command rawnext in this process; returns its exit status."""
    if name == "rawnext":
        from rawnext.cli.main import main
    else:
        spec = importlib.util.spec_from_file_location(name, ROOT / f"steps/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        main = module.main
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", [name, *map(str, args)])
        run_main(main)
    return end.value.code


def embed(exp: str) -> None:
    out = Path(exp) / "embeddings"
    assert run("extract", "data", exp, out) == 0
    shutil.copy(out / "embedding.1.scp", out / "embedding.scp")
    assert run("average_speakers", "data/spk2utt", out) == 0


def score(exp: str) -> list[str]:
    scp = f"{exp}/embeddings/embedding.scp"
    return ["--enroll", scp, "--test", scp]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder of data and of two experiments, a and b, with all that a model's files depend on."""
    folder = tmp_path_factory.mktemp("identity")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_corpus(folder / "data", 6, 5, 0.2)
        utts = [line.split()[0] for line in Path("data/utt2spk").read_text().splitlines()]
        Path("data/utt2dur").write_text("".join(f"{utt} 0.2\n" for utt in utts))
        for seed, exp in enumerate("ab"):
            model, config = load_model(write_experiment(Path(exp), seed))
            info = {"fingerprint": fingerprint(config, model.state_dict())}
            Path(exp, "train_info.json").write_text(json.dumps(info))
            embed(exp)
            assert run("score", *score(exp), "data/trials", f"{exp}/cosine") == 0
            assert run("train_backend", f"{exp}/embeddings/embedding.scp", "data/utt2spk", f"{exp}/backend") == 0
            calibration = f"{exp}/calibration/cosine/native"
            assert run("calibrate", "fit", *CALIBRATION, "--data", "data", "--trials", "data/trials", "--out",
                       calibration, f"{exp}/cosine:full:full") == 0
            assert run("rawnext", "enroll", "-m", exp, "-g", f"{exp}/g.ark,{exp}/g.scp", "s",
                       "data/audio/s00-u0.wav") == 0
        shutil.copy("a/embeddings/embedding.scp", "copied.scp")
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """A copy of it for one test, except that embeddings stay where they are."""
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "made"))
    for exp in "ab":
        shutil.rmtree(f"{exp}/embeddings")
        Path(exp, "embeddings").symlink_to(made / exp / "embeddings")
    return tmp_path / "made"


A, B = score("a"), score("b")
NORMALIZE = ["--cohort", "b/embeddings/embedding.scp", "a/cosine", "out"]
APPLY = ["apply", *CALIBRATION, *SIDES]


@pytest.mark.parametrize(("words", "files"), [
    (["score", *A[:2], *B[2:], "data/trials", "out"], ["b/embeddings/embedding.scp", "a/embeddings/embedding.scp"]),
    (["score", *A, "--backend", "plda", "--model", "b/backend", "data/trials", "out"],
     ["b/backend/mean.vec", "a/embeddings/embedding.scp"]),
    (["normalize", *A, *NORMALIZE], ["b/embeddings/embedding.scp", "a/embeddings/embedding.scp"]),
    (["normalize", *B, *NORMALIZE], ["b/embeddings/embedding.scp", "a/cosine"]),
    (["normalize", *A, "--test-cohort", NORMALIZE[1], "--cohort", A[1], "a/cosine", "out"],
     ["b/embeddings/embedding.scp", "a/embeddings/embedding.scp"]),
    (["quality", "--cohort", "b/embeddings/embedding.scp", "a/embeddings"],
     ["b/embeddings/embedding.scp", "a/embeddings/embedding.scp"]),
    (["calibrate", "fit", *CALIBRATION, "--data", "data", "--trials", "data/trials", "--out", "cal",
      "a/cosine:full:full", "b/cosine:full:full"], ["b/cosine", "a/cosine"]),
    (["calibrate", "fit", *CALIBRATION, "--data", "data", "--trials", "data/trials", "--out", "cal",
      "a/cosine:full:full:b/embeddings:b/embeddings"], ["b/embeddings/embedding.scp", "a/cosine"]),
    (["calibrate", *APPLY, "--model", "b/calibration/cosine/native/model.json", "a/cosine:full:full", "out"],
     ["a/cosine", "b/calibration/cosine/native/model.json"]),
    (["evaluate", *DATA, "--exp", "b", "a/cosine", "data/trials"], ["b/train_info.json", "a/cosine"]),
], ids=lambda value: value[0] if isinstance(value, list) and value[0][0] not in "ab" else "")
def test_files_of_two_models_are_refused(here, capsys, words, files):
    assert run(*words) == 1
    err = "".join(line for line in capsys.readouterr().err.splitlines(True) if ": WARNING: " not in line)
    of = {exp: json.loads(Path(exp, "train_info.json").read_text())["fingerprint"][:12] for exp in "ab"}
    one, other = (f"{name}" for name in files)
    assert f"{one}: belongs to model {of[one[0]]}, but {other} to model {of[other[0]]}; one of them must be" in err
    assert err.count("\n") == 1 and not Path("out").exists() and not Path("a/cosine.json").exists()


AUDIO = ["data/audio/s00-u0.wav", "data/audio/s00-u1.wav"]


@pytest.mark.parametrize("words", [
    ["verify", "-m", "a", *AUDIO], ["identify", "-m", "a", "-g", "a/g.ark,a/g.scp", *AUDIO],
    ["serve", "-m", "a", "--port", "0", "--no-browser"], ["export", "a", "--safetensors", "release"], ["info", "a"]],
    ids=lambda words: words[0])
def test_a_replaced_model_is_refused_by_every_command(here, capsys, words):
    """What was made with a is used with b's weights."""
    shutil.copy("b/model.pt", "a/model.pt")
    if words[0] != "info":
        Path("a/train_info.json").unlink()
    assert run("rawnext", *words) == 1
    assert "belongs to model" in capsys.readouterr().err and not Path("release").exists()


def test_a_gallery_of_another_model_is_refused(here, capsys):
    shutil.rmtree("a/calibration")
    assert run("rawnext", "identify", "-m", "a", "-g", "b/g.ark,b/g.scp", AUDIO[0]) == 1
    a, b = (json.loads(Path(exp, "train_info.json").read_text())["fingerprint"][:12] for exp in "ab")
    assert f"g.json: was made with another model, {b}; enroll again with this one, {a}" in capsys.readouterr().err


def test_an_export_keeps_the_identity(here, capsys):
    assert run("rawnext", "export", "a", "--safetensors", "release") == 0
    assert run("rawnext", "verify", "-m", "release", *AUDIO) == 0 and "LLR" in capsys.readouterr().out
    assert run("rawnext", "identify", "-m", "release", "-g", "a/g.ark,a/g.scp", AUDIO[0]) == 0
    shutil.copy("b/calibration/cosine/native/model.json", "release/calibration/cosine/native/model.json")
    assert run("rawnext", "verify", "-m", "release", *AUDIO) == 1


def evaluate(exp: str, name: str, backend: str) -> None:
    shutil.copy(f"{exp}/cosine", Path(exp, "scores", name))
    shutil.copy(f"{exp}/cosine.sources", Path(exp, "scores", f"{name}.sources"))
    assert run("evaluate", *DATA, "--backend", backend, "--exp", exp, f"{exp}/scores/{name}", "data/trials") == 0


def test_results_have_no_rows_of_an_earlier_model(here, capsys):
    """One of two score files was not made again for a model that was trained again."""
    Path("a/scores").mkdir()
    evaluate("a", "old", "plda")
    for name in ("model.pt", "train_info.json", "cosine", "cosine.sources"):
        shutil.copy(f"b/{name}", f"a/{name}")
    evaluate("a", "new", "cosine")
    assert run("results", "a") == 0
    assert "left out 1 evaluations of another model" in capsys.readouterr().err
    assert "| cosine |" in Path("a/RESULTS.md").read_text() and "| plda |" not in Path("a/RESULTS.md").read_text()


def test_results_show_the_command_of_the_training(here, monkeypatch):
    Path("a/scores").mkdir()
    info = json.loads(Path("a/train_info.json").read_text())
    Path("a/train_info.json").write_text(json.dumps({**info, "command": "./run.sh --set seed=7", "seed": 7000}))
    monkeypatch.setenv("RAWNEXT_COMMAND", "./run.sh --stage 8 --set seed=9")
    evaluate("a", "x", "cosine")
    assert run("results", "a") == 0
    page = Path("a/RESULTS.md").read_text()
    assert "```\n./run.sh --set seed=7\n```" in page and "seed=9" not in page and "seed 7000" in page


@pytest.mark.parametrize(("path", "program"), [
    ("a/scores/x", "plot"), ("data/trials", "plot"), ("a/scores/x", "report"), ("a/scores/x", "results"),
    ("data/trials", "results")])
def test_tables_and_curves_are_of_the_same_scores(here, capsys, path, program):
    Path("a/scores").mkdir()
    evaluate("a", "x", "cosine")
    enroll, test, scores = read_scores(path) if "scores" in path else ([], [], None)
    if enroll:
        write_scores(path, enroll, test, -scores)
    else:
        lines = Path(path).read_text().splitlines(keepends=True)
        Path(path).write_text("".join(sorted(lines, reverse=True)))
    assert run(program, "a") == 1
    assert f"{path}: has changed since a/scores/x.json was made of it; evaluate again" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["results", "plot", "report", "compare"])
def test_an_edited_evaluation_is_refused(here, capsys, program):
    Path("a/scores").mkdir()
    evaluate("a", "x", "cosine")
    path = Path("a/scores/x.json")
    row = json.loads(path.read_text())
    path.write_text(json.dumps(dict(sorted(row.items()))))
    assert run("results", "a") == 0, "only its order was changed"
    path.write_text(json.dumps({**row, "eer": row["eer"] / 2}))
    capsys.readouterr()
    assert run(program, "a") == 1
    err = capsys.readouterr().err
    assert "a/scores/x.json: was edited after steps/evaluate.py had written it; evaluate again" in err


def test_scores_may_be_deleted_after_their_evaluation(here):
    Path("a/scores").mkdir()
    evaluate("a", "x", "cosine")
    Path("a/scores/x").unlink()
    assert run("results", "a") == 0


def test_scores_that_were_replaced_have_no_origin(here):
    enroll, test, scores = read_scores("a/cosine")
    write_scores("a/cosine", enroll, test, scores + 1)
    assert run("evaluate", *DATA, "--exp", "b", "a/cosine", "data/trials") == 0  # of any model, as Kaldi's
    assert "fingerprint" not in json.loads(Path("a/cosine.json").read_text())


def test_embeddings_of_several_models_are_refused(here, capsys):
    lines = [Path(f"{exp}/embeddings/embedding.scp").read_text().splitlines() for exp in "ab"]
    Path("mixed.scp").write_text("\n".join([*lines[0][:15], *lines[1][15:]]) + "\n")
    assert run("score", "--enroll", "mixed.scp", "--test", "mixed.scp", "data/trials", "out") == 1
    assert "belongs to model" in capsys.readouterr().err


@pytest.mark.parametrize("scp", ["embedding.scp", "spk_embedding.scp"])
def test_a_copied_folder_of_embeddings_is_not_read_until_it_is_made_again(here, capsys, scp):
    shutil.copytree("a/embeddings", "copy/embeddings")  # not a link
    trials = Path("models")
    trials.write_text("s00 s01 nontarget\ns00 s00 target\n")
    words = ["score", "--enroll", f"copy/embeddings/{scp}", "--test", f"copy/embeddings/{scp}",
             "models" if "spk" in scp else "data/trials", "out"]
    assert run(*words) == 1
    assert "of another folder, as after a copy or move; steps/extract.sh makes it again" in capsys.readouterr().err
    write_experiment(Path("copy"), 0)
    ark = Path("copy/embeddings/embedding.1.ark").stat().st_ino
    embed("copy")
    assert run(*words) == 0 and Path("copy/embeddings/embedding.1.ark").stat().st_ino == ark, "nothing was computed"


@pytest.mark.parametrize("change", ["the file of a command", "the archive of FILE:OFFSET"])
def test_sources_that_are_no_files_are_compared(here, change):
    wave = voice(9, 9, 0.3)
    soundfile.write("one.wav", wave, 16000)
    lines = Path("data/wav.scp").read_text().splitlines()
    path = "cat one.wav |" if "command" in change else "one.wav:0"
    Path("data/wav.scp").write_text("\n".join([f"s00-u0 {path}", *lines[1:]]) + "\n")
    Path("new").mkdir()

    def vectors() -> bytes:
        pipe_output.cache_clear()
        assert run("extract", "--allow-pipes", "data", "a", "new") == 0
        return Path("new/embedding.1.ark").read_bytes()

    first = vectors()
    soundfile.write("one.wav", wave[::-1], 16000)
    assert vectors() != first


def test_a_copied_or_moved_experiment_heals(here):
    """Its scores are those of its own model, whatever becomes of the original."""
    def stages(exp: str) -> np.ndarray:
        words = ["--stage", "4", "--stop-stage", "5", "--protocols", "native", "--durations", "", "--dev", "", "--eval",
                 f"{here}/data:trials", "--nj", "2", here / exp]
        done = subprocess.run([ROOT / "steps/verification.sh", *words], cwd=ROOT, env=forking(), capture_output=True,
                              text=True)
        assert done.returncode == 0, done.stderr
        return read_scores(here / exp / "scores/cosine/data/trials_native")[2]

    for exp in "ab":
        Path(exp, "embeddings").unlink()
    first = stages("a")
    shutil.copytree("a", "c")
    shutil.copy("b/model.pt", "a/model.pt")
    assert not np.allclose(stages("a"), first)
    np.testing.assert_array_equal(stages("c"), first)
    Path("c").rename("d")
    np.testing.assert_array_equal(stages("d"), first)
    assert "d/embeddings" in Path("d/embeddings/data_native/embedding.scp").read_text()
