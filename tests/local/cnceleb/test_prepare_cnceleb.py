# SPDX-License-Identifier: Apache-2.0
"""CN-Celeb's archive as data directories: what is in which, and everything that can be wrong with it."""

import subprocess
import sys

import pytest
from tiny_evaluations import prepare, speak, write_cnceleb


def column(path, number=0):
    return [line.split(" ")[number] for line in path.read_text().splitlines()]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def valid(root, data, *enroll):
    """validate_data_dir.py and lint_trials.py have nothing to report."""
    words = [word for folder in enroll for word in ("--enroll", folder)]
    done = subprocess.run([sys.executable, root / "utils/validate_data_dir.py", *words, data], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    for path in sorted(data.glob("trials*")):
        if path.suffix != ".enroll":
            sides = [word for folder in (data, *enroll) for word in ("--test", folder)]
            done = subprocess.run([sys.executable, root / "utils/lint_trials.py", *sides, path], text=True,
                                  capture_output=True)
            assert (done.returncode, done.stderr) == (0, "")
    return True


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_sets_and_trials(root, tmp_path, suffix):
    corpus, data = write_cnceleb(tmp_path / "corpus", suffix), tmp_path / "data"
    done = prepare(root, "cnceleb", "--dev-speakers", 2, corpus, data)
    assert done.returncode == 0, done.stderr
    train, dev = (column(data / f"cnceleb_{name}/spk2utt") for name in ("train", "dev"))
    assert len(dev) == 2 and sorted(train + dev) == ["id00000", "id00001", "id00002", "id00003"]
    spk = train[0]
    assert (data / "cnceleb_train/utt2session").read_text().splitlines()[:3] == [
        f"{spk}-live_broadcast-02-001 live_broadcast-02", f"{spk}-singing-01-001 singing-01",
        f"{spk}-singing-01-002 singing-01"]
    assert column(data / "cnceleb_train/utt2genre", 1)[:3] == ["live_broadcast", "singing", "singing"]
    test, enroll = data / "cnceleb_test", data / "cnceleb_enroll"
    assert valid(root, test, enroll) and valid(root, data / "cnceleb_train")
    assert (test / "trials").read_text().startswith(
        "id00800-enroll id00800-speech-02-001 target\nid00800-enroll id00800-drama-03-001 target\n"
        "id00800-enroll id00801-speech-02-001 nontarget\n")
    assert (test / "trials_parts").read_text() == (test / "trials").read_text().replace("-enroll ", " ")
    assert (test / "trials_parts.enroll").read_text().startswith(
        "id00800 id00800-speech-01-001 id00800-speech-01-002\n")
    assert column(enroll / "utt2spk")[:3] == ["id00800-enroll", "id00800-speech-01-001", "id00800-speech-01-002"]
    assert column(test / "utt2genre", 1)[:2] == ["drama", "speech"]
    assert not any((folder / name).exists() for folder, name in ((enroll, "utt2genre"), (test, "utt2session")))
    assert all(path.endswith(suffix) for path in column(test / "wav.scp", 1))


def test_the_test_needs_no_training_part_and_no_map(root, tmp_path):
    corpus, data = write_cnceleb(tmp_path / "corpus"), tmp_path / "data"
    (corpus / "CN-Celeb_flac/dev/dev.lst").unlink()
    (corpus / "CN-Celeb_flac/eval/lists/enroll.map").unlink()
    done = prepare(root, "cnceleb", corpus / "CN-Celeb_flac", data)
    assert done.returncode == 1 and "dev/dev.lst: no such file" in done.stderr and not data.exists()
    done = prepare(root, "cnceleb", "--only", "test", corpus / "CN-Celeb_flac", data)
    assert done.returncode == 0 and "so trials_parts is not written" in done.stderr, done.stderr
    assert {path.name for path in data.iterdir()} == {"cnceleb_enroll", "cnceleb_test"}
    assert len(column(data / "cnceleb_enroll/wav.scp")) == 3 and not list(data.glob("*/trials_parts*"))


@pytest.mark.parametrize(("list_of", "old", "new", "why"), [
    ("eval/lists/trials.lst", "test/id00800-drama", "test/id00800-film",
     "trials.lst:2: no such file {eval}/test/id00800-film-03-001.wav, nor with .flac or .wav"),
    ("eval/lists/trials.lst", "test/id00800-speech-02-001.wav", "test/speech.wav",
     "trials.lst:1: expected id00000-GENRE-SESSION-NUMBER in place of 'test/speech.wav'"),
    ("eval/lists/trials.lst", ".wav 1", ".wav yes", "trials.lst:1: expected `1|0 ENROLL TEST`"),
    ("eval/lists/enroll.lst", "id00801-enroll ", "id00809-enroll ", "id00801-enroll is not in {eval}/lists/enroll.lst"),
    ("eval/lists/enroll.lst", "enroll/id00802-enroll.wav", "", "enroll.lst:3: expected `MODEL FILE`"),
    ("eval/lists/enroll.map", "id00800/speech-01-002.wav", "id00800/speech-01-009.wav", "enroll.map:1: no such file"),
    ("dev/dev.lst", "id00002", "id00009", "dev.lst:3: no .flac or .wav files in")])
def test_what_is_missing_is_one_line(root, tmp_path, list_of, old, new, why):
    top, data = write_cnceleb(tmp_path / "corpus") / "CN-Celeb_flac", tmp_path / "data"
    edit(top / list_of, old, new)
    done = prepare(root, "cnceleb", top, data)
    assert done.returncode == 1 and why.format(eval=top / "eval") in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and not data.exists()


def test_unreadable_audio_and_another_folder(root, tmp_path):
    top, data = write_cnceleb(tmp_path / "corpus") / "CN-Celeb_flac", tmp_path / "data"
    (top / "eval/test/id00801-drama-03-001.flac").write_bytes(b"")
    done = prepare(root, "cnceleb", "--only", "test", top, data)
    assert done.returncode == 1 and "1 of 6 audio files cannot be read" in done.stderr
    assert not (data / "cnceleb_test").exists()
    done = prepare(root, "cnceleb", top / "data", data)
    assert done.returncode == 1
    assert "expected eval or CN-Celeb_flac/eval or CN-Celeb_wav/eval in this folder, found id00000, " in done.stderr
    speak(top / "data/id00000/notes.flac", 1, 1)
    assert "data/id00000/notes.flac: expected id00000-GENRE" in prepare(root, "cnceleb", top, data).stderr
