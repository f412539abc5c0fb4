# SPDX-License-Identifier: Apache-2.0
"""Open corpora joined: LibriSpeech's layout and Kaldi data directories, prefixes, held-out speakers."""

import os
import subprocess
import sys

import pytest
from programs import forking
from tiny_librispeech import write_librispeech
from tiny_speechocean762 import SPEAKERS, write_corpus


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


def speechocean762(root, corpus, data, dev_speakers):
    """Prepare it as egs/speechocean762 does."""
    return run(root, "--no-prefix", "--dev-speakers", dev_speakers, "--train", f"train={corpus}/train", "--test",
               f"test={corpus}/test", data)


def test_without_prefix_with_a_number_of_held_out_speakers(root, tmp_path):
    corpus, test = write_corpus(tmp_path / "corpus"), tmp_path / "data/test"
    (corpus / "test/spk2age").write_text("0003\t6\n0092\t30\n")
    (corpus / "test/utt2session").write_text("".join(f"0{spk}{u:04}\t{u}\n" for spk in SPEAKERS["test"]
                                                     for u in range(3)))
    test.mkdir(parents=True)
    (test / "utt2lang").write_text("of an earlier preparation\n")
    done = speechocean762(root, corpus, tmp_path / "data", 2)
    assert done.returncode == 0, done.stderr
    assert (test / "spk2age").read_text() == "0003 6\n0092 30\n" and not (test / "utt2lang").exists()
    assert (test / "utt2session").read_text().startswith("0003-000030000 0\n0003-000030001 1\n")
    spk = {name: set(table(tmp_path / "data" / name / "utt2spk").values()) for name in ("train", "dev", "test")}
    assert spk["dev"] == {"0005", "0006"} and spk["train"] | spk["dev"] == set(SPEAKERS["train"])
    assert len(spk["train"]) == 2 and spk["test"] == set(SPEAKERS["test"])
    assert "0003-000030000 0003\n" in (tmp_path / "data/test/utt2spk").read_text()
    assert (tmp_path / "data/test/spk2gender").read_text() == "0003 m\n0024 f\n0092 m\n"
    assert not (tmp_path / "data/train/utt2corpus").exists()


@pytest.mark.parametrize(("file", "text", "why"), [
    ("train/utt2spk", "000010000 0001\n", "000010001 is not in utt2spk"),
    ("train/wav.scp", "000010000\n", "wav.scp:1: expected 2 columns"),
    ("test/wav.scp", None, "test/wav.scp"),
    ("WAVE/SPEAKER0001/000010000.WAV", "", "bad_audio.tsv")])
def test_a_damaged_corpus_is_reported_in_one_line(root, tmp_path, file, text, why):
    corpus = write_corpus(tmp_path / "corpus", 0.2, 2)
    if text is None:
        (corpus / file).unlink()
    else:
        (corpus / file).write_text(text)
    done = speechocean762(root, corpus, tmp_path / "data", 1)
    assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr
