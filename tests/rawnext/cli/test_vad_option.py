# SPDX-License-Identifier: Apache-2.0
"""--vad of rawnext: the speech alone is embedded, its seconds count, and galleries with and without it do not mix."""

import json

import numpy as np
import pytest
import soundfile
from page_commands import example
from tiny_model import calibrate, write_experiment

from rawnext import Extractor
from rawnext.cli.main import main
from rawnext.data.vad import select, speech_frames
from rawnext.errors import InputError


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return calibrate(write_experiment(tmp_path_factory.mktemp("exp")))


@pytest.fixture(autouse=True)
def work(root, tmp_path, monkeypatch, exp):
    """A folder with real speech between pauses, a.wav and b.wav, and a.wav's speech alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAWNEXT_MODEL", str(exp))
    rng = np.random.default_rng(0)
    for name, file in (("a", "0036/000360013"), ("b", "0036/000360034")):
        wave, rate = soundfile.read(root / f"egs/mini/pack/speechocean762/audio/{file}.ogg", dtype="float32")
        wave = np.pad(wave, rate) + rng.normal(0, 1e-4, len(wave) + 2 * rate).astype(np.float32)
        soundfile.write(f"{name}.wav", wave, rate, "FLOAT")
        soundfile.write(f"{name}_speech.wav", select(wave, speech_frames(wave, "energy")), rate, "FLOAT")
    return tmp_path


def output(capsys, *words):
    main(list(words))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_embed_and_verify_use_the_speech_alone(capsys):
    one, = output(capsys, "embed", "--vad", "energy", "a.wav", "--json")
    speech, = output(capsys, "embed", "a_speech.wav", "--json")
    assert np.allclose(one["embedding"], speech["embedding"], atol=1e-4 * np.abs(speech["embedding"]).max())
    found, = output(capsys, "verify", "--vad", "energy", "a.wav", "b.wav", "--json")
    want, = output(capsys, "verify", "a_speech.wav", "b_speech.wav", "--json")
    for key in ("score", "llr", "enroll_seconds", "test_seconds"):
        assert found[key] == pytest.approx(want[key], abs=1e-3), key
    assert "The calibration was fitted without --vad and is used with --vad energy." in found["doubts"]
    assert not any("--vad" in doubt for doubt in want["doubts"])
    silero, = output(capsys, "verify", "--vad", "silero", "a.wav", "b.wav", "--json")
    assert 0 < silero["test_seconds"] < soundfile.info("b.wav").duration - 1.5


def test_the_commands_of_the_page(root, capsys):
    verify = example(root, "docs/howto/voice_activity.md", "rawnext verify")
    enroll = example(root, "docs/howto/voice_activity.md", "rawnext enroll")
    identify = example(root, "docs/howto/voice_activity.md", "rawnext identify")
    for words in (verify, enroll, identify):
        main(words[1:])
    assert "b.wav 1 anna" in capsys.readouterr().out


def test_galleries_with_and_without_it_do_not_mix(capsys):
    gallery = ["-g", "g.ark,g.scp"]
    main(["enroll", *gallery, "--vad", "energy", "anna", "a.wav"])
    capsys.readouterr()
    row, = output(capsys, "identify", *gallery, "--vad", "energy", "b.wav", "--json")
    assert row["speaker"] == "anna"
    with pytest.raises(InputError, match=r"was made with model \w+ with voice activity detection \(energy\); enroll "
                                         r"again with this one, \w+ without"):
        main(["identify", *gallery, "b.wav"])


def test_too_little_speech_is_one_line_that_names_the_file(work):
    silence = np.random.default_rng(0).normal(0, 1e-5, 16000)
    soundfile.write("s.wav", silence, 16000, "FLOAT")
    for kind in ("energy", "silero"):
        with pytest.raises(InputError, match=rf"^s.wav: 0.00 s of speech in 1.00 s of audio, .* \({kind}\); at least"):
            main(["verify", "--vad", kind, "a.wav", "s.wav"])
    with pytest.raises(InputError, match="--vad: is for whole recordings"):
        main(["embed", "--vad", "energy", "--window", "1", "a.wav"])


def test_little_speech_is_a_doubt(work, capsys):
    wave, rate = soundfile.read("a_speech.wav")
    soundfile.write("short.wav", np.pad(wave[: rate // 2], rate) + 1e-4, rate, "FLOAT")
    row, = output(capsys, "verify", "--vad", "energy", "a.wav", "short.wav", "--json")
    assert any(doubt.startswith("short.wav: Little speech: 0.") for doubt in row["doubts"]), row["doubts"]


def test_python_has_the_same(exp):
    wave, rate = soundfile.read("a.wav", dtype="float32")
    plain, by_energy = (Extractor.from_pretrained(exp, "cpu", warn=False, vad=kind) for kind in ("", "energy"))
    speech = by_energy.speech(wave, rate)
    assert len(speech) < len(wave) - rate and np.array_equal(by_energy.embed(wave, rate), plain.embed(speech))
    assert by_energy.fingerprint == f"{plain.fingerprint} vad=energy"
    with pytest.raises(ValueError, match="vad: energy or silero, got 'x'"):
        Extractor(plain.model, plain.config, exp, vad="x")
