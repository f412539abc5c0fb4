# SPDX-License-Identifier: Apache-2.0
"""`rawnext verify`, `enroll` and `identify`: scores equal the Python interface's, decisions need a calibration."""

import contextlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus import voice
from tiny_model import calibrate, write_experiment

from rawnext import Extractor, read_audio
from rawnext.cli.main import main
from rawnext.errors import InputError
from rawnext.inference.extractor import RecordingWarning
from rawnext.kaldi.ark import read_matrix
from rawnext.scoring.decision import gallery_posteriors

FILES = {"a.wav": (0, 1.0, 16000), "b.flac": (1, 2.0, 16000), "c.wav": (2, 1.5, 8000), "short.wav": (3, 0.12, 16000)}
GALLERY = ["-g", "g.ark,g.scp"]


@pytest.fixture(scope="module")
def exps(tmp_path_factory):
    """Two experiments, the second with a calibration."""
    folder = tmp_path_factory.mktemp("exps")
    return write_experiment(folder / "plain", 1), calibrate(write_experiment(folder / "calibrated"))


@pytest.fixture(scope="module")
def extractor(exps):
    return Extractor.from_pretrained(exps[1], "cpu")


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch, exps):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAWNEXT_MODEL", str(exps[1]))
    for name, (speaker, seconds, rate) in FILES.items():
        soundfile.write(name, voice(speaker, 0, seconds * rate / 16000), rate, subtype="PCM_16")
    return tmp_path


def unit(extractor, name):
    x = extractor.embed(*read_audio(name))
    return x / np.linalg.norm(x)


