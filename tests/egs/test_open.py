# SPDX-License-Identifier: Apache-2.0
"""egs/open from a download to scores, on corpora of seconds."""

import shutil
import subprocess
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from page_commands import example
from programs import forking
from recipe import place_recipe
from tiny_librispeech import write_librispeech
from tiny_speechocean762 import write_corpus
from tiny_voxceleb import write_corpora

from rawnext.kaldi.ark import write_vectors
from rawnext.stamp import sha256

pytestmark = pytest.mark.slow

TINY = """
model: {name: rawnext, channels: [8, 8, 16, 16, 16, 16], cardinality: 8, embedding_dim: 8, blocks: [1, 1, 1, 1],
  dla: false, quiet_init: true, level: 0.05}
batch: {speakers: 3, repeat: true, min_utts_per_speaker: 2, max_utts_per_speaker: 2, speeds: [0.875]}
crop: {samples: 4375, short_from: 0}
augment: [{ops: [noise, microphone, telephone]}]
train: {epochs: 2, log_every: 1, average: 1}
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A folder with the two corpora as OpenSLR has them."""
    folder = tmp_path_factory.mktemp("openslr")
    for name, top, inside in (("train-clean-100", write_librispeech(folder / "LibriSpeech", num_utts=1), "LibriSpeech"),
                              ("speechocean762", write_corpus(folder / "so"), "speechocean762")):
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as tar:
            tar.add(top, inside)
    return folder


@pytest.fixture(scope="module")
def urls(archives):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=archives)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        yield f"{address}/train-clean-100.tar.gz {address}/speechocean762.tar.gz"
        server.shutdown()


@pytest.mark.skipif(not shutil.which("wget"), reason="wget is not installed")
def test_from_the_download_to_scores(root, archives, urls, tmp_path):
    env = forking(place_recipe(root, "open", tmp_path))
    banks = write_corpora(tmp_path / "vox")
    (tmp_path / "tiny.yaml").write_text(TINY)
    options = ["--urls", urls, "--conf", "tiny.yaml", "--dev-share", "0.5", "--musan", banks / "musan", "--rirs",
               banks / "rirs", "--durations", "0.3", "--nj", "2", "--backends", "cosine", "--num-threads", "1"]

    def run(words, *more, code=0):
        done = subprocess.run(list(map(str, [*words, *options, *more])), cwd=tmp_path, env=env, capture_output=True,
                              text=True, timeout=400)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stderr

    (tmp_path / "local").unlink()
    (tmp_path / "local").mkdir()
    for path in (root / "local").iterdir():
        (tmp_path / "local" / path.name).symlink_to(path)
    (tmp_path / "local/downloads.sha256").unlink()
    (tmp_path / "local/downloads.sha256").write_text(f"{'0' * 64}  {urls.split()[0]}\n")
    assert "its SHA-256 differs" in run(example(root, "egs/open/README.md", "./run.sh"), code=1)
    assert not list((tmp_path / "data/corpora").iterdir())
    right = sha256(archives / "train-clean-100.tar.gz")
    (tmp_path / "local/downloads.sha256").write_text(f"{right}  {urls.split()[0]}\n")
    run(example(root, "egs/open/README.md", "./run.sh"))
    table = (tmp_path / "exp/rawnext/RESULTS.md").read_text()
    assert "speechocean762_test" in table and "0.3 s" in table
    assert not list((tmp_path / "data/corpora").glob("*.part"))
    assert "model.pt has the average of weights: mean of the last epochs (1)" in (
        tmp_path / "exp/rawnext/log/train.log").read_text()

    (tmp_path / "exp/teacher").mkdir()
    speakers = [line.split()[0] for line in (tmp_path / "data/train/spk2utt").read_text().splitlines()]
    rng = np.random.default_rng(0)
    write_vectors(tmp_path / "exp/teacher/embedding.ark", tmp_path / "exp/teacher/embedding.scp",
                  [(f"{copy}{spk}", rng.normal(size=5).astype("f")) for copy in ("", "sp0.875-") for spk in speakers])
    run(example(root, "egs/open/README.md", "./run.sh --stage 3"), "--stop-stage", "3")
    assert "exp/teacher/embedding.scp" in (tmp_path / "exp/taught/log/train.log").read_text()

    unpacked = tmp_path / "data/corpora/speechocean762/speechocean762"
    corpora = ("--corpora", f"mine={unpacked}/train", "--test-corpora", f"theirs={unpacked}/test")
    run(example(root, "egs/open/README.md", "./run.sh --corpora"), *corpora, "--data", "own", "--stop-stage", "1")
    assert (tmp_path / "own/theirs/trials").exists() and (tmp_path / "own/train/utt2corpus").exists()
