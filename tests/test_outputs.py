# SPDX-License-Identifier: Apache-2.0
"""Outputs that are FIFOs or links: written through or refused in one line, never replaced.

The tests use FIFOs in place of devices, which they could damage.
"""

import ast
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from corpus import write_corpus
from programs import forking
from tiny_model import calibrate, inform, write_experiment

from rawnext.files import write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import write_scores

ROOT = Path(__file__).resolve().parents[1]
RAWNEXT = str(Path(sys.prefix) / "bin/rawnext")
SIDES = ["--enroll", "x.scp", "--test", "x.scp"]
CALIBRATION = ["--backend", "cosine", "--protocol", "native"]
DEV = ["--dev-scores", "scores", "--dev-trials", "trials"]

# command line; its output OUT; whether that may be a FIFO
PROGRAMS = {
    "score": (["steps/score.py", *SIDES, "trials", "OUT"], "s", True),
    "normalize": (["steps/normalize.py", *SIDES, "--cohort", "x.scp", "scores", "OUT"], "s", True),
    "apply": (["steps/calibrate.py", "apply", *CALIBRATION, "--model", "exp/calibration/cosine/native/model.json",
               "--enroll-data", "data", "--test-data", "data", "scores:full:full", "OUT"], "s", True),
    "submission": (["steps/submission.py", *DEV, "--pairs", "pairs", "scores", "OUT"], "s.csv", True),
    "compare": (["steps/compare.py", "--out", "OUT", "exp"], "c.md", True),
    "plot": (["steps/compare.py", "--plot", "OUT", "exp"], "c.png", False),
    "convert_trials": (["local/convert_trials.py", "data", "trials", "OUT"], "t", True),
    "make_trials": (["utils/make_trials.py", "data", "OUT"], "t", True),
    "subset": (["utils/subset_data_dir.py", "--speakers", "2", "data", "new"], "new/wav.scp", True),
    "combine": (["utils/combine_data.py", "new", "data"], "new/utt2spk", True),
    "extract_ark": (["steps/extract.py", "data", "exp", "new"], "new/embedding.1.ark", False),
    "extract_scp": (["steps/extract.py", "data", "exp", "new"], "new/embedding.1.scp", False),
    "extract_sources": (["steps/extract.py", "data", "exp", "new"], "new/embedding.1.sources", False),
    "quality": (["steps/quality.py", "emb"], "emb/utt2norm", True),
    "embed": ([RAWNEXT, "embed", "-m", "exp", "-o", "OUT,e.scp", "data/audio/s00-u0.wav"], "e.ark", False),
    "embed_scp": ([RAWNEXT, "embed", "-m", "exp", "-o", "e.ark,OUT", "data/audio/s00-u0.wav"], "e.scp", False),
    "enroll": ([RAWNEXT, "enroll", "-m", "exp", "-g", "OUT,g.scp", "s0", "data/audio/s00-u0.wav"], "g.ark", False),
    "safetensors": ([RAWNEXT, "export", "exp", "--safetensors", "new"], "new/config.yaml", False),
    "make_shar": (["steps/make_shar.py", "data", "new"], "new/shar/cuts.000000.jsonl.gz", False),
    "back_end": (["steps/train_backend.py", "--lda-dim", "2", "x.scp", "data/utt2spk", "new"], "new/plda", False),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Embeddings x.scp and emb/, audio data/, a trial list with scores, and an experiment exp/."""
    rng, tmp_path = np.random.default_rng(0), tmp_path_factory.mktemp("inputs")
    write_corpus(tmp_path / "data", num_speakers=3, num_utts=5, seconds=0.2)
    utts = [f"s{s:02d}-u{n}" for s in range(3) for n in range(5)]
    vectors = [(utt, [int(utt[2]), int(utt[2]) ** 2, 1, *rng.normal(size=3)]) for utt in utts]
    write_vectors(tmp_path / "x.ark", tmp_path / "x.scp", vectors)
    write_vectors(tmp_path / "emb/embedding.1.ark", tmp_path / "emb/embedding.scp", vectors)
    write_lines(tmp_path / "data/utt2dur", (f"{utt} 0.2" for utt in utts))
    pairs = [(e, t) for e in utts for t in utts if e < t]
    write_lines(tmp_path / "trials", (f"{e} {t} {'target' if e[:3] == t[:3] else 'nontarget'}" for e, t in pairs))
    write_scores(tmp_path / "scores", *zip(*pairs), rng.normal(size=len(pairs)))
    write_lines(tmp_path / "pairs", (f"{e} {t} {i}" for i, (e, t) in enumerate(pairs)))
    inform(calibrate(write_experiment(tmp_path / "exp")))
    return tmp_path


@pytest.fixture
def folder(inputs, tmp_path):
    return shutil.copytree(inputs, tmp_path / "copy")


def run(folder, words, out):
    command = [sys.executable, ROOT / words[0], *(word.replace("OUT", out) for word in words[1:])]
    return subprocess.run(command, cwd=folder, env=forking(), text=True, capture_output=True, timeout=100)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "out", "through"), PROGRAMS.values(), ids=PROGRAMS)
def test_fifos_are_written_through_or_refused(folder, words, out, through):
    fifo = folder / out
    fifo.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    done = run(folder, words, out)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    if through:
        assert done.returncode == 0, done.stderr
        found = os.read(reader, 1 << 16)
        fifo.unlink()
        assert run(folder, words, out).returncode == 0 and found == fifo.read_bytes() != b""
    else:
        assert done.returncode == 1 and "Traceback" not in done.stderr
        last = done.stderr.splitlines()[-1]
        assert out in last and ("not a file" in last or "give another output folder" in last)
    os.close(reader)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "out", "through"), PROGRAMS.values(), ids=PROGRAMS)
def test_links_stay_and_their_targets_are_written(folder, words, out, through):
    """A Shar directory with links is refused."""
    link, target = folder / out, folder / "far/target"
    for path in (link, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("old")
    link.symlink_to(target)
    done = run(folder, words, out)
    assert link.is_symlink() and link.readlink() == target
    if done.returncode:
        assert target.read_text() == "old" and "give another output folder" in done.stderr.splitlines()[-1]
    else:
        assert target.read_bytes() not in (b"old", b"")


@pytest.mark.slow
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("far")])
def test_extract_sh_refuses_them(folder, make):
    for link in ("path.sh", "utils", "steps"):
        (folder / link).symlink_to(ROOT / link)
    (folder / "new").mkdir()
    make(folder / "new/embedding.scp")
    done = subprocess.run(["steps/extract.sh", "data", "exp", "new"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith(
        "new/embedding.scp cannot be written: it is not a file but a link, FIFO or device\n"), done.stderr
    assert [path.name for path in (folder / "new").iterdir()] == ["embedding.scp"]


# --- every write in the source goes through atomic_path, write_lines or write_vectors, except these

# file -> its calls, and why they replace no FIFO, device or link
ALLOWED = {
    "rawnext/files.py": ["shutil.move"],  # checked before; to the target of a link
    "rawnext/download.py": ["open", "os.rename"],  # in a new folder, and that folder to a name that does not exist
    "rawnext/kaldi/ark.py": ["open"],  # the temporary name
    "rawnext/kaldi/journal.py": ["shutil.move", "open", "os.replace", "open"],  # refuses them; see the tests above
    "rawnext/data/cuts.py": ["np.savez"],  # the open temporary file
    "rawnext/data/pipes.py": ["open", "open"],  # files in memory
    "rawnext/data/shar.py": ["tarfile.open", "gzip.open", "os.replace", "soundfile.write"],  # refuses them
    "rawnext/training/augment.py": ["soundfile.write"],  # in memory
    "rawnext/training/lock.py": ["open"],  # to append: replaces nothing
    "rawnext/training/scalars.py": ["SummaryWriter"],  # new names
    "rawnext/training/trainer.py": ["os.replace"],  # an old model is renamed to NAME.old
    "local/noise/prepare_banks.py": ["shutil.copytree"],  # writes through links and refuses FIFOs
    "utils/fix_data_dir.py": ["shutil.copy2"],  # the same, into .backup
    "utils/job_files.py": ["path.write_text", "open"],  # a job's script and lock, whose names no user chooses
    "utils/jobs.py": ["open", "open"],  # logs, which may be devices
    "utils/run.py": ["open"],  # the same
}
CALLS = {"os.replace", "os.rename", "os.link", "os.symlink", "shutil.copy", "shutil.copy2", "shutil.copyfile",
         "shutil.copytree", "shutil.move", "soundfile.write", "torch.save", "np.save", "np.savez", "onnx.save",
         "save_file", "SummaryWriter"}
METHODS = {"write_text", "write_bytes", "savefig", "rename", "symlink_to", "hardlink_to", "touch"}
SAFE = {"temporary", "buffer"}  # names from atomic_path, and files in memory


def writes(source: str) -> list[str]:
    """Calls that open files to write, make or rename files, except those of SAFE names."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call):
            name = ast.unparse(call.func)
            owner, _, method = name.rpartition(".")
            modes = [part.value for part in (*call.args, *(word.value for word in call.keywords if word.arg == "mode"))
                     if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            opens = method == "open" and any(re.fullmatch("(?=.*[wax+])[rwaxbtgz+:]+", mode) for mode in modes)
            names = {owner, *map(ast.unparse, call.args[:2])}
            if (opens or name in CALLS or method in METHODS) and not names & SAFE:
                found.append(name)
    return found


def test_every_write_is_one_that_spares_links_and_fifos():
    paths = [path for top in ("rawnext", "steps", "local", "utils") for path in sorted((ROOT / top).rglob("*.py"))]
    found = {path.relative_to(ROOT).as_posix(): writes(path.read_text(encoding="utf-8")) for path in paths}
    assert {name: calls for name, calls in found.items() if calls} == ALLOWED


@pytest.mark.parametrize("source", ["open(p, 'w')", "open(p, mode='ab')", "path.open('x')", "gzip.open(p, 'wt')",
                                    "path.write_text('')", "os.replace(a, b)", "tarfile.open(p, 'w:gz')"])
def test_writes_are_found(source):
    assert writes(source)
