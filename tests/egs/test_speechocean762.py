# SPDX-License-Identifier: Apache-2.0
"""egs/speechocean762 from a download to systems side by side, on a corpus of seconds that lies as the real one does."""

import shutil
import subprocess
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from recipe import place_recipe
from tiny_speechocean762 import write_corpus

TINY = """
batch: {speakers: 2}
crop: {samples: 4000, short_from: 0}
train: {epochs: 1, log_every: 1}
"""
SYSTEMS = {"next_tdnn": "{name: next_tdnn, channels: 16, blocks: [1, 1, 1]}",
           "mel_lda": "{name: mel_stats, bands: 20, embedding_dim: 1}"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """URL of the corpus as OpenSLR has it."""
    folder = tmp_path_factory.mktemp("openslr")
    with tarfile.open(folder / "speechocean762.tar.gz", "w:gz") as tar:
        tar.add(write_corpus(folder / "speechocean762"), "speechocean762")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/speechocean762.tar.gz"
        server.shutdown()


@pytest.mark.skipif(not shutil.which("wget"), reason="wget is not installed")
def test_from_the_download_to_the_comparison(root, archive, tmp_path):
    env = place_recipe(root, "speechocean762", tmp_path)
    (tmp_path / "run_all.sh").symlink_to(root / "egs/speechocean762/run_all.sh")
    (tmp_path / "conf").unlink()
    (tmp_path / "conf/small").mkdir(parents=True)
    for name, model in SYSTEMS.items():
        (tmp_path / f"conf/small/{name}.yaml").write_text(f"model: {model}\n{TINY}")

    def run(*words):
        return subprocess.run(list(map(str, words)), cwd=tmp_path, env=env, capture_output=True, text=True,
                              timeout=400)

    done = run("./run.sh", "--stop-stage", 2, "--url", archive, "--dev-speakers", 2)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert sorted(path.name for path in (tmp_path / "data/speechocean762").iterdir()) == ["WAVE", "test", "train"]
    assert not list((tmp_path / "data").glob("*.part")) and not (tmp_path / "data/.unpacking").exists()
    assert (tmp_path / "data/test_noisy/trials").read_text() == (tmp_path / "data/test/trials").read_text()

    done = run("./run_all.sh", "--stage", 3, "--systems", "next_tdnn", "--baselines", "mel_lda",
               "--durations", "")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    text = (tmp_path / "exp/COMPARISON.md").read_text()
    for heading in ("### test, trials (native", "### test, hard (native", "### test_noisy, trials (native"):
        table = text[text.index(heading):].split("\n\n")[1].splitlines()
        assert [line.split(" | ")[0] for line in table[2:]] == ["| mel_lda", "| next_tdnn"]
        assert all(cell.strip() for line in table for cell in line.strip("|").split("|"))
    noisy = (tmp_path / "exp/next_tdnn/scores/cosine/test_noisy/trials_native").read_text()
    clean = (tmp_path / "exp/next_tdnn/scores/cosine/test/trials_native").read_text()
    assert noisy != clean and [line.split()[:2] for line in noisy.splitlines()] == [
        line.split()[:2] for line in clean.splitlines()]
    assert not (tmp_path / "exp/next_tdnn/embeddings/test_noisy_native/embedding.scp").samefile(
        tmp_path / "exp/next_tdnn/embeddings/test_native/embedding.scp")
