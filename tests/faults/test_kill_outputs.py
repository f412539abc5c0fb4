# SPDX-License-Identifier: Apache-2.0
"""Programs that write several files, killed (SIGKILL) before each file that they open, rename, make or delete.

After the kill, the old outputs or the new ones are read, and the same command completes.
"""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from corpus import voice, write_corpus
from programs import forking
from tiny_model import calibrate, inform, write_experiment

from rawnext.config import load_config
from rawnext.files import newest, write_lines
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import write_scores
from rawnext.models import MODELS
from rawnext.scoring.calibration_files import read_model
from rawnext.scoring.embeddings import backend_transform
from rawnext.scoring.kaldi_models import read_plda
from rawnext.training import checkpoint

pytestmark = pytest.mark.slow


def run(folder: Path, command: list, limit: int | None = None, env: dict[str, str] | None = None) -> int:
    """Run a program in a folder, killed before its change number `limit`; below `out` there. Returns: exit code."""
    environment = forking(env) | ({} if limit is None else {"RAWNEXT_TEST_KILL": f"{limit}:{folder / 'out'}"})
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def killed_at_each_change(tmp_path, old, new, command, reads, least, once=False):
    """old, new: functions that write the inputs to a folder.   reads: read what programs read together; None: no model.

    once: the program refuses to replace its output.   least: fewest changes that are expected.
    """
    def read(out):
        return [part(out) for part in reads]

    (begun := tmp_path / "begun").mkdir()
    if not once:
        old(begun)
        assert run(begun, command) == 0
    new(begun)
    whole, states = shutil.copytree(begun, tmp_path / "whole"), set()
    before = read(whole / "out")
    assert run(whole, command) == 0
    after = read(whole / "out")
    assert before != after
    for limit in range(100):
        folder = shutil.copytree(begun, tmp_path / str(limit))
        code = run(folder, command, limit)
        state = read(folder / "out")
        assert all(part is None or part in both for part, *both in zip(state, before, after)), f"before change {limit}"
        states.add(state == after)
        if not (once and state == after):
            assert run(folder, command) == 0
        assert read(folder / "out") == after and not list(folder.rglob(".new"))
        shutil.rmtree(folder)
        if code == 0:
            break
    assert code == 0 and limit >= least and True in states and False in states


def test_calibration(root, tmp_path):
    utts = [f"s{n % 4}-{n}" for n in range(24)]
    pairs = [(e, t) for e in utts for t in utts if e < t]
    is_target = np.array([e[:2] == t[:2] for e, t in pairs])

    def inputs(seed):
        def write(folder):
            write_lines(folder / "dev/utt2dur", (f"{utt} 3" for utt in utts))
            write_lines(folder / "dev/trials", (f"{e} {t} {'target' if y else 'nontarget'}" for (e, t), y in
                                                zip(pairs, is_target)))
            scores = 0.5 * is_target + 0.4 * np.random.default_rng(seed).normal(size=len(pairs))
            write_scores(folder / "scores", *zip(*pairs), scores.round(6))
        return write

    def read(out):
        calibration, *_ = read_model(out / "model.json")
        return calibration.offset, *(newest(out / f"thresholds.{end}").read_text() for end in ("tsv", "md"))

    killed_at_each_change(tmp_path, inputs(0), inputs(1), [
        root / "steps/calibrate.py", "fit", "--backend", "cosine", "--protocol", "native", "--data", "dev",
        "--measures", "", "--trials", "dev/trials", "--out", "out", "scores:full:full"], [read], 10)


