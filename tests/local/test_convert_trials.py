# SPDX-License-Identifier: Apache-2.0
"""local/convert_trials.py: the same list from each form, and one line for each fault."""

import logging
import runpy
import sys

import numpy as np
import pytest

from rawnext.errors import InputError
from rawnext.kaldi.tables import read_enroll_map, read_trials

WAVS = {"a-1": "/corpora/x/wav/a/one/1.wav", "a-2": "/corpora/x/wav/a/two/1.wav", "b-1": "/corpora/x/wav/b/one/1.flac",
        "b-2": "/corpora/x/wav/b/one/2.v2.wav", "b-3": "/corpora/x/wav/b/one/2.v3.wav"}
EXPECTED = "a-1 a-2 target\na-1 b-1 nontarget\nb-2 b-1 target\nb-2 a-2 nontarget\n"
ROWS = [("1", "a/one/1.wav", "a/two/1.wav"), ("0", "a/one/1.wav", "b/one/1.wav"),
        ("1", "b/one/2.v2.wav", "b/one/1.wav"), ("0", "b/one/2.v2.wav", "a/two/1.wav")]


def text_of(rows, header=(), separator=",", end="\n"):
    return "".join(separator.join(row) + end for row in ([header] if header else []) + list(rows))


def order(*places):
    """The columns label, enroll, test of ROWS in another order; a number that is not there is the row's number."""
    return [tuple(row[place] if place < 3 else str(number) for place in places) for number, row in enumerate(ROWS)]


@pytest.fixture
def convert(root, tmp_path, monkeypatch, capsys):
    """Run the program: the message of a fault or "", and the list written."""
    monkeypatch.syspath_prepend(root / "local")
    main = runpy.run_path(str(root / "local" / "convert_trials.py"))["main"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.root, "handlers", [])
    (tmp_path / "data").mkdir()
    (tmp_path / "data/wav.scp").write_text("".join(f"{utt} {path}\n" for utt, path in WAVS.items()))

    def call(text, *options):
        (tmp_path / "list").write_bytes(text if isinstance(text, bytes) else text.encode())
        (tmp_path / "out").unlink(missing_ok=True)
        monkeypatch.setattr(sys, "argv", ["convert_trials.py", *options, "data", "list", "out"])
        try:
            main()
        except InputError as error:
            assert not (tmp_path / "out").exists()
            return str(error), ""
        return "", (tmp_path / "out").read_text()

    return call


WORDS = {"1": "target", "0": "nontarget"}
IDS = {"a/one/1.wav": "a-1", "a/two/1.wav": "a-2", "b/one/1.wav": "b-1", "b/one/2.v2.wav": "b-2"}
ABSOLUTE = {name: f"/corpora/x/wav/{name}" for name in IDS}


def renamed(rows, names):
    return [tuple(names.get(cell, cell) for cell in row) for row in rows]


@pytest.mark.parametrize(("text", "options"), [
    (text_of(ROWS, separator=" "), ()),
    (text_of(ROWS, separator="\t"), ()),
    (text_of(renamed(ROWS, IDS), separator=" "), ()),
    (text_of(renamed(ROWS, ABSOLUTE), separator=" "), ()),
    (text_of(renamed(ROWS, {"a/one/1.wav": "./a//one/1.m4a"}), separator=" "), ()),
    (EXPECTED, ()), (EXPECTED.replace(" ", "   "), ()),
    (text_of(order(1, 2, 0), separator=" "), ()),
    (text_of(renamed(order(1, 2, 0), WORDS), separator="\t"), ()),
    (text_of(renamed(order(1, 2, 0), {"1": "tgt", "0": "imp"}), separator=" "), ()),
    (text_of(order(1, 2, 0), ("enroll", "test", "label")), ()),
    (text_of(order(3, 1, 2, 0), ("idx", "path", "path_other", "target")), ()),
    (text_of(order(0, 2, 1), ("Same", "Right wav", "Left wav"), ";"), ()),
    (text_of(renamed(order(1, 2, 0), {**WORDS, **IDS}), ("enroll", "test", "target"), end="\r\n"), ()),
    (b"\xef\xbb\xbf" + text_of(order(1, 2, 0), ("file1", "file2", "key"), ", ").encode(), ()),
    (text_of(order(1, 2, 0), ("enroll", "test", "target"), ", "), ()),
    (text_of(order(1, 2, 0), ("x", "y", "z"), "\t"), ("--columns", "x,y,z")),
    (text_of(order(3, 0, 1, 2)), ("--columns", "3,4,2")),
    (text_of(renamed(ROWS, {"0": "1", "1": "0"}), separator=" "), ("--target-is-0",)),
    (text_of(renamed(order(1, 2, 0), {"0": "1", "1": "0"}), ("enroll", "test", "label")), ("--target-is-0",)),
    (EXPECTED, ("--target-is-0",)),                     # words mean what they say
])
def test_every_form_gives_the_same_list(convert, text, options):
    assert convert(text, *options) == ("", EXPECTED)


