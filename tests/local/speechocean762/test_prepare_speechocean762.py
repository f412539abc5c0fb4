# SPDX-License-Identifier: Apache-2.0
"""Data directories of speechocean762 as the corpus lies on a disk, and a test set in noise."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from corpus import RATE
from programs import forking
from tiny_speechocean762 import SPEAKERS, write_corpus

from rawnext.data.wav import load_wave, read_sources


def run(root, program, *args):
    return subprocess.run([sys.executable, root / "local" / program, *map(str, args)], capture_output=True, text=True,
                          env=forking({**os.environ, "PYTHONPATH": str(root)}))


def test_sets_and_held_out_speakers(root, tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    done = run(root, "speechocean762/prepare_speechocean762.py", "--dev-speakers", 2, corpus, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    spk = {name: {line.split()[1] for line in (tmp_path / "data" / name / "utt2spk").read_text().splitlines()}
           for name in ("train", "dev", "test")}
    assert len(spk["train"]) == len(spk["dev"]) == 2 and spk["train"] | spk["dev"] == set(SPEAKERS["train"])
    assert spk["test"] == set(SPEAKERS["test"])
    assert "0003-000030000 0003\n" in (tmp_path / "data/test/utt2spk").read_text()
    assert (tmp_path / "data/test/spk2gender").read_text() == "0003 m\n0024 f\n0092 m\n"


@pytest.mark.parametrize(("file", "text", "why"), [
    ("train/utt2spk", "000010000 0001\n", "000010001 is not in utt2spk"),
    ("train/wav.scp", "000010000\n", "wav.scp:1: expected 2 columns"),
    ("test/wav.scp", None, "https://www.openslr.org/101/"),
    ("WAVE/SPEAKER0001/000010000.WAV", "", "bad_audio.tsv")])
def test_a_damaged_corpus_is_told_in_a_line(root, tmp_path, file, text, why):
    corpus = write_corpus(tmp_path / "corpus", 0.2, 2)
    if text is None:
        (corpus / file).unlink()
    else:
        (corpus / file).write_text(text)
    done = run(root, "speechocean762/prepare_speechocean762.py", "--dev-speakers", 1, corpus, tmp_path / "data")
    assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr


def test_noisy_copies(root, tmp_path):
    corpus, data = write_corpus(tmp_path / "corpus"), tmp_path / "data"
    assert run(root, "speechocean762/prepare_speechocean762.py", "--dev-speakers", 1, corpus, data).returncode == 0
    rng = np.random.default_rng(0)
    for path, wave in (("musan/{}/x/a.wav", 0.1 * rng.normal(size=RATE)),
                       ("rirs/simulated_rirs/smallroom/Room001/r.wav", np.r_[np.zeros(40), 0.5, np.zeros(99), 0.25])):
        for kind in ("noise", "music", "speech") if "{}" in path else ("",):
            place = tmp_path / path.format(kind)
            place.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(place, wave, RATE)
    assert run(root, "noise/prepare_musan.py", tmp_path / "musan", data).returncode == 0
    assert run(root, "noise/prepare_rirs.py", tmp_path / "rirs", data).returncode == 0
    for name in ("noisy", "again"):
        done = run(root, "noise/make_noisy.py", data / "test", data, data / name)
        assert done.returncode == 0, done.stderr
    for table in ("utt2spk", "spk2gender", "utt2dur"):
        assert (data / "noisy" / table).read_text() == (data / "test" / table).read_text()
    for clean, noisy, again in zip(*(read_sources(data / name) for name in ("test", "noisy", "again"))):
        x, y, z = map(load_wave, (clean, noisy, again))
        assert len(x) == len(y) and np.array_equal(y, z), "a function of the seed and the utt"
        echo = np.sqrt(0.8) * np.r_[np.zeros(40), x][: len(x)] + np.sqrt(0.2) * np.r_[np.zeros(140), x][: len(x)]
        snr = 10 * np.log10((np.mean(echo ** 2) + 1e-4) / (np.mean((y - echo) ** 2) + 1e-4))
        assert -0.5 < snr < 15.5
