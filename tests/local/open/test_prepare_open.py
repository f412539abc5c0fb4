# SPDX-License-Identifier: Apache-2.0
"""Open corpora joined: LibriSpeech's layout and Kaldi data directories, with prefixes and held-out speakers."""

import os
import subprocess
import sys

import pytest
from programs import forking
from tiny_librispeech import write_librispeech
from tiny_speechocean762 import write_corpus


def run(root, *args):
    return subprocess.run([sys.executable, root / "local/open/prepare_open.py", *map(str, args)], text=True,
                          capture_output=True, env=forking({**os.environ, "PYTHONPATH": str(root)}))


def table(path):
    return dict(line.split() for line in path.read_text().splitlines())


def test_corpora_are_joined_with_prefixes(root, tmp_path):
    so, data = write_corpus(tmp_path / "so"), tmp_path / "data"
    done = run(root, "--train", f"ls={write_librispeech(tmp_path / 'ls')}", "--train", f"so={so / 'train'}", "--test",
               f"theirs={so / 'test'}", "--dev-share", 0.5, data)
    assert done.returncode == 0, done.stderr
    speakers = {name: set(table(data / name / "utt2spk").values()) for name in ("train", "dev", "theirs")}
    assert not speakers["train"] & speakers["dev"]
    assert {spk[:2] for spk in speakers["dev"]} == {"ls", "so"} == {spk[:2] for spk in speakers["train"]}
    assert speakers["train"] | speakers["dev"] == {"ls-19", "ls-103", "ls-1034", "so-0001", "so-0005", "so-0006",
                                                   "so-0009"}
    assert len(speakers["dev"]) == 4 and speakers["theirs"] == {"theirs-0003", "theirs-0024", "theirs-0092"}
    both = {**table(data / "train/utt2corpus"), **table(data / "dev/utt2corpus")}
    assert both["ls-103-198-0001"] == "ls" and both["so-0001-000010000"] == "so"
    genders = {**table(data / "train/spk2gender"), **table(data / "dev/spk2gender")}
    assert genders["ls-19"] == "f" and genders["ls-103"] == "m"
    for name in speakers:
        check = subprocess.run([root / "utils/validate_data_dir.py", data / name], capture_output=True, text=True)
        assert check.returncode == 0, check.stderr


def test_speakers_with_one_utterance_stay_in_training(root, tmp_path):
    done = run(root, "--train", f"ls={write_librispeech(tmp_path / 'ls', num_utts=1)}", "--train",
               f"so={write_corpus(tmp_path / 'so') / 'train'}", "--dev-share", 0.5, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert {"ls-19", "ls-103", "ls-1034"} < set(table(tmp_path / "data/train/utt2spk").values())


@pytest.mark.parametrize(("asked", "why"), [
    ("nowhere", "'nowhere': want NAME=FOLDER"), ("a=nowhere", "'a=nowhere': no such folder"),
    ("a b={so}/train", "'a b'"), ("ls={tmp}/empty", "no PART/SPEAKER/CHAPTER/*.flac"),
    ("so={tmp}/segments", "a corpus with segments cannot be joined")])
def test_wrong_corpora_are_refused_in_one_line(root, tmp_path, asked, why):
    so = write_corpus(tmp_path / "so")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/SPEAKERS.TXT").touch()
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments/segments").touch()
    done = run(root, "--train", asked.format(so=so, tmp=tmp_path), tmp_path / "data")
    assert done.returncode == 1 and why in done.stderr and done.stderr.count("\n") == 1
