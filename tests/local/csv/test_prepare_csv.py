# SPDX-License-Identifier: Apache-2.0
"""local/csv/prepare_csv.py: the same data directories from any form of CSV, and one line for every fault."""

import logging
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rawnext.errors import InputError

TRAIN = [("a/1.wav", "kim"), ("a/2.wav", "kim"), ("b/1.wav", "lee"), ("b/2.wav", "lee"), ("c/1.wav", "choi"),
         ("c/2.wav", "choi")]
PAIRS = [("q1", "a/1.wav", "t/x.wav"), ("q0", "t/x.wav", "t/y.wav"), ("q5", "t/y.wav", "a/1.wav")]


@pytest.fixture
def wavs(tmp_path):
    for name in {name for name, _ in TRAIN} | {"t/x.wav", "t/y.wav"}:
        path = tmp_path / "wavs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(3200, 0.1), 16000)
    return tmp_path / "wavs"


def text_of(rows, header=(), separator=","):
    return "".join(separator.join(map(str, row)) + "\n" for row in ([header] if header else []) + list(rows))


def train_rows():
    return [(i, *row) for i, row in enumerate(TRAIN)]


@pytest.fixture
def prepare(root, wavs, monkeypatch, capsys):
    """Run the program's main; returns its message if it ended with a fault, and all that it logged."""
    main = runpy.run_path(str(root / "local/csv/prepare_csv.py"))["main"]
    monkeypatch.chdir(wavs.parent)
    monkeypatch.setattr(logging.root, "handlers", [])

    def call(train, pairs="", *options):
        Path("train.csv").write_bytes(train if isinstance(train, bytes) else train.encode())
        if pairs:
            Path("pairs.csv").write_text(pairs)
            options += ("--pairs", "pairs.csv")
        monkeypatch.setattr(sys, "argv", ["prepare_csv.py", "--wav-dir", "wavs", "--dev-speakers", "2", *options,
                                          "train.csv", "data"])
        fault = ""
        try:
            main()
        except InputError as error:
            fault = str(error)
        return fault, capsys.readouterr().err

    return call


def rows_of(path):
    return sorted(tuple(line.split(" ", 1)) for line in path.read_text().splitlines())


def test_every_form_gives_the_same_directories(prepare, wavs):
    rows, data = train_rows(), wavs.parent / "data"
    swapped = [(speaker, index, name) for index, name, speaker in rows]
    forms = [(text_of(rows, ("idx", "wav path", "speaker id")), ()), (text_of(rows), ()),
             (text_of(rows, ("number", "what", "who")), ("--train-columns", "what,who")),
             (text_of(rows, ("a", "file", "spk")).replace("\n", "\r\n"), ()),
             (b"\xef\xbb\xbf" + text_of([row[1:] for row in rows], ("파일", "화자"), ";").encode(),
              ("--train-columns", "파일,화자")),
             (text_of(swapped, ("Speaker", "ID", "File_Name"), "\t"), ()),
             (text_of(swapped, ("s", "i", "w")), ("--train-columns", "W, s")),
             (text_of(swapped), ("--train-columns", "3,1")),
             (text_of([row[1:] for row in rows], ("path", "spk")), ())]
    for train, options in forms:
        assert prepare(train, "", *options)[0] == "", train
        spks = {name: rows_of(data / name / "utt2spk") for name in ("train", "dev")}
        assert sorted(spks["train"] + spks["dev"]) == sorted(
            (f"{speaker}-{name.removesuffix('.wav').replace('/', '_')}", speaker) for name, speaker in TRAIN)
        assert {spk for _, spk in spks["train"]}.isdisjoint(spk for _, spk in spks["dev"])
        assert len({spk for _, spk in spks["dev"]}) == 2
        for utt, path in rows_of(data / "train" / "wav.scp"):
            assert path == str(wavs / utt.split("-", 1)[1].replace("_", "/")) + ".wav"


def test_pairs_keep_order_and_idx(prepare, wavs):
    fault, log = prepare(text_of(train_rows()), text_of(PAIRS, ("idx", "left wav", "right wav")))
    assert fault == "" and "right is column 3 (right wav)" in log
    folder = wavs.parent / "data" / "pairs"
    assert (folder / "pairs").read_text() == "a_1 t_x q1\nt_x t_y q0\nt_y a_1 q5\n"
    assert rows_of(folder / "wav.scp") == [(utt, str(wavs / utt.replace("_", "/")) + ".wav")
                                           for utt in ("a_1", "t_x", "t_y")]
    assert rows_of(folder / "utt2spk") == [(utt, utt) for utt in ("a_1", "t_x", "t_y")]


def test_any_speaker_name_becomes_an_id_that_sorts(prepare, wavs):
    names = {"kim": "1", "lee": "1-b c", "choi": "김 'x'"}
    rows = [(i, name, names[speaker]) for i, name, speaker in train_rows()]
    assert prepare(text_of(rows))[0] == ""
    done = [utt for name in ("train", "dev") for utt in rows_of(wavs.parent / "data" / name / "utt2spk")]
    assert {spk for _, spk in done} == {"1", "1_b_c", "김_x"}