def test_back_end(root, tmp_path):
    def inputs(seed):
        def write(folder):
            rng, spk = np.random.default_rng(seed), np.random.default_rng(0).normal(size=(6, 4))
            write_vectors(folder / "x.ark", folder / "x.scp", [
                (f"s{s}-{n}", spk[s] + rng.normal(size=4)) for s in range(6) for n in range(5)])
            write_lines(folder / "utt2spk", (f"s{s}-{n} s{s}" for s in range(6) for n in range(5)))
        return write

    def read(out):
        return tuple(array.tobytes() for array in (*backend_transform(out, lda=True), *read_plda(out / "plda")))

    killed_at_each_change(tmp_path, inputs(0), inputs(1), [
        root / "steps/train_backend.py", "--lda-dim", "3", "x.scp", "utt2spk", "out"], [read], 10)


def test_results(root, tmp_path):
    """Each file is old or new: no program reads them."""
    def inputs(eer):
        def write(folder):
            if not (folder / "out").exists():
                inform(write_experiment(folder / "out"))
            for path in (folder / "out/scores/cosine/vox1").glob("*.json"):
                path.write_text(json.dumps(json.loads(path.read_text()) | {"eer": eer}))
        return write

    reads = [lambda out, name=name: (out / name).read_text() for name in ("results.tsv", "RESULTS.md")]
    killed_at_each_change(tmp_path, inputs(2.5), inputs(3.5), [root / "steps/results.py", "out"], reads, 4)


def test_export(tmp_path):
    """safetensors: a folder without weights is no model, and the same command completes it."""
    program = Path(sys.prefix) / "bin/rawnext"

    def inputs(folder):
        inform(calibrate(write_experiment(folder / "exp")))

    def read(out):
        if not (out / "model.safetensors").exists():
            return None
        names = ("README.md", "config.yaml", "train_info.json", "calibration/cosine/native/model.json")
        weights = checkpoint.load_state(out)["model"]
        return {name: weight.tolist() for name, weight in weights.items()}, [(out / name).read_text() for name in names]

    killed_at_each_change(tmp_path, inputs, inputs, [program, "export", "exp", "--safetensors", "out"], [read], 8,
                          once=True)


def read_experiment(out):
    if not (out / "model.pt").exists():
        return None
    info = json.loads((out / "train_info.json").read_text())
    weights = checkpoint.load_state(out)["model"]
    assert info["fingerprint"] == checkpoint.fingerprint(load_config([out / "config.yaml"]), weights), "of one model"
    return info["fingerprint"]


def test_fit_lda(root, tmp_path):
    """An experiment is that of the old data, of the new, or has no model."""
    def inputs(speaker):
        def write(folder):
            write_corpus(folder / "data", 3, 3, 0.3, voice=lambda s, u, seconds: voice(s + speaker, u, seconds))
            write_lines(folder / "c.yaml", [f"model: {{name: mel_stats, bands: 4, embedding_dim: {2 - speaker % 2}}}"])
        return write

    killed_at_each_change(tmp_path, inputs(0), inputs(1), [
        root / "steps/fit_lda.py", "--device", "cpu", "--config", "c.yaml", "--train", "data", "out"],
        [read_experiment], 4)


def test_import_official(root, tmp_path):
    """It refuses to replace a model: after a kill there is a whole one, or none."""
    state = MODELS.build("next_tdnn", {"channels": 8, "blocks": [2], "kernels": [5], "light": True, "embedding_dim": 6}
                         ).state_dict()

    def inputs(folder):
        checkpoint.save(folder / "official.pt", state)

    killed_at_each_change(tmp_path, inputs, inputs, [root / "steps/import_official.py", "official.pt", "out"],
                          [read_experiment], 4, once=True)


def test_a_model_made_from_another(root, tmp_path):
    """As import_official; center_model.py and round_weights.py write the same files in the same order."""
    def inputs(folder):
        write_experiment(folder / "exp", model={"name": "ecapa_tdnn", "channels": 8, "fused": 6, "embedding_dim": 4,
                                                "scale": 4, "bottleneck": 4, "attention": 4})

    killed_at_each_change(tmp_path, inputs, inputs, [
        root / "steps/widen_ecapa.py", "--channels", "12", "--fused", "9", "--embedding-dim", "5", "exp", "out"],
        [read_experiment], 4, once=True)
