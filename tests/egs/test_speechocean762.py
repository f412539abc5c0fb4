# SPDX-License-Identifier: Apache-2.0
"""egs/speechocean762 from a download to a comparison of systems, on a tiny corpus with the layout of the real one."""

import shutil
import subprocess
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from page_commands import example
from programs import forking
from recipe import place_recipe
from tiny_speechocean762 import write_corpus
from tiny_voxceleb import write_corpora

pytestmark = pytest.mark.slow

TINY = """
batch: {speakers: 2}
crop: {samples: 4000, short_from: 0}
train: {epochs: 1, log_every: 1}
"""
SYSTEMS = {"ecapa_tdnn": "{name: ecapa_tdnn, channels: 16, embedding_dim: 8}",
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
    env = forking(place_recipe(root, "speechocean762", tmp_path))
    (tmp_path / "run_all.sh").symlink_to(root / "egs/speechocean762/run_all.sh")
    (tmp_path / "conf").unlink()
    (tmp_path / "conf/small").mkdir(parents=True)
    for name, model in SYSTEMS.items():
        (tmp_path / f"conf/small/{name}.yaml").write_text(f"model: {model}\n{TINY}")

    def run(*words):
        return subprocess.run(list(map(str, words)), cwd=tmp_path, env=env, capture_output=True, text=True,
                              timeout=400)

    page = example(root, "egs/speechocean762/README.md", "./run.sh")
    done = run(*page, "--stop-stage", 2, "--url", archive, "--dev-speakers", 2)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert sorted(path.name for path in (tmp_path / "data/speechocean762").iterdir()) == ["WAVE", "test", "train"]
    assert not list((tmp_path / "data").glob("*.part")) and not (tmp_path / "data/.unpacked").exists()
    assert (tmp_path / "data/test_noisy/trials").read_text() == (tmp_path / "data/test/trials").read_text()

    page = example(root, "egs/speechocean762/README.md", "./run.sh --stage 3")
    done = run(*page, "--stop-stage", 3)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    before = (tmp_path / "exp/ecapa_tdnn/model.pt").stat()
    page = example(root, "egs/speechocean762/README.md", "./run_all.sh")
    done = run(*page, "--stage", 3, "--systems", "ecapa_tdnn", "--baselines", "mel_lda", "--durations", "")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    text = (tmp_path / "exp/COMPARISON.md").read_text()
    for heading in ("### test, trials (native", "### test, hard (native", "### test_noisy, trials (native"):
        table = text[text.index(heading):].split("\n\n")[1].splitlines()
        assert [line.split(" | ")[0] for line in table[2:]] == ["| mel_lda", "| ecapa_tdnn"]
        assert all(cell.strip() for line in table for cell in line.strip("|").split("|"))
    noisy = (tmp_path / "exp/ecapa_tdnn/scores/cosine/test_noisy/trials_native").read_text()
    clean = (tmp_path / "exp/ecapa_tdnn/scores/cosine/test/trials_native").read_text()
    assert noisy != clean and [line.split()[:2] for line in noisy.splitlines()] == [
        line.split()[:2] for line in clean.splitlines()]
    assert not (tmp_path / "exp/ecapa_tdnn/embeddings/test_noisy_native/embedding.scp").samefile(
        tmp_path / "exp/ecapa_tdnn/embeddings/test_native/embedding.scp")
    assert (tmp_path / "exp/ecapa_tdnn/model.pt").stat() == before, "trained once"


def test_a_corpus_and_banks_that_lie_elsewhere(root, tmp_path):
    env = forking(place_recipe(root, "speechocean762", tmp_path))
    corpora = write_corpora(tmp_path / "corpora")
    write_corpus(corpora / "speechocean762")
    for name in ("musan/noise/some/noise-some-0000", "rirs/simulated_rirs/smallroom/Room001/Room001-00001"):
        shutil.copy(corpora / f"{name}.wav", corpora / f"{name}-b.wav")  # half of a bank is for the noisy test set
    places = {"/corpora/speechocean762": "speechocean762", "/corpora/musan": "musan", "/corpora/RIRS_NOISES": "rirs"}
    words = [str(corpora / places[word]) if word in places else word
             for word in example(root, "egs/speechocean762/README.md", "./run.sh --corpus")]
    done = subprocess.run([*words, "--stop-stage", "2", "--dev-speakers", "2", "--nj", "1"], cwd=tmp_path, env=env,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert str(corpora) in (tmp_path / "data/musan_noise/wav.scp").read_text()
    assert str(corpora) in (tmp_path / "data/noisy_banks/musan_noise/wav.scp").read_text()
    assert not (tmp_path / "data/synthetic").exists()
