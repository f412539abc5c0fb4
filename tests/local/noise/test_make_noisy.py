# SPDX-License-Identifier: Apache-2.0
"""A test set in noise."""

import os
import subprocess
import sys

import numpy as np
import soundfile
from corpus import RATE
from programs import forking
from tiny_speechocean762 import write_corpus

from rawnext.data.wav import load_wave, read_sources


def run(root, program, *args):
    return subprocess.run([sys.executable, root / "local" / program, *map(str, args)], capture_output=True, text=True,
                          env=forking({**os.environ, "PYTHONPATH": str(root)}))


def test_noisy_copies(root, tmp_path):
    corpus, data = write_corpus(tmp_path / "corpus"), tmp_path / "data"
    assert run(root, "open/prepare_open.py", "--no-prefix", "--dev-speakers", 1, "--train", f"train={corpus}/train",
               "--test", f"test={corpus}/test", data).returncode == 0
    rng = np.random.default_rng(0)
    for path, wave in (("musan/{}/x/a.wav", 0.1 * rng.normal(size=RATE)),
                       ("rirs/simulated_rirs/smallroom/Room001/r.wav", np.r_[np.zeros(40), 0.5, np.zeros(99), 0.25])):
        for kind in ("noise", "music", "speech") if "{}" in path else ("",):
            place = tmp_path / path.format(kind)
            place.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(place, wave, RATE)
    banks = "--musan", tmp_path / "musan", "--rirs", tmp_path / "rirs"
    assert run(root, "noise/prepare_banks.py", *banks, data).returncode == 0
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
