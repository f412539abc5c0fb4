# SPDX-License-Identifier: Apache-2.0
"""`rawnext diarize`, and steps/diarize.py with steps/der.py: RTTM, JSON, names of a gallery, and bad input."""

import importlib.util
import json
import runpy
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from page_commands import example
from programs import forking

from rawnext.cli.main import main
from rawnext.config import PRETRAINED
from rawnext.errors import InputError, run_main
from rawnext.kaldi.rttm import read_rttm, write_rttm
from rawnext.scoring.decision import MODEL_PATH


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    """data/meetings of meeting.wav, in which two real speakers take six turns, with ref.rttm; anna.wav is the first."""
    folder = tmp_path_factory.mktemp("meeting")
    mix = runpy.run_path(str(root / "bench/mix_conversations.py"))
    voices = {spk: [mix["trimmed"](soundfile.read(path, dtype="float32")[0]) for path in sorted(
        (root / "egs/mini/pack/speechocean762/audio" / number).glob("*.ogg"))]
        for spk, number in (("anna", "0036"), ("bert", "0575"))}
    soundfile.write(folder / "anna.wav", np.concatenate(voices["anna"][3:]), 16000)
    wave, turns = mix["conversation"]("meeting", {spk: own[:3] for spk, own in voices.items()}, 6, 0,
                                      np.random.default_rng(0))
    soundfile.write(folder / "meeting.wav", wave, 16000)
    data = folder / "data/meetings"
    data.mkdir(parents=True)
    (data / "wav.scp").write_text(f"meeting {folder}/meeting.wav\n")
    (data / "reco2num_spk").write_text("meeting 2\n")
    write_rttm(data / "ref.rttm", turns)
    return folder


@pytest.fixture(autouse=True)
def work(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.setenv("RAWNEXT_MODEL", str(PRETRAINED))
    return tmp_path


def step(root, name, *words):
    """Run a program of steps/ in this process; returns its exit status."""
    spec = importlib.util.spec_from_file_location(name, root / f"steps/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", [name, *map(str, words)])
        run_main(module.main)
    return end.value.code


def test_the_calibration_decides_how_many_speakers_there_are(work, capsys):
    def speakers(*words):
        main(["diarize", "-m", "model", *words, "meeting.wav"])
        return capsys.readouterr().out

    shutil.copytree(PRETRAINED, "model")
    path = work / "model" / MODEL_PATH
    about = json.loads(path.read_text())
    for offset, num in ((-1000, 10), (1000, 1)):
        path.write_text(json.dumps(about | {"offset": offset}))
        assert len({line.split()[7] for line in speakers().splitlines()}) == num
    path.write_text(json.dumps(about | {"fingerprint": "0" * 64}))
    with pytest.raises(InputError, match="belongs to model"):
        speakers()
    path.unlink()
    assert speakers() == speakers("--threshold", "0.3") != speakers("--threshold", "0.9")


def test_the_commands_of_the_page(root, capsys):
    main(example(root, "docs/howto/diarization.md", "rawnext diarize meeting.wav")[1:])
    file = read_rttm("meeting.rttm")["meeting"]
    main(["diarize", "meeting.wav"])
    assert read_rttm_text(capsys.readouterr().out) == [turn.line() for turn in file]
    main(example(root, "docs/howto/diarization.md", "rawnext diarize --num-speakers")[1:])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["speaker"] for row in rows} == {"speaker1", "speaker2"} and rows[0].keys() == {
        "recording", "start", "end", "speaker"}
    main(example(root, "docs/howto/diarization.md", "rawnext enroll")[1:])
    main([*example(root, "docs/howto/diarization.md", "rawnext diarize --gallery")[1:], "--num-speakers", "2"])
    out = capsys.readouterr().out
    assert " anna " in out and " speaker2 " in out


def read_rttm_text(text):
    return [line for line in text.splitlines() if line.startswith("SPEAKER ")]


