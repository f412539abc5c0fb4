# SPDX-License-Identifier: Apache-2.0
"""steps/verification.sh with instant training and extraction: what is made, made again, and left alone."""

import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest
from corpus import write_corpus
from programs import forking

from rawnext.pipeline.plan import read_plan
from rawnext.pipeline.records import identity, pending
from rawnext.pipeline.tasks import STEPS, Experiment

pytestmark = pytest.mark.slow

# Writes a model that depends on --set, unless there is a checkpoint, as after a finished training.
TRAIN = """#!/usr/bin/env python3
import pathlib, sys
exp, setting = pathlib.Path(sys.argv[-1]), sys.argv[sys.argv.index("--set") + 1]
print("train", file=open("asked", "a"))
if not (exp / "checkpoints").exists():
    (exp / "checkpoints").mkdir()
    (exp / "model.pt").write_text(setting)
    row = {"epoch": 1, "step": 1, "loss": 1, "acc": 1, "lr": 1, "eer_dev": 1, "min_dcf_dev": 1, "seconds": 1,
           "utts_per_s": 1, "data_wait": 0, "bad_utts": 0}
    (exp / "train.tsv").write_text("\\t".join(row) + "\\n" + "\\t".join(map(str, row.values())) + "\\n")
    (exp / "train_info.json").write_text("{}\\n")
(exp / "config.yaml").write_text("seed: 1\\n")
"""
# Writes random embeddings that depend on model, data and options.
EXTRACT = """#!/usr/bin/env python3
import pathlib, sys, zlib
import numpy as np
from rawnext.kaldi.ark import write_vectors
options, (data, exp, out) = " ".join(sys.argv[5:-3]), map(pathlib.Path, sys.argv[-3:])
print(f"extract {out.name}", file=open("asked", "a"))
seed = zlib.crc32(f"{options} {(exp / 'model.pt').read_text()} {data}".encode())
rng = np.random.default_rng(seed)
utts = [line.split()[0] for line in open(data / "wav.scp")]
write_vectors(out / "embedding.1.ark", out / "embedding.scp", [(utt, rng.normal(size=4)) for utt in utts])
"""
LAUNCHER = """#!/usr/bin/env bash
echo "$*" >> launched
exec run.py "$@"
"""


def place(root: Path, folder: Path) -> Path:
    """A folder with the steps, the two above in the place of the real ones, and three data directories."""
    (folder / "steps").mkdir(parents=True)
    for link in ("path.sh", "cmd.sh", "utils"):
        (folder / link).symlink_to(root / link)
    for path in (root / "steps").glob("*.*"):
        (folder / "steps" / path.name).symlink_to(path)
    for path, text in (("steps/torchrun.py", TRAIN), ("steps/extract.sh", EXTRACT), ("launcher", LAUNCHER)):
        (folder / path).unlink(missing_ok=True)
        (folder / path).write_text(text)
        (folder / path).chmod(0o755)
    for name, num in (("train", 6), ("dev", 5), ("test", 4)):
        write_corpus(folder / "data" / name, num_speakers=num, num_utts=2, seconds=0.2)
        utts = [line.split()[0] for line in (folder / "data" / name / "wav.scp").read_text().splitlines()]
        (folder / "data" / name / "utt2dur").write_text("".join(f"{utt} 0.2\n" for utt in utts))
    (folder / "a.yaml").write_text("")
    return folder


def place_with_extraction(root: Path, folder: Path) -> Path:
    """A folder with a tiny network, which the real steps/extract.sh applies."""
    place(root, folder)
    (folder / "steps/extract.sh").unlink()
    (folder / "steps/extract.sh").symlink_to(root / "steps/extract.sh")
    (folder / "steps/torchrun.py").write_text(TRAIN.replace(
        '(exp / "model.pt").write_text(setting)', f"sys.path.insert(0, {str(root / 'tests')!r})\n"
        "    from tiny_model import write_experiment; write_experiment(exp)").replace(
        '(exp / "config.yaml").write_text("seed: 1\\n")', 'print(sys.argv[1:], file=open("words", "w"))'))
    return folder