def test_unreadable_training_files_may_be_left_out(prepare, wavs):
    (wavs / "a/1.wav").write_bytes(b"no audio")
    soundfile.write(wavs / "b/1.wav", np.full(1000, 0.1), 16000)
    fault, log = prepare(text_of(train_rows()))
    assert fault == "data/bad_audio.tsv: 2 of 6 audio files cannot be read; they are listed here"
    assert f"train.csv:1: {wavs}/a/1.wav: " in log and f"train.csv:3: {wavs}/b/1.wav: shorter than 0.1 s" in log
    assert not Path("data/train").exists()
    fault, _ = prepare(text_of([*train_rows(), (6, "t/x.wav", "lee")]), "", "--max-bad-fraction", "0.3")
    assert fault == "" and len(rows_of(Path("data/train/utt2spk")) + rows_of(Path("data/dev/utt2spk"))) == 5


@pytest.mark.parametrize(("train", "pairs", "why"), [
    ("", "", "train.csv: has no rows"), ("idx,path,speaker\n", "", "train.csv: has no rows"),
    ("1,a/1.wav,x\n2,none.wav,y\n", "", "train.csv:2: {wavs}/none.wav: no such file"),
    ("1,a/1.wav,x\n2,a/2.wav\n", "", "train.csv:2: has no speaker (column 3)"),
    ("1,a/1.wav,x\n2,,y\n", "", "train.csv:2: has no path (column 2)"),
    ("1,a/1.wav,x\n\n3,a/../a/1.wav,y\n", "", "train.csv:3: {wavs}/a/1.wav is also on line 1"),
    ("1,a/1.wav,x y\n2,a/2.wav,x_y\n", "", "train.csv:2: speakers 'x y' and 'x_y' would both be called x_y"),
    ("1,a/1.wav,x\n2,a_1.wav,x\n", "", "train.csv:2: x-a_1 is also on line 1"),
    ("1,a/1.wav,''\n", "", "train.csv:1: '' cannot be an id"),
    ("i,p,s\n1,a/1.wav,\"x\n", "", "train.csv:2: unexpected end of data"),
    ("a/1.wav,x\n", "", "train.csv:1: cannot tell which of 2 columns are path, speaker"),
    (b"1,a/1.wav,\xff\n", "", "train.csv: not UTF-8 text"),
    (None, "1,a/1.wav\n", "pairs.csv:1: cannot tell which of 2 columns are idx, left, right"),
    (None, "1,a/1.wav,t/x.wav\n2,a/1.wav,t/z.wav\n", "pairs.csv:2: {wavs}/t/z.wav: no such file"),
    (None, "1,a/1.wav,t/x.wav\n1,a/1.wav,t/y.wav\n", "pairs.csv:2: idx 1 is also on line 1"),
    (None, "1 2,a/1.wav,t/x.wav\n", "pairs.csv:1: expected an idx without spaces, got '1 2'"),
    (None, "1,a/1.wav,a_1.wav\n", "pairs.csv:1: {wavs}/a_1.wav and {wavs}/a/1.wav (line 1) would both be called a_1"),
])
def test_faults_name_file_and_line_and_write_nothing(prepare, wavs, train, pairs, why):
    fault, log = prepare(text_of(train_rows()) if train is None else train, pairs)
    assert fault and why.format(wavs=wavs) in f"{log}{fault}", fault
    assert not any((wavs.parent / "data" / name).exists() for name in ("train", "dev", "pairs"))


def test_a_header_without_the_columns_is_an_error_that_lists_it(prepare):
    """As the column named talker, or sentence_id in Common Voice's tables, which would be taken by position."""
    for header in (("file", "text", "talker"), ("up_votes", "path", "sentence_id")):
        fault, _ = prepare(text_of(train_rows(), header), "")
        assert fault == (f"train.csv:1: cannot tell which of 3 columns ({', '.join(header)}) are path, speaker; "
                         "name them with --train-columns")


def test_common_voice(prepare):
    rows = [(speaker, path, f"sid{i}", "a sentence") for i, (_, path, speaker) in enumerate(train_rows())]
    fault, log = prepare(text_of(rows, ("client_id", "path", "sentence_id", "sentence"), "\t"), "")
    assert fault == "" and "speaker is column 1 (client_id)" in log


@pytest.mark.parametrize("asked", ["path", "1,9", "path,who", "0,1"])
def test_columns_that_are_not_there(prepare, asked):
    fault, _ = prepare(text_of(train_rows(), ("idx", "path", "speaker")), "", "--train-columns", asked)
    assert fault == f"train.csv:1: want the columns path, speaker, got {asked!r}; there are idx, path, speaker"