def rows(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_verify_prints_score_llr_and_decision(extractor, capsys):
    main(["verify", "a.wav", "c.wav", "--json"])
    (row,) = rows(capsys)
    assert row["score"] == pytest.approx(unit(extractor, "a.wav") @ unit(extractor, "c.wav"), abs=2e-6)
    assert (row["enroll_seconds"], row["test_seconds"]) == (1.0, 1.5) and row["outside_calibration"] is False
    llr = 5 * row["score"] - 2 - (1 / 1.0 + 1 / 1.5) / 4
    assert row["llr"] == pytest.approx(llr, abs=1e-4) and row["same_speaker"] == (llr >= 0) and row["prior"] == 0.5
    for prior, same in ((1e-4, False), (1 - 1e-4, True)):
        main(["verify", "a.wav", "c.wav", "--prior", str(prior)])
        out = capsys.readouterr().out
        assert f"score     {row['score']:.4f}" in out and "durations 1.00 s and 1.50 s" in out
        assert ("decision  same speaker: the LLR is at least" if same else "decision  different speakers") in out
    main(["verify", "short.wav", "a.wav"])
    assert "a duration is outside the range of the calibration" in capsys.readouterr().out


def test_no_decision_without_a_calibration(exps, capsys):
    main(["verify", "-m", str(exps[0]), "a.wav", "b.flac"])
    out = capsys.readouterr().out
    assert "decision  none: no calibration: no such file" in out and "LLR" not in out
    main(["verify", "-m", str(exps[0]), "a.wav", "b.flac", "--json"])
    (row,) = rows(capsys)
    assert row["llr"] is None and row["same_speaker"] is None and row["threshold"] is None and -1 <= row["score"] <= 1


def test_identify_ranks_enrolled_speakers(extractor, capsys):
    main(["enroll", *GALLERY, "anna", "a.wav", "b.flac", "--json"])
    main(["enroll", *GALLERY, "bert", "b.flac", "--json"])
    main(["enroll", *GALLERY, "bert", "c.wav", "--json"])
    main(["enroll", *GALLERY, "--add", "bert", "b.flac", "--json"])
    assert [(row["done"], row["utts"], row["seconds"], row["speakers"]) for row in rows(capsys)] == [
        ("enrolled", 2, 3.0, 1), ("enrolled", 1, 2.0, 2), ("replaced", 1, 1.5, 2), ("added to", 2, 3.5, 2)]
    main(["identify", *GALLERY, "a.wav", "c.wav", "--json"])
    found = rows(capsys)
    assert [(row["audio"], row["rank"]) for row in found] == [("a.wav", 1), ("a.wav", 2), ("c.wav", 1), ("c.wav", 2)]
    models = {"anna": (("a.wav", "b.flac"), 3.0), "bert": (("c.wav", "b.flac"), 3.5)}
    for row in found:
        names, seconds = models[row["speaker"]]
        mean = sum(unit(extractor, name) for name in names)
        score = unit(extractor, row["audio"]) @ mean / np.linalg.norm(mean)
        assert row["score"] == pytest.approx(score, abs=1e-5)
        llr = 5 * score - 2 - (1 / seconds + 1 / FILES[row["audio"]][1]) / 4
        assert row["llr"] == pytest.approx(llr, abs=1e-3)
    assert found[0]["llr"] > found[1]["llr"] and found[2]["llr"] > found[3]["llr"]
    main(["identify", *GALLERY, "--top", "1", "a.wav"])
    assert capsys.readouterr().out.startswith(f"a.wav 1 {found[0]['speaker']} {found[0]['score']:.4f} ")


def test_invalid_requests_are_refused(exps, work, capsys):
    main(["enroll", *GALLERY, "anna", "a.wav"])
    for words, why in (
            (["enroll", *GALLERY, "an na", "a.wav"], "cannot be an id"),
            (["enroll", *GALLERY, "bert", "a.wav", "a.wav"], "a file is named twice"),
            (["enroll", *GALLERY, "--add", "bert", "a.wav"], "g.scp: bert is not enrolled"),
            (["enroll", *GALLERY, "bert", "no.wav"], "^no.wav: no such file"),
            (["enroll", *GALLERY, "bert", "."], "is a folder; name files"),
            (["enroll", *GALLERY, "-m", str(exps[0]), "bert", "a.wav"], "made with another model"),
            (["identify", *GALLERY, "--top", "0", "a.wav"], "--top: must be at least 1"),
            (["identify", "-g", "no.ark,no.scp", "a.wav"], "no.scp: no such file; rawnext enroll makes it"),
            (["verify", "a.wav", "b.flac", "--prior", "1.5"], "want 0 < prior < 1"),
            (["verify", "a.wav", "cat b.flac |"], "is a command, not a file")):
        with pytest.raises(InputError, match=why):
            main(words)


def test_concurrent_enrolment_is_refused(root, work):
    code = "from rawnext.training.lock import lock_folder\nwith lock_folder('.'): print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="is in use by process"):
            main(["enroll", *GALLERY, "anna", "a.wav"])
        other.communicate("\n")


def test_the_channel_is_chosen(extractor, capsys):
    soundfile.write("two.wav", np.stack([voice(5, 0, 1.0), voice(0, 0, 1.0)], 1), 16000)
    main(["verify", "a.wav", "two.wav", "--json"])
    main(["verify", "a.wav", "two.wav", "--json", "--channel", "0"])
    first, same = rows(capsys)
    assert first == same and first["score"] < 0.999
    soundfile.write("two.wav", np.stack([voice(0, 0, 1.0), voice(0, 0, 1.0)], 1), 16000)
    with pytest.raises(InputError, match="a.wav: has no channel 1"):
        main(["verify", "a.wav", "two.wav", "--channel", "1"])
    soundfile.write("b2.wav", np.stack([voice(5, 0, 1.0), voice(0, 0, 1.0)], 1), 16000)
    main(["verify", "two.wav", "b2.wav", "--json", "--channel", "1"])
    (row,) = rows(capsys)
    assert row["score"] > 0.999


def test_warnings_of_the_page_are_printed(capsys):
    soundfile.write("noise.wav", 0.1 * np.random.default_rng(0).standard_normal(32000), 16000)
    main(["verify", "noise.wav", "c.wav"])
    said = capsys.readouterr().err
    assert "rawnext: noise.wav: Noise, music or speech without pauses" in said
    assert "rawnext: c.wav: Short: 1.50 s" in said and "rawnext: c.wav: Narrow band" in said
    main(["enroll", "anna", *GALLERY, "noise.wav"])
    main(["identify", *GALLERY, "noise.wav"])
    assert capsys.readouterr().err.count("rawnext: noise.wav: Noise") == 2


def other_sounds():
    """Sounds that a model of speech takes for one speaker or for two, at random."""
    rng, time = np.random.default_rng(0), np.arange(48000) / 16000
    fade = np.minimum(1, time[3199::-1] / 0.01)
    notes = [np.sin(2 * np.pi * f * time[:3200]) * fade for f in rng.uniform(200, 800, 12)]
    clicks = 1e-5 * rng.standard_normal(48000)
    clicks[::4000] = 0.5
    hum = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 3, 5))
    return {"noise": 0.1 * rng.standard_normal(48000), "hum": 0.2 * hum, "clicks": clicks,
            "notes": 0.2 * np.concatenate([np.r_[note, np.zeros(800)] for note in notes])}


@pytest.mark.parametrize("name", other_sounds())
def test_no_answer_on_other_sounds_than_speech_without_a_warning(name, capsys):
    wave = other_sounds()[name].astype(np.float32)
    soundfile.write("x.wav", wave, 16000, subtype="FLOAT")
    soundfile.write("y.wav", np.roll(wave, 500), 16000, subtype="FLOAT")
    for command in (["verify", "x.wav", "y.wav"], ["enroll", *GALLERY, "x", "x.wav"], ["identify", *GALLERY, "y.wav"]):
        main(command)
        out, err = capsys.readouterr()
        files = [f"rawnext: {file}: " for file in command if file.endswith(".wav")]
        assert all(any(line.startswith(file) for line in err.splitlines()) for file in files)
        assert ("doubtful  " in out) == (command[0] == "verify")
        main([*command, "--json"])
        (row,) = rows(capsys)
        assert row["doubts"]
    extractor = Extractor.from_pretrained(os.environ["RAWNEXT_MODEL"], "cpu")
    with pytest.warns(RecordingWarning, match="^doubtful waveform: ") as caught:
        extractor.embed(wave)
    assert extractor.doubts(wave) and caught[0].filename == __file__
    with pytest.warns(RecordingWarning, match="^doubtful waveform 1: "):
        extractor.embed_batch([wave, wave])
    with pytest.warns(RecordingWarning) as caught:
        extractor.windows(wave)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Extractor(extractor.model, extractor.config, extractor.folder, warn=False).embed(wave)


@pytest.mark.parametrize("command", [["verify", "a.wav", "bad.wav"], ["enroll", *GALLERY, "x", "bad.wav"],
                                     ["identify", *GALLERY, "bad.wav"], ["embed", "bad.wav"],
                                     ["embed", "--window", "1", "bad.wav"]])
@pytest.mark.parametrize(("samples", "rate", "why"), [
    (np.full(48000, 1e20), 16000, "has samples up to 1000000"), (np.full(48000, -1e38), 16000, "has samples up to "),
    (voice(0, 0, 0.2)[:1600] + np.r_[np.nan, np.zeros(1599)], 16000, "contains NaN or infinity"),
    (voice(0, 0, 1)[:4409], 44100, "0.099977 s of audio; at least 0.1 s"),
    (voice(0, 0, 1)[:4799], 48000, "0.099979 s of audio; at least 0.1 s")])
def test_audio_that_no_model_can_take_is_one_line(command, samples, rate, why, capsys):
    soundfile.write("bad.wav", samples, rate, subtype="DOUBLE")
    main(["enroll", *GALLERY, "anna", "a.wav"])
    with pytest.raises(InputError, match=f"^bad.wav: .*{why}"):
        main(command)
    with pytest.raises(ValueError, match=why):
        Extractor.from_pretrained(os.environ["RAWNEXT_MODEL"], "cpu").embed(samples, rate)


@pytest.mark.parametrize("device", ["meta", "cuda:99", "nonsense", "vulkan", "mkldnn", "", "cpu:1:1", "fpga"])
def test_devices_without_values_are_one_line(device, exps):
    with pytest.raises(InputError, match=f"^{device}: no such device: "):
        main(["verify", "-m", str(exps[1]), "--device", device, "a.wav", "b.flac"])


def test_speakers_of_a_gallery_are_listed_and_removed(exps, work, capsys):
    main(["enroll", *GALLERY, "anna", "a.wav"])
    main(["enroll", *GALLERY, "bert", "b.flac"])
    capsys.readouterr()
    main(["gallery", "list", GALLERY[1]])
    assert capsys.readouterr().out == "anna 1 1.00\nbert 1 2.00\n"
    main(["gallery", "list", GALLERY[1], "--json"])
    main(["gallery", "info", GALLERY[1], "--json"])
    main(["gallery", "remove", GALLERY[1], "anna", "--json"])
    anna, _, about, removed = rows(capsys)
    assert anna == {"speaker": "anna", "utts": 1, "seconds": 1.0} and removed == {"removed": ["anna"], "speakers": 1}
    assert (about["speakers"], about["utts"], about["seconds"], about["dimensions"]) == (2, 2, 3.0, 8)
    main(["gallery", "info", GALLERY[1]])
    assert "speakers: 1\nutts: 1\n" in capsys.readouterr().out
    for words, why in ((["remove", GALLERY[1], "bert", "anna"], "g.scp: anna is not enrolled; nobody was removed"),
                       (["list", "no.ark,no.scp"], "no.scp: no such file"),
                       (["remove", "no/g.ark,no/g.scp", "bert"], "no/g.scp: no such file")):
        with pytest.raises(InputError, match=why):
            main(["gallery", *words])
    assert not (work / "no").exists()