def test_steps_and_the_error_rate(root, capsys):
    assert step(root, "diarize", "--reco2num-spk", "data/meetings/reco2num_spk", "--json", "data/meetings", PRETRAINED,
                "out") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["recording"], row["speakers"]) == ("meeting", 2)
    assert step(root, "der", "--collar", "0.25", "--json", "data/meetings/ref.rttm", "out/rttm.1") == 0
    one, total = map(json.loads, capsys.readouterr().out.splitlines())
    assert one["der"] == total["der"] < 30 and total["recording"] == "TOTAL"
    assert one["der"] == pytest.approx(one["missed"] + one["false_alarm"] + one["confusion"], abs=1e-3)
    assert step(root, "diarize", "--vad", "rttm", "--num-speakers", "2", "data/meetings", PRETRAINED, "out") == 0
    assert step(root, "der", "--json", "data/meetings/ref.rttm", "out/rttm.1") == 0
    by_turns = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert by_turns["missed"] < 0.5 and by_turns["false_alarm"] < 0.5  # the speech is that of the reference


def test_a_gallery_names_the_speakers_of_a_data_directory(root, capsys):
    main(["enroll", "-g", "gallery.ark,gallery.scp", "anna", "anna.wav"])
    main(["diarize", "-g", "gallery.ark,gallery.scp", "--num-speakers", "2", "meeting.wav", "-o", "command.rttm"])
    options = ["--num-speakers", "2", "--gallery"]
    assert step(root, "diarize", *options, "gallery.ark,gallery.scp", "data/meetings", PRETRAINED, "out") == 0
    turns = read_rttm("out/rttm.1")["meeting"]
    assert {turn.speaker for turn in turns} == {"anna", "speaker2"} and turns == read_rttm("command.rttm")["meeting"]
    # Nobody is accepted when a name is most improbable.
    assert step(root, "diarize", *options, "gallery.ark,gallery.scp", "--prior", "1e-9", "data/meetings", PRETRAINED,
                "out") == 0
    assert {turn.speaker for turn in read_rttm("out/rttm.1")["meeting"]} == {"speaker1", "speaker2"}
    capsys.readouterr()
    assert step(root, "diarize", *options, "no.ark,no.scp", "data/meetings", PRETRAINED, "out") == 1
    assert "no.scp: no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_the_recipe_of_the_page(root, work):
    words = example(root, "docs/howto/diarization.md", "steps/diarize.sh")
    gallery = f"{work}/gallery.ark,{work}/gallery.scp"
    main(["enroll", "-g", gallery, "anna", "anna.wav"])
    data, out = f"{work}/data/meetings", f"{work}/out"
    der = example(root, "docs/howto/diarization.md", "steps/der.py")
    for command in ([words[0], "--nj", "1", "--reco2num-spk", f"{data}/reco2num_spk", "--gallery", gallery,
                     "--prior", "0.3", data, PRETRAINED, out],
                    [*der[:-2], f"{data}/ref.rttm", f"{out}/rttm"]):
        done = subprocess.run(command, cwd=root, env=forking(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("TOTAL ")
    assert {turn.speaker for turn in read_rttm(f"{out}/rttm")["meeting"]} == {"anna", "speaker2"}


@pytest.mark.parametrize(("words", "why"), [
    (["no.wav"], "no.wav: no such file"), (["meeting.wav", "--shift", "9"], "--window and --shift: want"),
    (["meeting.wav", "--num-speakers", "-1"], "--num-speakers, --max-speakers"), (["data"], "data: is a folder"),
    (["meeting.wav", "--gallery", "g.ark,g.scp"], "g.scp: no such file; rawnext enroll"),
    (["silence.wav"], "silence.wav: no speech was found")])
def test_bad_input_is_one_line(work, words, why):
    soundfile.write("silence.wav", np.random.default_rng(0).normal(0, 3e-5, 16000), 16000, "FLOAT")
    with pytest.raises(InputError, match=why):
        main(["diarize", *words, "-o", "x.rttm"])
    assert not (work / "x.rttm").exists()


def test_steps_refuse_bad_tables(root, work, capsys):
    (work / "numbers").write_text("other 2\n")
    assert step(root, "diarize", "--reco2num-spk", "numbers", "data/meetings", PRETRAINED, "out") == 1
    assert "numbers: has no number of speakers of meeting" in capsys.readouterr().err
    (work / "hyp").write_text("SPEAKER x 1 0 1 <NA> <NA> s <NA> <NA>\n")
    assert step(root, "der", "data/meetings/ref.rttm", "hyp") == 1
    assert "hyp: x is not in data/meetings/ref.rttm" in capsys.readouterr().err
