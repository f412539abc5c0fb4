# SPDX-License-Identifier: Apache-2.0
"""steps/clean_labels.py: its lists and its page, and what is wrong is one line."""

import runpy
import sys

import numpy as np
import pytest
from corpus import write_corpus

from rawnext.errors import InputError
from rawnext.kaldi.ark import write_vectors
from rawnext.kaldi.tables import read_table


@pytest.fixture
def clean(root, tmp_path, monkeypatch):
    """A function that runs the program on 4 speakers of 3 utterances; s01-u2 has the voice of s03."""
    write_corpus(tmp_path / "data", num_speakers=4, num_utts=3, seconds=0.3)
    utts, rng = list(read_table(tmp_path / "data/utt2spk")), np.random.default_rng(0)
    speaker = [int(utt[1:3]) for utt in utts]
    speaker[utts.index("s01-u2")] = 3
    x = np.eye(16, dtype=np.float32)[speaker] + 0.05 * rng.normal(size=(12, 16)).astype(np.float32)
    write_vectors(tmp_path / "x.ark", tmp_path / "x.scp", zip(utts, x))
    main = runpy.run_path(str(root / "steps/clean_labels.py"))["main"]
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["clean_labels.py", *words, "data", "x.scp", "out"])
        main()
        return [line.split("\t") for line in (tmp_path / "out/labels.tsv").read_text().splitlines()]

    return run


def test_lists_and_page(clean, tmp_path, capsys):
    rows = clean("--threshold", "0.5", "--players", "2")
    assert rows[0] == ["utt", "spk", "cosine", "nearest_other_spk", "its_cosine"] and len(rows) == 13
    assert rows[1][:2] == ["s01-u2", "s01"] and float(rows[1][2]) < 0.3 and rows[1][3] == "s03"
    cosines = [float(row[2]) for row in rows[1:]]
    assert cosines == sorted(cosines) and cosines[1] > 0.5
    assert capsys.readouterr().out.startswith("1 of 12 utterances dropped, 0 ")
    kept = (tmp_path / "out/utt_list").read_text().split()
    assert kept == sorted(row[0] for row in rows[2:])
    html = (tmp_path / "out/page.html").read_text()
    assert html.count("<audio") == 6 and "cosine" in html and "data:audio/mpeg" in html

    clean("--players", "0")
    assert not (tmp_path / "out/utt_list").exists() and not (tmp_path / "out/page.html").exists(), "of other options"
    clean("--share", "0.25", "--players", "0")
    assert len((tmp_path / "out/utt_list").read_text().split()) == 9


def test_sessions_are_those_of_utt2session(clean, tmp_path):
    utts = list(read_table(tmp_path / "data/utt2spk"))
    session = {utt: "one" if utt.startswith("s00") else utt for utt in utts}
    (tmp_path / "data/utt2session").write_text("".join(f"{utt} {session[utt]}\n" for utt in utts))
    rows = clean("--share", "0.2", "--players", "0")
    assert [row[0] for row in rows if not row[2]] == ["s00-u0", "s00-u1", "s00-u2"] and rows[-1][0] == "s00-u2"
    kept = (tmp_path / "out/utt_list").read_text().split()
    assert len(kept) == 10 and {"s00-u0", "s00-u1", "s00-u2"} <= set(kept), "nothing is known against them"
    (tmp_path / "data/utt2session").write_text("s00-u0 one\n")
    with pytest.raises(InputError, match="utt2session: s00-u1 is missing"):
        clean()


def test_missing_embeddings_and_speakers(clean, tmp_path):
    scp = (tmp_path / "x.scp").read_text().splitlines(keepends=True)
    (tmp_path / "x.scp").write_text("".join(scp[:-1]))
    with pytest.raises(InputError, match="x.scp: has no embedding of s03-u2"):
        clean()