def verification(folder: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run it; returns also what was trained and extracted."""
    (folder / "asked").write_text("")
    command = ["steps/verification.sh", "--conf", "a.yaml", "--set", "seed=1", "--protocols", "native",
               "--durations", "2", "--backends", "asnorm plda", "--nj", "2", *options, "exp/x"]
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAWNEXT_COMMAND")}
    env |= {"train_cmd": "./launcher"}
    done = subprocess.run(command, cwd=folder, env=forking(env), capture_output=True, text=True, timeout=300)
    return done, (folder / "asked").read_text()


def good(folder: Path, *options: str) -> tuple[str, str]:
    done, asked = verification(folder, *options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stderr, asked


def contents(folder: Path) -> dict[str, int]:
    """Inodes of all files that stages make."""
    return {str(path.relative_to(folder)): path.stat().st_ino for path in (folder / "exp/x").rglob("*")
            if path.is_file() and "log" not in path.parts and path.name != ".lock"}


@pytest.fixture(scope="module")
def made(root, tmp_path_factory) -> Path:
    """A folder where all stages have been run."""
    folder = place(root, tmp_path_factory.mktemp("verification") / "made")
    said, asked = good(folder)
    assert asked.splitlines()[0] == "train" and asked.count("extract") == 2 + 1 + 2
    assert "wrote exp/x/report.html" in said and "nothing to do" not in said
    for program, why in (("train_backend", "12 vectors of 6 speakers are too few for LDA and PLDA"),
                         ("normalize", "a cohort of 4 is too small"), ("normalize", "are of speakers of the trials"),
                         ("calibrate", "it was fitted on only 5 target trials")):
        assert any(line.startswith(f"{program}.py: WARNING: ") and why in line for line in said.splitlines()), said
    return folder


def test_scores_of_every_row_and_of_no_other(made):
    rows = read_plan(made / "exp/x/plan.tsv")
    files = {path.relative_to(made / "exp/x/scores").as_posix() for path in (made / "exp/x/scores").rglob("*")
             if path.is_file() and path.suffix != ".json"}
    expected = {f"{row.backend}/{row.name}" for row in rows}
    cosines = {f"cosine/{row.name}" for row in rows if row.backend == "asnorm"}  # which asnorm starts from
    assert files == expected | cosines and len(expected) == 2 * 2 * 2 + 3 * 2
    table = (made / "exp/x/results.tsv").read_text()
    assert "asnorm+cal" in table and "\tcosine\t" not in table


def test_stages_5_to_8_are_jobs_of_train_cmd(made):
    launched = [line.split() for line in (made / "launched").read_text().splitlines()]
    logs = {words[words.index("steps/tasks.py") - 1]: words for words in launched}
    assert set(logs) == {f"exp/x/log/{name}.JOB.log" for name in (
        "score", "backend", "score_trained", "score_calibration", "score_trained_calibration", "calibrate", "apply",
        "evaluate")}
    assert "JOB=1:2" in logs["exp/x/log/evaluate.JOB.log"] and "JOB=1:1" in logs["exp/x/log/backend.JOB.log"]
    assert "EER" in (made / "exp/x/log/evaluate.2.log").read_text()


def test_with_gpus_extraction_is_a_job_for_each(root, tmp_path, monkeypatch):
    place(root, tmp_path)
    show = "print(sys.argv[1:7], file=open('options', 'a'))"
    (tmp_path / "steps/extract.sh").write_text(EXTRACT.replace("import numpy as np", f"import numpy as np\n{show}"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")  # run.py believes it
    good(tmp_path, "--stop-stage", "4", "--ngpu", "4")
    assert set((tmp_path / "options").read_text().splitlines()) == {"['--cmd', 'run.py', '--nj', '4', '--gpu', '1']"}


def test_term_in_stage_4_ends_what_tasks_py_runs(root, tmp_path):
    place(root, tmp_path)
    (tmp_path / "steps/extract.sh").write_text(f"#!/usr/bin/env bash\n. {root}/utils/stages.sh\n"
                                               "run.py x.log touch began '&&' sleep 300; touch went_on\n")
    process = subprocess.Popen(["steps/verification.sh", "--conf", "a.yaml", "--set", "seed=1", "exp/x"], cwd=tmp_path,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "began").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM and not (tmp_path / "went_on").exists()
    assert "# Stopped at " in (tmp_path / "x.log").read_text()
    subprocess.run(["flock", "--nonblock", tmp_path / "exp/x/.lock", "true"], check=True)


def test_a_second_run_makes_nothing_and_reports_it(made):
    before = contents(made)
    said, asked = good(made)
    assert asked == "" and contents(made) == before and "wrote" not in said
    assert "stage 3: nothing to do, the trained model is up to date" in said
    assert "stage 5: nothing to do, all 2 score files are up to date" in said
    assert "stage 8: nothing to do, all 8 evaluations are up to date" in said
    for stage in range(3, 10):
        assert f"stage {stage}: nothing to do" in said


def test_folders_with_any_name(root, tmp_path):
    """Names that a shell or a launcher would change; with the real extraction."""
    place_with_extraction(root, tmp_path)
    data = "d JOB/$(touch X)&(it's);"
    (tmp_path / "d JOB").mkdir()
    (tmp_path / "data").rename(tmp_path / data)
    for table in (tmp_path / data).glob("*/*.*"):
        if table.is_file():
            table.write_text(table.read_text().replace(f"{tmp_path}/data", f"{tmp_path}/{data}"))
    exp = "exp/JOBX `touch X`"
    command = ["steps/verification.sh", "--conf", "a.yaml", "--protocols", "native", "--durations", "", "--nj", "2",
               "--train", f"{data}/train", "--dev", f"{data}/dev", "--eval", shlex.quote(f"{data}/test:trials"), exp]
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAWNEXT_COMMAND")}
    done = subprocess.run(command, cwd=tmp_path, env=forking(env), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / exp / "RESULTS.md").exists() and (tmp_path / exp / "report.html").exists()
    assert f"{data}/train" in (tmp_path / "words").read_text().replace('\\', "") and not list(tmp_path.rglob("X"))
    assert {path.name for path in (tmp_path / "exp").iterdir()} == {Path(exp).name}


def stale(folder: Path, monkeypatch, **options) -> set[str]:
    """Steps that a run in this folder would do something in."""
    monkeypatch.chdir(folder)
    identity.cache_clear()
    exp = Path("exp/x")
    experiment = Experiment(exp, read_plan(exp / "plan.tsv"), **{
        "conf": "a.yaml", "set": "seed=1", "train": "data/train", "dev": "data/dev", "cohort_utts": 10,
        "measures": "inverse_duration", **options})
    return {f"{step} {role}".removesuffix(" eval") for step in STEPS for role in ("eval", "calibration")
            if step != "fit" and pending(exp, STEPS[step][1](experiment, role))}


EITHER_ROLE = ("cohort", "train", "backend", "calibrate", "apply", "evaluate", "results", "report")


@pytest.mark.parametrize(("path", "found"), [
    ("exp/x/model.pt", {"train", "extract", "extract calibration"}),
    ("exp/x/embeddings/test_native_2s/embedding.1.ark", {"extract", "score", "score_trained"}),
    ("exp/x/embeddings/cohort_native/embedding.1.ark", {"extract", "backend", "score_trained",
                                                        "score_trained calibration"}),
    ("exp/x/backend/native/plda", {"backend", "score_trained", "score_trained calibration"}),
    ("exp/x/scores/plda/dev/trials_native", {"score_trained calibration", "calibrate"}),
    ("exp/x/scores/plda/test/trials_native", {"score_trained", "apply", "evaluate", "report"}),
    ("exp/x/scores/cosine/test/trials_native", {"score", "score_trained"}),
    ("exp/x/calibration/plda/native/model.json", {"calibrate", "apply"}),
    ("exp/x/scores/plda+cal/test/trials_native", {"apply", "evaluate", "report"}),
    ("exp/x/scores/plda/test/trials_native.json", {"evaluate", "results", "report"}),
    ("exp/x/results.tsv", {"results"}), ("exp/x/report.html", {"report"}),
    ("exp/x/config.yaml", {"train", "extract", "extract calibration", "evaluate", "results", "report"}),
    ("data/test/trials", {"score", "score_trained", "evaluate", "report"}),
    ("data/dev/trials", {"train", "score calibration", "score_trained calibration", "calibrate"}),
    ("data/test/utt2spk", {"score_trained", "evaluate", "report"}), ("data/test/utt2dur", {"apply", "evaluate"}),
    ("data/test/spk2gender", {"evaluate"}), ("data/test/utt2codec", {"evaluate"}),  # conditions: new and changed tables
    ("data/train/utt2spk", {"cohort"}), ("data/train/cuts.jsonl", {"train"}), ("a.yaml", {"train"}),
    ("data/test/wav.scp", {"extract", "report"}), ("data/dev/audio/s00-u0.wav", {"extract calibration"}),
    ("data/train/audio/s00-u0.wav", {"train", "extract"}), ("data/musan_noise/cuts.jsonl", {"train"}),
    ("data/test/audio/s00-u0.wav", {"extract", "report"}), ("data/test/segments", {"extract", "report"}),
    ("data/test/spk2utt", {"extract"}), ("exp/x/cohort/wav.scp", {"cohort", "extract"}),
    ("exp/x/cohort/utt2spk", {"cohort", "backend", "score_trained", "score_trained calibration"}),
    ("exp/x/embeddings/dev_native/embedding.1.ark", {"extract calibration", "score calibration",
                                                     "score_trained calibration"}),
    ("data/test/trials.enroll", {"score", "score_trained", "apply", "evaluate", "report"}),
    ("data/dev/trials.enroll", {"score calibration", "score_trained calibration", "calibrate"}),
    ("exp/x/scores/cosine/dev/trials_native", {"score calibration", "score_trained calibration"}),
    ("data/dev/utt2dur", {"calibrate"}), ("data/dev/utt2spk", {"score_trained calibration", "calibrate"}),
    ("exp/x/calibration/plda/native/thresholds.tsv", {"calibrate"}),
    ("exp/x/train_info.json", {"train", "evaluate"}), ("exp/x/train.tsv", {"train", "report"}),
    ("exp/x/RESULTS.md", {"results"}), ("exp/x/figures/det.png", {"report"}),
])
def test_what_a_change_makes_stale(made, monkeypatch, path, found):
    file = made / path
    content, status = (file.read_bytes(), file.stat()) if file.exists() else (None, None)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes((content or b"") + b"\n")
    try:
        steps = stale(made, monkeypatch)
    finally:
        if status:
            file.write_bytes(content)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            file.unlink()
    assert {step.split()[0] if step.startswith(EITHER_ROLE) else step for step in steps} == found
    assert stale(made, monkeypatch) == set()


def test_what_other_options_make_stale(made, monkeypatch):
    for option, found in (({"set": "seed=2"}, "train"), ({"init": "y"}, "train"), ({"teacher": "x.scp"}, "train"),
                          ({"train": "data/dev"}, "train cohort"), ({"cohort_utts": 1}, "cohort"),
                          ({"measures": ""}, "calibrate"), ({"adapt": "data/train"}, "extract backend"),
                          ({"adapt": "data/dev", "adaptation": "plda"}, "backend")):
        assert {step.split()[0] for step in stale(made, monkeypatch, **option)} == set(found.split())


@pytest.fixture
def folder(root, tmp_path) -> Path:
    """A folder where a small plan has been run up to stage 8."""
    place(root, tmp_path / "small")
    good(tmp_path / "small", *SMALL)
    return tmp_path / "small"


SMALL = ("--backends", "cosine", "--dev", "", "--durations", "2 1", "--stop-stage", "8")


def test_rows_that_were_deleted_are_left_out(folder):
    plan, scores = folder / "exp/x/plan.tsv", folder / "exp/x/scores/cosine/test"
    lines = plan.read_text().splitlines(keepends=True)
    plan.write_text("".join(line for line in lines if "_2s" not in line))
    shutil.rmtree(folder / "exp/x/embeddings/test_native_2s")
    for name in ("trials_native_2s", "trials_native_2s.json", "trials_native_1s"):
        (scores / name).unlink()
    said, asked = good(folder, *SMALL)
    assert "plan.tsv: edited, kept: 2 rows where the options give 3" in said and asked == ""
    assert {path.name for path in scores.glob("*s")} == {"trials_native_1s"}
    done, _ = verification(folder, *SMALL, "--protocols", "paper")
    assert done.returncode == 1 and "plan.tsv: was edited, and the options ask for another plan" in done.stderr
    plan.unlink()
    said, asked = good(folder, *SMALL)
    assert asked.split() == ["extract", "test_native_2s"] and (scores / "trials_native_2s").exists()


def test_a_retrained_model_gives_other_scores(folder):
    scores = folder / "exp/x/scores/cosine/test/trials_native"
    before, results = scores.read_text(), (folder / "exp/x/results.tsv").read_text()
    said, asked = good(folder, *SMALL, "--set", "seed=2")
    assert asked.split() == ["train"] and "model.pt was kept, but its options changed" in said
    said, asked = good(folder, *SMALL, "--set", "seed=2", "--stage", "3", "--again", "true")
    assert asked.split()[0] == "train" and asked.count("extract") == 3
    assert scores.read_text() != before and (folder / "exp/x/results.tsv").read_text() != results


def test_other_audio_after_training_began_is_refused(folder):
    os.utime(folder / "data/train/audio/s00-u0.wav", ns=(1, 1))
    done, asked = verification(folder, *SMALL, "--stop-stage", "3")
    line = "tasks.py: data/train: its audio has changed since the training of exp/x/model.pt began; --stage 3 --again "
    assert done.returncode == 1 and asked == "" and line in done.stderr
    (folder / "exp/x/made/model.pt").unlink()
    good(folder, *SMALL, "--stop-stage", "3")
    assert good(folder, *SMALL)[1] == ""


def test_checksum_notices_the_content_of_audio_and_no_new_time(root, tmp_path):
    folder = place_with_extraction(root, tmp_path / "checksum")
    scores = folder / "exp/x/scores/cosine/test/trials_native"
    options = (*SMALL[:4], "--durations", "", "--stop-stage", "5", "--checksum", "true")
    good(folder, *options)
    before, first, wave = scores.read_text(), contents(folder), folder / "data/test/audio/s00-u0.wav"
    os.utime(wave, ns=(1, 1))
    said, _ = good(folder, *options)
    assert contents(folder) == first and "stage 4: nothing to do" in said and "stage 5: nothing to do" in said
    samples = wave.read_bytes()
    wave.write_bytes(samples[:44] + samples[44:][::-1])   # other samples, of the same size and time
    os.utime(wave, ns=(1, 1))
    said, _ = good(folder, *options)
    assert "wrote exp/x/embeddings/test_native" in said
    for old, new in zip(before.splitlines(), scores.read_text().splitlines(), strict=True):
        assert (old != new) == ("s00-u0" in new)


@pytest.mark.parametrize(("stage", "made", "asked"), [
    ("3", "model.pt", "train"), ("4", "embeddings/test_native/embedding.1.ark", "extract extract extract"),
    ("5", "scores/cosine/test/trials_native", ""), ("8", "scores/cosine/test/trials_native.json", "")])
def test_a_stage_is_done_again_only_on_demand(folder, stage, made, asked):
    path = folder / "exp/x" / made
    before, content = path.stat(), path.read_bytes()
    good(folder, *SMALL, "--stage", stage)
    assert path.stat() == before
    said, did = good(folder, *SMALL, "--stage", stage, "--again", "true")
    assert path.stat().st_mtime_ns > before.st_mtime_ns
    assert " ".join(line.split()[0] for line in did.splitlines()) == asked
    assert made.endswith("json") or path.read_bytes() == content, "the same seeds and inputs"
    later = {"3": "stage 4", "4": "stage 5", "5": "stage 8", "8": None}[stage]
    assert not later or f"{later}: nothing to do" in said, "other stages are not done again"


def test_again_needs_the_stage(folder):
    done, asked = verification(folder, "--again", "true")
    assert done.returncode == 1 and asked == "" and "--again true: name the stage by --stage N" in done.stderr


def test_models_of_several_utterances_and_an_enroll_directory(root, tmp_path):
    folder = place(root, tmp_path / "models")
    test, enroll = folder / "data/test", folder / "data/dev"
    (test / "models").write_text("m s00-u0 target\nm s01-u0 nontarget\n")
    (test / "models.enroll").write_text("m s00-u0 s00-u1\n")
    good(folder, "--eval", "data/test:models:data/dev", "--backends", "cosine", "--dev", "", "--stop-stage", "5")
    row = read_plan(folder / "exp/x/plan.tsv")[-1]
    assert (row.enroll, row.test, row.test_seconds) == ("data/dev", "data/test", "2")
    assert len((folder / "exp/x/scores/cosine/test/models_native_2s").read_text().splitlines()) == 2
    assert sorted(path.name for path in (folder / "exp/x/embeddings").iterdir()) == [
        "dev_native", "test_native", "test_native_2s"]
    assert enroll.is_dir()


def test_seeds_train_that_often_and_report_mean_and_spread(root, tmp_path):
    folder = place(root, tmp_path / "seeds")
    said, asked = good(folder, "--seeds", "2", "--backends", "cosine", "--durations", "", "--calibrate", "")
    assert asked.split().count("train") == 2 and "wrote exp/x-seeds.md" in said
    eers = []
    for seed in (1, 2):
        (result,) = (folder / f"exp/x-seed{seed}/scores").glob("**/*.json")
        eers.append(json.loads(result.read_text())["eer"])
    table = (folder / "exp/x-seeds.md").read_text()
    mean = f"{statistics.mean(eers):.2f}, {statistics.stdev(eers):.2f}"
    assert f"| mean of 2, standard deviation |  |  | {mean} |" in table and eers[0] != eers[1]
    assert not (folder / "exp/x").exists()


@pytest.mark.parametrize("ngpu, device, processes", [(0, "cpu", 1), (2, "cuda", 2)])
def test_gpus_asked_for_are_asked_of_training(root, tmp_path, monkeypatch, ngpu, device, processes):
    folder = place(root, tmp_path / "place")
    (folder / "cuda_launcher").write_text(LAUNCHER.replace('exec run.py "$@"', 'shift 2; exec run.py --gpu 0 "$@"'))
    (folder / "cuda_launcher").chmod(0o755)
    monkeypatch.setenv("cuda_cmd", "./cuda_launcher")  # it is asked for GPUs, which this machine may not have
    done, asked = verification(folder, "--stop-stage", "3", "--ngpu", str(ngpu))
    assert done.returncode == 0 and asked == "train\n", done.stderr
    command = (folder / "exp/x/log/train.log").read_text()
    assert f"--gpu {ngpu} " in (folder / "launched").read_text()
    assert f"--device {device} " in command and f"--nproc-per-node {processes} " in command
