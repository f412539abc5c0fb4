# SPDX-License-Identifier: Apache-2.0
import json
import random
from collections import Counter

import numpy as np
import pytest
from corpus import write_corpus

from rawnext.config import load_config
from rawnext.data.augment import OPERATIONS, augment, mix, needed_banks, reverberate
from rawnext.data.cuts import CutTable


def test_equals_released_code(shared):
    z = np.load(shared / "parity" / "pipeline.npz")
    wave = z["aug/audio"]
    noises, snrs = z["aug/noise_files"][:, : len(wave)], z["aug/snr_db"]
    assert np.abs(mix(wave, noises[:1], snrs[:1]) - z["aug/noise_mix"]).max() < 1e-5
    assert np.abs(mix(wave, noises[1:], snrs[1:]) - z["aug/babble_mix"]).max() < 1e-5
    reference = z["aug/reverb"]
    assert np.abs(reverberate(wave, z["aug/rir"]) - reference).max() < 1e-5 * np.abs(reference).max()


@pytest.mark.parametrize("snr", [0, 7.5, 20])
def test_snr_is_what_was_asked(snr):
    rng = np.random.default_rng(0)
    wave, noise = rng.standard_normal(16000).astype(np.float32), 3 * rng.standard_normal(16000).astype(np.float32)
    added = mix(wave, [noise], [snr]) - wave
    assert 10 * np.log10(np.mean(wave**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.01)


def test_reverberation_by_direct_convolution():
    rng = np.random.default_rng(1)
    wave, response = rng.standard_normal(500).astype(np.float32), rng.standard_normal(90)
    expected = np.convolve(wave, response / np.linalg.norm(response))[:500]
    assert np.abs(reverberate(wave, response) - expected).max() < 1e-5


def test_chances_are_the_released_codes(root):
    cases = load_config([root / "conf" / "augment.yaml"]).augment
    rng = random.Random(1)
    drawn = Counter(tuple(rng.choices(cases, [c["weight"] for c in cases])[0]["ops"]) for _ in range(24_000))
    expected = {(): 4, ("music",): 4, ("babble",): 4, ("noise",): 4, ("reverb",): 5, ("reverb", "music"): 1,
                ("reverb", "babble"): 1, ("reverb", "noise"): 1}
    assert {ops: round(num / 1000) for ops, num in drawn.items()} == expected
    assert needed_banks(cases) == {"musan_noise", "musan_music", "musan_speech", "rirs"}


def test_every_operation_runs_and_repeats_itself(tmp_path):
    bank = CutTable(write_corpus(tmp_path / "bank", 3, 2, 0.4))
    banks = dict.fromkeys(("musan_noise", "musan_music", "musan_speech", "rirs"), bank)
    wave = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    for name in OPERATIONS:
        case = [{"ops": [name], "weight": 1}]
        one, again, other = (augment(wave, case, random.Random(seed), banks) for seed in (1, 1, 3))
        assert one.shape == wave.shape and one.dtype == np.float32 and np.isfinite(one).all()
        assert (one == again).all() and (one != other).any(), json.dumps(case)
    assert augment(wave, [], random.Random(1), {}) is wave
