# SPDX-License-Identifier: Apache-2.0
"""Voice activity: Kaldi's rule frame by frame, silero on real speech, parts of a recording, and stretches of speech."""

import math
import sys

import numpy as np
import pytest
import soundfile
from corpus import voice

from rawnext.data.vad import (
    Energy,
    detect,
    fit,
    frame_log_energies,
    log_energies,
    read_decisions,
    regions,
    select,
    silero,
    silero_probabilities,
    speech_frames,
)
from rawnext.errors import InputError
from rawnext.kaldi.ark import write_vectors

PACK = "egs/mini/pack/speechocean762/audio/0036/000360013.ogg"


@pytest.fixture(scope="module")
def speech(root):
    """Real speech with 1.5 s of near silence on each side."""
    wave, rate = soundfile.read(root / PACK, dtype="float32")
    assert rate == 16000
    noise = np.random.default_rng(0).normal(0, 1e-4, len(wave) + 48000).astype(np.float32)
    return noise + np.pad(wave, 24000)


def by_kaldi(log_energy, options):
    """ComputeVadEnergy of Kaldi's ivector/voice-activity-detection.cc, loop by loop."""
    threshold = options.energy_threshold
    if options.energy_mean_scale != 0:
        threshold += options.energy_mean_scale * sum(log_energy) / len(log_energy)
    found = []
    for t in range(len(log_energy)):
        num = den = 0
        for t2 in range(t - options.frames_context, t + options.frames_context + 1):
            if 0 <= t2 < len(log_energy):
                den += 1
                num += log_energy[t2] > threshold
        found.append(num >= den * options.proportion_threshold)
    return found


@pytest.mark.parametrize("options", [Energy(), Energy(5.5, 0.5, 2, 0.12), Energy(9, 0.0, 5, 0.6)])
def test_energy_is_kaldis_rule(options):
    values = np.random.default_rng(0).normal(15, 5, 400)
    assert options.decide(values).tolist() == by_kaldi(values.tolist(), options)
    assert len(options.decide(np.zeros(0))) == 0


def test_log_energy_is_that_of_mirrored_frames_without_their_mean(speech):
    wave = speech[: 16000 + 37]
    found = log_energies([wave])
    assert len(found) == math.ceil(len(wave) / 160)
    for f in (0, 1, 50, len(found) - 1):
        at = np.arange(160 * f - 120, 160 * f + 280)
        at = np.where(at < 0, -at - 1, at)  # FirstSampleOfFrame and ExtractWindow of Kaldi's feature-window.cc
        at = np.where(at >= len(wave), 2 * len(wave) - 1 - at, at)
        frame = 32768 * wave[at].astype(np.float64)
        frame -= frame.mean()
        assert found[f] == pytest.approx(math.log(sum(frame**2) + 400), abs=1e-6)
    assert frame_log_energies(np.zeros(400, np.float32))[0] == pytest.approx(math.log(400))


@pytest.mark.parametrize("kind", ["energy", "silero"])
def test_decisions_do_not_depend_on_the_parts_of_a_recording(speech, kind):
    whole = speech_frames(speech, kind)
    for size in (999, 16001):
        parts = [speech[start : start + size] for start in range(0, len(speech), size)]
        assert np.array_equal(detect(parts, kind), whole)


@pytest.mark.parametrize("kind", ["energy", "silero"])
def test_real_speech_is_found_between_pauses(speech, kind):
    found = speech_frames(speech, kind)
    assert len(found) == math.ceil(len(speech) / 160)
    assert not found[:140].any() and not found[-140:].any() and found[150:-150].mean() > 0.5
    assert len(select(speech, found)) == pytest.approx(160 * found.sum(), abs=160)


@pytest.mark.parametrize("kind", ["energy", "silero"])
@pytest.mark.parametrize("num", [0, 1, 100, 121, 400, 512, 1600])
def test_any_length_has_its_frames(kind, num):
    assert len(speech_frames(np.zeros(num, np.float32), kind)) == math.ceil(num / 160)


def test_probabilities_are_those_of_the_package(speech):
    parts = [speech[start : start + 700] for start in range(0, len(speech), 700)]
    found, num_samples = silero_probabilities(parts)
    assert np.allclose(found, silero().audio_forward(speech), atol=1e-6) and num_samples == len(speech)


def test_a_missing_package_is_one_line(monkeypatch):
    silero.cache_clear()
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(InputError, match=r"^silero-vad: is not installed: pip install 'rawnext\[vad\]'$"):
        speech_frames(np.zeros(1600, np.float32), "silero")


def test_regions_join_short_pauses_and_drop_short_speech():
    frames = np.zeros(300, bool)
    for first, last in ((10, 50), (70, 100), (140, 145), (200, 300)):
        frames[first:last] = True
    assert regions(frames, 0.3, 0.1).tolist() == [[0.1, 1.0], [2.0, 3.0]]
    assert regions(frames, 0.0, 0.0).tolist() == [[0.1, 0.5], [0.7, 1.0], [1.4, 1.45], [2.0, 3.0]]
    assert regions(frames, 9, 0.1).tolist() == [[0.1, 3.0]]
    assert regions(np.zeros(9, bool)).shape == regions(np.zeros(0, bool)).shape == (0, 2)


def test_decisions_of_kaldi_fit_within_three_frames(tmp_path):
    frames = np.array([0, 1, 1] * 33, bool)  # 99
    assert fit(frames, 16000).tolist() == [*frames, True]
    assert fit(frames, 15600).tolist() == frames[:98].tolist()
    assert fit(frames, 17000) is None and fit(frames[:0], 100) is None
    long = np.ones(70_000)  # more than an embedding may have
    write_vectors(tmp_path / "a.ark", tmp_path / "a.scp", [("a", frames), ("b", long), ("c", [2.0])], one_dim=False)
    found = read_decisions(tmp_path / "a.scp", ["a", "b"])
    assert np.array_equal(found["a"], frames) and found["b"].all() and len(found["b"]) == len(long)
    with pytest.raises(InputError, match=r"a.scp:3: c: is not a vector of 0 and 1"):
        read_decisions(tmp_path / "a.scp", ["c"])
    with pytest.raises(InputError, match=r"has no decisions about d; steps/vad.sh"):
        read_decisions(tmp_path / "a.scp", ["d"])


@pytest.mark.parametrize("options", [Energy(energy_mean_scale=-1), Energy(frames_context=-1),
                                     Energy(proportion_threshold=1.0), Energy(float("nan"))])
def test_options_that_kaldi_refuses(options):
    with pytest.raises(InputError, match="--vad options: want a mean scale"):
        options.check()


def test_a_whole_recording_of_speech_stays(tmp_path):
    wave = voice(0, 0, 2.0)
    assert speech_frames(wave, "energy", Energy(energy_threshold=-20)).all()
