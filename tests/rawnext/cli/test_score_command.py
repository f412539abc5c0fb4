# SPDX-License-Identifier: Apache-2.0
"""`rawnext score`: LLRs equal those of `rawnext verify`, each file is read once, and what is wrong is one line."""

import json

import numpy as np
import pytest
import soundfile
from corpus import voice
from tiny_model import OPTIONS, calibrate, calibrate_with_cohort, write_experiment

from rawnext.cli import inputs
from rawnext.cli.main import main
from rawnext.errors import InputError
from rawnext.kaldi.tables import read_scores

FILES = {"a.wav": (0, 1.0), "b.flac": (1, 2.0), "sub/c.wav": (2, 1.5), "short.wav": (3, 0.12)}
PAIRS = [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c"), ("b", "b")]
TRIALS = {"trials": [f"{a} {b} {'target' if a == b else 'nontarget'}" for a, b in PAIRS],
          "pairs": [f"{a} {b}" for a, b in PAIRS], "trials.vox": [f"{int(a == b)} {a} {b}" for a, b in PAIRS],
          "trials.csv": ["enroll,test,label", *(f"{a},{b},{int(a == b)}" for a, b in PAIRS)]}


@pytest.fixture(scope="module")
def exps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exps")
    return write_experiment(folder / "plain", 1), calibrate(write_experiment(folder / "calibrated"))


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch, exps):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAWNEXT_MODEL", str(exps[1]))
    (tmp_path / "sub").mkdir()
    for name, (speaker, seconds) in FILES.items():
        soundfile.write(name, voice(speaker, 0, seconds), 16000, subtype="PCM_16")
    for name, lines in TRIALS.items():
        write(name, *lines)
    write("wav.scp", "unused no.wav", "c sub/c.wav", "a a.wav", "b b.flac")


def write(path, *lines):
    with open(path, "w") as file:
        file.writelines(f"{line}\n" for line in lines)


@pytest.fixture(scope="module")
def with_cohort(tmp_path_factory):
    """A model whose calibration uses a cohort."""
    cohort = np.random.default_rng(0).normal(size=(30, OPTIONS["embedding_dim"]))
    return calibrate_with_cohort(write_experiment(tmp_path_factory.mktemp("exps") / "with_cohort"), cohort)


@pytest.mark.parametrize("cohort", [False, True])
def test_llrs_are_those_of_verify_and_each_file_is_read_once(capsys, monkeypatch, with_cohort, cohort):
    if cohort:
        monkeypatch.setenv("RAWNEXT_MODEL", str(with_cohort))
    read = []
    decode = inputs.decode
    monkeypatch.setattr(inputs, "decode", lambda source: read.append(source.path) or decode(source))
    main(["score", "trials", "wav.scp", "-o", "out/scores", "--json"])
    assert sorted(read) == ["a.wav", "b.flac", "sub/c.wav"]
    about = json.loads(capsys.readouterr().out)
    assert about == {"scores": "out/scores", "kind": "llr", "num_trials": 5, "num_files": 3, "seconds": 4.5,
                     "outside_calibration": 0, "doubts": []}
    enroll, test, scores = read_scores("out/scores")
    assert list(zip(enroll, test)) == PAIRS
    place = {"a": "a.wav", "b": "b.flac", "c": "sub/c.wav"}
    for one, other, score in zip(enroll, test, scores):
        main(["verify", place[one], place[other], "--json"])
        assert score == pytest.approx(json.loads(capsys.readouterr().out)["llr"], abs=1e-3)
    main(["score", "trials", "wav.scp", "-o", "cosines", "--cosine"])
    main(["verify", "a.wav", "b.flac", "--json"])
    out, err = capsys.readouterr()
    assert read_scores("cosines")[2][0] == pytest.approx(json.loads(out)["score"], abs=1e-5)
    assert "rawnext: 5 cosines of 3 files in cosines" in err


@pytest.mark.parametrize("trials", ["pairs", "trials.vox", "trials.csv"])
def test_every_form_of_trials(trials):
    for name in ("trials", trials):
        main(["score", name, "wav.scp", "-o", f"scores.{name}"])
    with open("scores.trials") as one, open(f"scores.{trials}") as other:
        assert one.read() == other.read()


def test_trials_may_name_files_and_unseen_durations_are_counted(work, capsys):
    write("files", "a.wav sub/c.wav", "short.wav a.wav")
    main(["score", "files", "-o", "scores", "--json"])
    out, err = capsys.readouterr()
    assert json.loads(out)["outside_calibration"] == 1 and "has not seen the durations of 1 trials" in err
    write("files", "c.wav c.wav")
    main(["score", "files", "sub", "-o", "scores"])
    assert read_scores("scores")[2][0] == pytest.approx(5 - 2 - 2 / 1.5 / 4, abs=1e-3)


def test_what_is_wrong_is_one_line_and_nothing_is_written(exps, tmp_path):
    write("unknown", "a b", "a d")
    write("three", "a b", "a b c")
    write("absolute", f"{tmp_path}/a.wav b")
    write("bad.scp", "a a.wav", "b bad.wav", "c sub/c.wav")
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    for words, why in ((["unknown", "wav.scp"], "unknown:2: d is not in wav.scp"),
                       (["three", "wav.scp"], "three:2: expected 2 columns, got 3"),
                       (["absolute"], "absolute:1: .*cannot be an id"), (["pairs"], "pairs:1: a is not in ."),
                       (["trials", "bad.scp"], "bad.scp:2: b: bad.wav: "), (["trials", "no.scp"], "no.scp: no such"),
                       (["trials", "wav.scp", "-m", str(exps[0])], "no calibration: .*; --cosine writes cosines")):
        with pytest.raises(InputError, match=why):
            main(["score", *words, "-o", "scores"])
    with pytest.raises(InputError, match="sub: is a folder"):
        main(["score", "trials", "wav.scp", "-o", "sub"])
    assert not (tmp_path / "scores").exists()
