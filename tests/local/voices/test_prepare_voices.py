# SPDX-License-Identifier: Apache-2.0
"""The VOiCES challenge of 2019 as data directories: names with their meaning, anonymous names, what can be wrong."""

import subprocess
import sys

import pytest
from tiny_evaluations import prepare, write_voices

KEY = "VOiCES_challenge_2019_post-eval-release/VOiCES_challenge_2019_eval.SID"
LISTS = "Development_Data/Speaker_Recognition/sid_dev_lists_and_keys"


def test_sets_and_trials(root, tmp_path):
    corpus, data = write_voices(tmp_path / "voices"), tmp_path / "data"
    done = prepare(root, "voices", corpus, data)
    assert done.returncode == 0, done.stderr
    for name in ("dev", "eval"):
        test, enroll = data / f"voices_{name}_test", data / f"voices_{name}_enroll"
        for words in (["utils/validate_data_dir.py", "--enroll", enroll, test], ["utils/validate_data_dir.py", enroll],
                      ["utils/lint_trials.py", "--test", test, "--test", enroll, test / "trials"]):
            checked = subprocess.run([sys.executable, root / words[0], *words[1:]], capture_output=True, text=True)
            assert checked.returncode == 0 and ": error: " not in checked.stderr, checked.stderr
        trials = [line.split() for line in (test / "trials").read_text().splitlines()]
        assert len(trials) == 18 and sum(kind == "target" for *_, kind in trials) == 6
        for table, values in (("noise", "none babb"), ("room", "rm1 rm3"), ("microphone", "mc01 mc12"),
                              ("session", "ch321 ch322")):
            rows = (test / f"utt2{table}").read_text().splitlines()
            assert [row.split()[1] for row in rows[:2]] == values.split()
        assert not (enroll / "utt2room").exists()
    assert (data / "voices_eval_test/trials").read_text().startswith(
        "m32 sp0032-x0001 target\nm32 sp0032-x0002 target\n")
    assert (data / "voices_eval_test/trials.enroll").read_text().startswith("m112 sp0112-x0006\nm32 sp0032-x0000\n")
    model = "Lab41-SRI-VOiCES-src-sp0032-ch320-sg0001"
    assert (data / "voices_dev_test/trials.enroll").read_text().splitlines()[0] == f"{model} sp0032-{model}"


def test_models_of_several_files(root, tmp_path):
    corpus, data = write_voices(tmp_path / "voices"), tmp_path / "data"
    with open(corpus / "Speaker_Recognition/sid_eval_lists/eval-enroll.lst", "a") as file:
        file.write("m32 sid_eval/x0001.wav\n")
    assert prepare(root, "voices", "--only", "eval", corpus, data).returncode == 0
    assert "m32 sp0032-x0000 sp0032-x0001\n" in (data / "voices_eval_test/trials.enroll").read_text()


@pytest.mark.parametrize(("sets", "path", "line", "why"), [
    ("dev", f"{LISTS}/dev-trial-keys.lst", "m sid_dev/sp0032/x.wav tgt",
     "keys.lst:19: expected ...VOiCES-ROOM-NOISE-sp0000"),
    ("dev", f"{LISTS}/dev-enroll.lst", "m", "dev-enroll.lst:4: expected `MODEL FILE`, got 'm'"),
    ("dev", f"{LISTS}/dev-enroll.lst", "m sid_dev/sp0032/Lab41-SRI-VOiCES-src-sp0032-ch1-sg0001.wav",
     "dev-enroll.lst:4: no such file"),
    ("eval", f"{KEY}.trial-keys.lst", "m32 x0099.wav tgt", "trial-keys.lst:19: x0099 is not in"),
    ("eval", f"{KEY}.trial-keys.lst", "m99 x0001.wav imp", "trial-keys.lst:19: m99 is not in"),
    ("eval", f"{KEY}.map", "x0099 a b", ".map:10: expected `NAME NAME`, got 'x0099 a b'")])
def test_what_does_not_match_is_one_line(root, tmp_path, sets, path, line, why):
    corpus, data = write_voices(tmp_path / "voices"), tmp_path / "data"
    with open(corpus / path, "a") as file:
        file.write(f"{line}\n")
    done = prepare(root, "voices", "--only", sets, corpus, data)
    assert done.returncode == 1 and why in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not data.exists()


def test_a_set_that_is_not_there(root, tmp_path):
    corpus = write_voices(tmp_path / "voices")
    (corpus / "Speaker_Recognition").rename(corpus / "other")
    done = prepare(root, "voices", corpus, tmp_path / "data")
    assert done.returncode == 1 and not (tmp_path / "data").exists()
    assert "expected Speaker_Recognition/sid_eval_lists or sid_eval_lists in this folder, found Develop" in done.stderr
