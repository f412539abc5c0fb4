# SPDX-License-Identifier: Apache-2.0
"""Speakers in the Wild as data directories: models, assisted segments, and everything that can be wrong with it."""

import subprocess
import sys

import pytest
import soundfile
from tiny_evaluations import prepare, write_sitw


def test_sets_and_trials(root, tmp_path):
    corpus, data = write_sitw(tmp_path / "sitw"), tmp_path / "data"
    done = prepare(root, "sitw", corpus, data)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in data.iterdir()} == {f"sitw_{name}_{side}" for name in ("dev", "eval")
                                                     for side in ("enroll", "test")}
    test, enroll = data / "sitw_eval_test", data / "sitw_eval_enroll"
    for words in (["utils/validate_data_dir.py", "--enroll", enroll, test], ["utils/validate_data_dir.py", enroll],
                  *(["utils/lint_trials.py", "--test", test, "--test", enroll, test / f"trials_{name}"]
                    for name in ("core-core", "core-multi", "assist-core", "assist-multi"))):
        checked = subprocess.run([sys.executable, root / words[0], *words[1:]], capture_output=True, text=True)
        assert checked.returncode == 0 and ": error: " not in checked.stderr, checked.stderr
    assert (test / "trials_core-core").read_text().startswith("12000 ABCD-testa0 target\n12000 EFGH-testa1 nontarget\n")
    assert (test / "trials_core-core.enroll").read_text().startswith("12000 ABCD-enrol0\n12001 EFGH-enrol1\n")
    assert (test / "trials_assist-multi.enroll").read_text().startswith("45000 ABCD-helpd0-000020-000110\n")
    assert (enroll / "segments").read_text().splitlines()[:2] == [
        "ABCD-enrol0 ABCD-enrol0 0.0 1.3", "ABCD-helpd0-000020-000110 ABCD-helpd0 0.2 1.1"]
    assert "ABCD-helpd0-000020-000110 0.9\n" in (enroll / "utt2dur").read_text()
    assert (test / "utt2microphone").read_text().startswith("ABCD-testa0 studio\nABCD-testb0 video\n")
    assert (test / "utt2session").read_text().startswith("ABCD-testa0 1002\n")
    assert (test / "spk2gender").read_text() == "ABCD m\nEFGH f\nIJKL m\n"
    assert not (test / "segments").exists() and not (enroll / "utt2microphone").exists()


def test_wav_copies_and_core_alone(root, tmp_path):
    corpus, data = write_sitw(tmp_path / "sitw", ["eval"]), tmp_path / "data"
    for path in (corpus / "eval/audio").iterdir():
        wave, rate = soundfile.read(path)
        soundfile.write(path.with_suffix(".wav"), wave, rate)
        path.unlink()
    for path in corpus.glob("eval/keys/[!m]*-*.lst"):
        if path.name != "core-core.lst":
            path.unlink()
    (corpus / "eval/lists/enroll-assist.lst").unlink()
    done = prepare(root, "sitw", "--only", "eval", corpus, data)
    assert done.returncode == 0 and "so trials_assist-multi is not written" in done.stderr, done.stderr
    assert not (data / "sitw_eval_enroll/segments").exists()
    assert len((data / "sitw_eval_enroll/wav.scp").read_text().split()) == 3 * 2
    assert sorted(path.name for path in (data / "sitw_eval_test").glob("trials*")) == [
        "trials_core-core", "trials_core-core.enroll"]


@pytest.mark.parametrize(("name", "line", "why"), [
    ("keys/meta.lst", "audio/new.flac ABCD m studio 1", "meta.lst:13: expected `FILE SPEAKER GENDER MICROPHONE"),
    ("keys/meta.lst", "audio/new.flac ABCD x studio 1 0 2 1", "meta.lst:13: expected m or f, got 'x'"),
    ("keys/core-core.lst", "12000 audio/new.flac tgt", "core-core.lst:10: audio/new.flac is not in"),
    ("keys/core-core.lst", "12000 audio/testa0.flac maybe", "core-core.lst:10: expected `ENROLL TEST target|"),
    ("keys/core-core.lst", "12009 audio/testa0.flac imp", "core-core.lst:10: 12009 is not in {lists}/enroll-core.lst"),
    ("lists/enroll-core.lst", "12009 audio/enrol0.flac 3", "enroll-core.lst:4: expected `MODEL FILE`"),
    ("lists/enroll-assist.lst", "45009 audio/helpd0.flac 1.0 0.5", "enroll-assist.lst:4: not a segment in seconds"),
    ("lists/enroll-assist.lst", "45009 audio/helpd0.flac 1.0 9.5",
     "enroll-assist.lst:4: the segment ends at 9.5 s, but {audio}/helpd0.flac has 1.30 s")])
def test_what_does_not_match_is_one_line(root, tmp_path, name, line, why):
    top, data = write_sitw(tmp_path / "sitw", ["eval"]) / "eval", tmp_path / "data"
    with open(top / name, "a") as file:
        file.write(f"{line}\n")
    done = prepare(root, "sitw", "--only", "eval", top.parent, data)
    assert done.returncode == 1 and why.format(lists=top / "lists", audio=top / "audio") in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (data / "sitw_eval_test").exists()


def test_missing_audio_and_another_folder(root, tmp_path):
    corpus, data = write_sitw(tmp_path / "sitw", ["eval"]), tmp_path / "data"
    assert "expected dev/keys in this folder, found eval" in prepare(root, "sitw", corpus, data).stderr
    (corpus / "eval/audio/testa1.flac").unlink()
    done = prepare(root, "sitw", "--only", "eval", corpus, data)
    assert done.returncode == 1 and "keys/core-core.lst:2: no such file" in done.stderr and not data.exists()