def test_identify_answers_with_a_speaker_or_nobody(exps, capsys):
    main(["enroll", *GALLERY, "anna", "a.wav"])
    main(["enroll", *GALLERY, "bert", "b.flac"])
    capsys.readouterr()
    for prior, status in ((0.99, 0), (0.0001, 3)):
        with pytest.raises(SystemExit) if status else contextlib.nullcontext() as end:
            main(["identify", *GALLERY, "a.wav", "c.wav", "--json", "--exit-code", "--prior", str(prior)])
        assert not status or end.value.code == status
        found = rows(capsys)
        for file in ("a.wav", "c.wav"):
            mine = {row["speaker"]: row for row in found if row["audio"] == file}
            chances = gallery_posteriors([mine[name]["llr"] for name in ("anna", "bert")], prior)
            assert [mine["anna"]["probability"], mine["bert"]["probability"],
                    mine["bert"]["nobody"]] == pytest.approx(chances)
            likely = max(mine, key=lambda name: mine[name]["probability"])
            assert {row["answer"] for row in mine.values()} == {None if status else likely}
    main(["identify", *GALLERY, "a.wav", "--prior", "0.99", "--top", "1"])
    first, answer = capsys.readouterr().out.splitlines()
    assert first.startswith("a.wav 1 ") and answer.split() == ["a.wav", "answer", *first.split()[2::3]]
    main(["identify", *GALLERY, "a.wav", "--prior", "0.0001"])
    assert "\na.wav answer - 0.99" in capsys.readouterr().out
    main(["enroll", "-m", str(exps[0]), "-g", "p.ark,p.scp", "anna", "a.wav"])
    plain = ["identify", "-m", str(exps[0]), "-g", "p.ark,p.scp", "a.wav"]
    capsys.readouterr()
    main(plain)
    assert capsys.readouterr().out == "a.wav 1 anna 1.0000 - -\n"
    main([*plain, "--json"])
    (row,) = rows(capsys)
    assert "answer" not in row and row["probability"] is None
    for words, why in (([*plain, "--exit-code"], "--exit-code: there is no answer: no calibration"),
                       (["identify", *GALLERY, "--prior", "1", "a.wav"], "--prior: must be between 0 and 1")):
        with pytest.raises(InputError, match=why):
            main(words)


def test_a_table_equals_enrolling_one_after_another(exps, work, capsys):
    os.mkdir("data")
    Path("data/wav.scp").write_text("u1 a.wav\nu2 b.flac\nu3 c.wav\n")
    Path("data/utt2spk").write_text("u1 bert\nu2 anna\nu3 bert\n")
    Path("table").write_text("bert a.wav\nanna b.flac\nbert c.wav\n")
    main(["enroll", *GALLERY, "bert", "a.wav", "c.wav"])
    main(["enroll", *GALLERY, "anna", "b.flac"])
    expected = json.loads(Path("g.json").read_text()), read_matrix("g.scp")
    for table in ("data", "table"):
        main(["enroll", "-g", f"{table}.ark,{table}.scp", "--table", table])
        about, (names, means) = json.loads(Path(f"{table}.json").read_text()), read_matrix(f"{table}.scp")
        assert about["speakers"] == expected[0]["speakers"] and names == expected[1][0] == ["anna", "bert"]
        assert np.allclose(means, expected[1][1], atol=1e-6)
    capsys.readouterr()
    Path("more").write_text("bert b.flac\n")
    main(["enroll", *GALLERY, "--table", "more", "--add", "--json"])
    (row,) = rows(capsys)
    assert (row["speaker"], row["done"], row["utts"], row["seconds"], [*row["doubts"]]) == (
        "bert", "added to", 3, 4.5, ["b.flac"])
    before = Path("g.ark").read_bytes()
    Path("data/utt2spk").write_text("u1 bert\nu2 anna\n")
    for text, why in (("bert\n", "t:1: expected `speaker path`"), ("", "t: is empty"), ("b' a.wav\n", "be an id"),
                      ("x a.wav\ny a.wav\n", "t:2: a file is named twice: a.wav"), ("x no.wav\n", "no.wav: no such"),
                      ("x cat a.wav |\n", "t:1: 'cat a.wav |' is a command"), (None, "data/wav.scp:3: u3 is not in ")):
        Path("t").write_text(text or "")
        with pytest.raises(InputError) as error:
            main(["enroll", *GALLERY, "--table", "data" if text is None else "t"])
        assert why in str(error.value)
    with pytest.raises(InputError, match="wants either NAME and AUDIO or --table"):
        main(["enroll", *GALLERY, "--table", "t", "anna", "a.wav"])
    for words in (["anna"], []):
        with pytest.raises(SystemExit):
            main(["enroll", *GALLERY, *words])
    assert Path("g.ark").read_bytes() == before
