# SPDX-License-Identifier: Apache-2.0
"""steps/extract.sh and others take an exported model in place of an experiment."""

import json
import os
import shutil
import subprocess

from corpus import write_corpus
from programs import forking
from tiny_model import write_experiment

from rawnext.export.release import export_safetensors
from rawnext.identity import origin_of_embeddings
from rawnext.kaldi.ark import read_vectors


def run(root, *words):
    return subprocess.run([*map(str, words)], cwd=root, env=forking(), capture_output=True, text=True)


def test_an_exported_model_gives_the_embeddings_of_its_experiment(root, tmp_path):
    data = write_corpus(tmp_path / "data", 2, 2)
    write_experiment(tmp_path / "exp")
    export_safetensors(tmp_path / "exp", tmp_path / "release", "apache-2.0")
    before = sorted((tmp_path / "release").rglob("*"))
    scps = []
    for name in ("exp", "release"):
        out = tmp_path / f"of_{name}"
        for _ in range(2):
            done = run(root, "steps/extract.sh", "--nj", 1, data, tmp_path / name, out)
            assert done.returncode == 0, done.stderr
        scps.append(out / "embedding.scp")
    vectors = [dict(read_vectors(scp)) for scp in scps]
    assert vectors[0].keys() == vectors[1].keys() and len(vectors[0]) == 4
    assert all((vector == vectors[1][utt]).all() for utt, vector in vectors[0].items())
    assert origin_of_embeddings(scps[0]) == origin_of_embeddings(scps[1]) != ""
    assert sorted((tmp_path / "release").rglob("*")) == before, "the folder of the model is not written to"
    log = (tmp_path / "of_release/log/extract.of_release.1.log").read_text()
    assert "4 embeddings in" in log and "4 of them from an earlier run" in log
    assert (tmp_path / "exp/log/extract.of_exp.1.log").exists()
    done = run(root, "steps/score.py", "--enroll", scps[1], "--test", scps[1], "--backend", "siamese", "--model",
               tmp_path / "release", data / "trials", tmp_path / "scores")
    assert done.returncode == 1 and "model.safetensors: has no siamese head" in done.stderr
    for words in (["steps/score.py", "--enroll", scps[1], "--test", scps[1], data / "trials", tmp_path / "scores"],
                  ["steps/evaluate.py", "--exp", tmp_path / "release", "--list", "trials", "--data-set", "data",
                   "--protocol", "native", tmp_path / "scores", data / "trials"]):
        done = run(root, *words)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["fingerprint"] == origin_of_embeddings(scps[1])


def test_a_folder_without_a_model_is_refused(root, tmp_path):
    data = write_corpus(tmp_path / "data", 1, 1)
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/config.yaml").write_text("")
    for words in (["steps/extract.sh", data, tmp_path / "exp", tmp_path / "out"],
                  ["steps/duration_grid.sh", data, data / "trials", tmp_path / "exp"]):
        done = run(root, *words)
        assert done.returncode == 1 and done.stderr == f"{words[0]}: no such file {tmp_path}/exp/model.pt or " \
            "model.safetensors\n"


def test_other_audio_of_the_same_size_and_time_is_noticed_with_checksum(root, tmp_path):
    data = write_corpus(tmp_path / "data", 2, 2)
    write_experiment(tmp_path / "exp")
    path, other = data / "audio/s01-u0.wav", data / "audio/s00-u0.wav"
    for kept in ("0", "4", "0"):
        if kept == "0" and (tmp_path / "out").exists():
            status = path.stat()
            shutil.copyfile(other, path)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            assert path.stat().st_size == status.st_size
        done = run(root, "steps/extract.sh", "--nj", 1, "--checksum", "true", data, tmp_path / "exp", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        log = (tmp_path / "exp/log/extract.out.1.log").read_text()
        assert f"4 embeddings in {tmp_path}/out/embedding.1.ark, {kept} of them from an earlier run" in log
    vectors = dict(read_vectors(tmp_path / "out/embedding.scp"))
    assert (vectors["s00-u0"] == vectors["s01-u0"]).all()