@pytest.mark.parametrize(("text", "options", "why"), [
    ("", (), "list: is empty"), ("enroll,test,label\n", (), "list: has no rows"), (b"\xff\n", (), "list:1: not UTF-8"),
    ("a-1 a-2\n", (), "list:1: expected `1|0 ENROLL TEST`"),
    ("a-1 a-2 yes\n", (), "list:1: expected `1|0 ENROLL TEST`"),
    ("1 a-1 a-2\na-1 a-2 target\n", (), "list:2: expected `1|0 ENROLL TEST`"),
    ("a-1 a-2 target\n1 a-1 a-2\n", (), "list:2: expected `ENROLL TEST target|nontarget`"),
    ("1 a-1 a-2\n2 a-1 a-2\n", (), "list:2: expected `1|0 ENROLL TEST`"),
    ("1 a-1 a-2\n\n", (), "list:2: empty line"),
    ("1 a-1 a-2\n0 a-1 b/one/3.wav\n0 a-1 b/one/3.wav\n", (), "list:2: b/one/3.wav is not in data/wav.scp"),
    ("1 a-1 one/1.wav\n", (), "data/wav.scp:3: one/1.wav in the list matches a-1 and b-1"),
    ("enroll,test,label\na-1,a-2,1\na-1,b-1,no\n", (),
     "list:3: expected a label 1, target, tgt, 0, nontarget, imp, got 'no'"),
    ("enroll,test,label\na-1,a-2\n", (), "list:2: has no label (column 3)"),
    ("x,y,z\na-1,a-2,1\n", (), "list:1: cannot tell which of 3 columns (x, y, z) are enroll, test, label"),
    ("1,a/one/1.wav,a/two/1.wav\n", (), "list:1: cannot tell which of 3 columns are enroll, test, label"),
    ("1,a/one/1.wav,a/two/1.wav\n", ("--columns", "2,3"), "list:1: want the columns enroll, test, label, got '2,3'"),
])
def test_faults(convert, text, options, why):
    message, _ = convert(text, *options)
    assert message.startswith(why) and "\n" not in message


def test_segments_are_named_by_their_ids_only(convert, tmp_path):
    (tmp_path / "data/segments").write_text("".join(f"{utt} reco 0 1\n" for utt in WAVS))
    (tmp_path / "data/wav.scp").write_text("reco /corpora/x/wav/a/one/1.wav\n")
    assert convert(EXPECTED) == ("", EXPECTED)
    assert convert(text_of(ROWS, separator=" "))[0] == "list:1: a/one/1.wav is not in data/wav.scp"


def test_models(convert, tmp_path):
    (tmp_path / "models").write_text("b-m b/one/1.wav b-2\na-m a/one/1.wav\n")
    rows = "1 a-m a/two/1.wav\n0 b-m a/two/1.wav\n"
    assert convert(rows, "--enroll-map", "models") == ("", "a-m a-2 target\nb-m a-2 nontarget\n")
    assert read_enroll_map("out.enroll") == {"a-m": ["a-1"], "b-m": ["b-1", "b-2"]}
    assert (tmp_path / "out.enroll").read_text().startswith("a-m ")          # sorted, as a table is
    assert convert("1 a-1 a-2\n", "--enroll-map", "models")[0] == "list:1: a-1 is not in data/wav.scp or models"
    for text, why in (("m z.wav\n", "models:1: z.wav is not in"), ("m a-1 a/one/1.wav\n", "models:1: m has an utt")):
        (tmp_path / "models").write_text(text)
        assert convert("1 m a-2\n", "--enroll-map", "models")[0].startswith(why)
    convert(EXPECTED)
    assert not (tmp_path / "out.enroll").exists()


def test_a_large_list(convert, tmp_path):
    """Files found by the ends of their paths, at the cost of a look each; against the pairs that were written."""
    rng = np.random.default_rng(1)
    names = [f"id{spk:05}/v{spk * 7 + i // 4}/{i:05}" for spk in range(100) for i in range(40)]
    (tmp_path / "data/wav.scp").write_text("".join(f"{n.replace('/', '-')} /c/vox/{n}.flac\n" for n in sorted(names)))
    pairs = [(names[i], names[j]) for i, j in rng.integers(len(names), size=(20_000, 2))]
    fault, _ = convert("".join(f"{int(a[:7] == b[:7])} {a}.wav {b}.wav\n" for a, b in pairs))
    trials = read_trials("out")
    assert fault == "" and list(zip(trials.enroll, trials.test)) == [
        (a.replace("/", "-"), b.replace("/", "-")) for a, b in pairs]
    assert trials.is_target.tolist() == [a[:7] == b[:7] for a, b in pairs]
