# SPDX-License-Identifier: Apache-2.0
"""Tables: any bytes give a table that can be written and read back, or one line."""

import numpy as np
import pytest
from fuzzing import answer, damaged, fuzz, utils_module
from hypothesis import example, given
from hypothesis import strategies as st

from rawnext.data.wav import Source, read_sources
from rawnext.files import write_lines
from rawnext.kaldi.tables import (
    check_id,
    read_enroll_map,
    read_scores,
    read_table,
    read_trials,
    write_scores,
    write_trials,
)
from rawnext.kaldi.trial_forms import read_trial_list

SCP = "a-1 /x/a 1.wav\na-2 /x/a2.flac\nä-3 sox x.mp3 -t wav - |\nb 貓.wav\n".encode()
SEGMENTS = b"s1 a-1 0.0 1.5\ns2 a-1 1.5 -1\ns3 b 1e-1 2.5E1\n"
TRIALS = "a-1 a-2 target\na-1 ä-3 nontarget\nb b target\n".encode()
SCORES = b"a-1 a-2 0.25\na-1 b -1.5e-3\nb b +7\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def all_ids(*columns):
    return all(check_id(text, "x") == text for column in columns for text in column)


@pytest.mark.slow
@fuzz(200)
@given(raw=damaged(SCP, TRIALS), one_word=st.booleans())
def test_damaged_tables(folder, raw, one_word):
    path = folder / "table"
    path.write_bytes(raw)
    table = answer(lambda: read_table(path, one_word), path, 10_000_000)
    if table is not None:
        assert table and all_ids(table) and all(table.values())
        write_lines(path, (f"{key} {value}" for key, value in table.items()))
        assert read_table(path, one_word) == table


@pytest.mark.slow
@fuzz(200)
@given(raw=damaged(TRIALS))
def test_damaged_trials(folder, raw):
    path = folder / "trials"
    path.write_bytes(raw)
    trials = answer(lambda: read_trials(path), path, 10_000_000)
    if trials is not None:
        assert all_ids(trials.enroll, trials.test) and len(trials.enroll) == len(trials.test) == len(trials.is_target)
        write_trials(path, trials)
        again = read_trials(path)
        assert again[:2] == trials[:2] and np.array_equal(again.is_target, trials.is_target)


@fuzz(200)
@given(raw=damaged(SCORES))
@example(raw=b"a b 1_0\n")
@example(raw="a b \u0661\n".encode())
def test_damaged_scores(folder, raw):
    path = folder / "scores"
    path.write_bytes(raw)
    found = answer(lambda: read_scores(path), path, 10_000_000)
    if found is not None:
        enroll, test, scores = found
        assert all_ids(enroll, test) and len(enroll) == len(test) == len(scores) and np.isfinite(scores).all()
        assert b"_" not in raw and [float(line.split()[2]) for line in raw.splitlines()] == scores.tolist()
        write_scores(path, enroll, test, scores)
        assert np.allclose(read_scores(path)[2], scores, atol=1e-6)


@pytest.mark.slow
@fuzz(200)
@given(scp=damaged(SCP), segments=st.none() | damaged(SEGMENTS), allow_pipes=st.booleans())
def test_damaged_wav_scp_and_segments(folder, scp, segments, allow_pipes):
    (folder / "wav.scp").write_bytes(scp)
    (folder / "segments").unlink(missing_ok=True)
    if segments is not None:
        (folder / "segments").write_bytes(segments)
    sources = answer(lambda: read_sources(folder, allow_pipes), folder, 10_000_000)
    if sources is not None:
        assert sources and all(isinstance(source, Source) for source in sources)
        utts = [source.utt for source in sources]
        assert all_ids(utts) and utts == sorted(set(utts), key=str.encode)
        assert all(0 <= s.start_s < np.inf and (s.end_s == -1 or s.start_s < s.end_s < np.inf) for s in sources)
        assert allow_pipes or not any(source.is_pipe for source in sources)
        assert not any(source.path.startswith(("|", "~")) or source.path == "-" for source in sources)


@fuzz(50)
@given(raw=damaged(b"a-m1 a-1 a-2\nb-m1 b-1\n"))
def test_damaged_enroll_maps(folder, raw):
    path = folder / "map"
    path.write_bytes(raw)
    models = answer(lambda: read_enroll_map(path), path, 10_000_000)
    if models is not None:
        assert models and all(models.values()) and all_ids(models, *models.values())
        assert all(len(set(utts)) == len(utts) for utts in models.values())


FORMS = [b"1 a/1.wav a/2.wav\n0 a/1.wav b.wav\n", TRIALS, b"idx,path,path_other,label\nq,a/1.wav,\"a/2.wav\",1\n",
         "enroll;test;target\nä-3;b;nontarget\n".encode()]


@fuzz(120)
@given(raw=damaged(*FORMS), columns=st.sampled_from(["", "1,2,3", "path,path_other,label"]), swap=st.booleans())
def test_damaged_trial_lists_of_any_format(folder, raw, columns, swap):
    path = folder / "list"
    path.write_bytes(raw)
    named = answer(lambda: read_trial_list(path, columns, swap), path, 10_000_000)
    if named is not None:
        trials = named.renamed({name: name for name in named.lines}, "x")
        assert trials.enroll and len(trials.enroll) == len(trials.test) == len(trials.is_target)
        assert set(trials.enroll) | set(trials.test) == set(named.lines)
        assert all(0 < line <= raw.count(b"\n") + raw.count(b"\r") + 1 for line in named.lines.values())


@fuzz(80)
@given(raw=damaged(TRIALS), table=st.none() | damaged(b"m1 a-1 a-2\nm2 b\n"))
def test_trials_accepted_by_lint_trials_are_read(folder, capsys, monkeypatch, raw, table):
    place = folder / "lint"
    place.mkdir(exist_ok=True)
    (place / "utt2spk").write_text("a-1 a\na-2 a\nb b\nä-3 ä\n")
    (place / "trials").write_bytes(raw)
    (place / "trials.enroll").unlink(missing_ok=True)
    if table is not None:
        (place / "trials.enroll").write_bytes(table)
    monkeypatch.setattr("sys.argv", ["lint_trials.py", str(place / "trials")])
    with pytest.raises(SystemExit) as ended:
        utils_module("lint_trials").main()
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith(f"{place}/trials") and line.isprintable() for line in lines)
    if ended.value.code == 0:
        trials = read_trials(place / "trials")
        assert set(trials.is_target.tolist()) == {True, False}
        assert table is None or set(trials.enroll) <= set(read_enroll_map(place / "trials.enroll"))


GOOD = {"utt2spk": "a-1 a\na-2 a\nä-3 ä\n", "spk2utt": "a a-1 a-2\nä ä-3\n", "wav.scp": "a-1 /x\na-2 y z |\nä-3 z\n",
        "utt2dur": "a-1 1.5\na-2 2\nä-3 1e1\n", "utt2num_frames": "a-1 15\na-2 2\nä-3 1\n", "spk2gender": "a m\nä f\n",
        "trials": "a-1 a-2 target\na-1 ä-3 nontarget\n"}
CUTS = {**GOOD, "wav.scp": "r1 /x\nr2 /y\n", "segments": "a-1 r1 0 1.5\na-2 r1 1.5 3\nä-3 r2 0 1\n",
        "reco2dur": "r1 3\nr2 1\n"}


@pytest.mark.slow
@fuzz(150)
@given(data=st.data(), kind=st.sampled_from([GOOD, CUTS]))
def test_directories_accepted_by_the_validator_are_read(folder, data, kind):
    """One file is damaged, and each fault is one line that names a file of the folder."""
    validate = utils_module("validate_data_dir").validate
    place = folder / "data"
    place.mkdir(exist_ok=True)
    (place / "segments").unlink(missing_ok=True)
    (place / "reco2dur").unlink(missing_ok=True)
    name = data.draw(st.sampled_from(sorted(kind)))
    for other, text in kind.items():
        (place / other).write_bytes(data.draw(damaged(text.encode())) if other == name else text.encode())
    faults = validate(place).found
    lines = [line for found in faults.values() for line in found]
    assert all(line.startswith(f"{place}/") and "\n" not in line and line.isprintable() for line in lines)
    if not faults:
        read_sources(place, allow_pipes=True)
        utt2spk = read_table(place / "utt2spk", one_word=True)
        assert all_ids(utt2spk, utt2spk.values())
        assert read_trials(place / "trials")


@fuzz(100)
@given(raw=damaged(GOOD["utt2spk"].encode()), gender=damaged(GOOD["spk2gender"].encode()),
       session=st.none() | damaged(b"a-1 x\na-2 -y\n\xc3\xa4-3 x\n"))
def test_make_trials_reads_or_refuses_damaged_tables(folder, capsys, raw, gender, session):
    speakers_of = utils_module("make_trials").Speakers
    (folder / "utt2spk").write_bytes(raw)
    (folder / "spk2gender").write_bytes(gender)
    (folder / "utt2session").write_bytes(session or b"")
    try:
        speakers = speakers_of(folder, session is not None)
    except SystemExit:
        assert capsys.readouterr().err.startswith(f"{folder}/")
    else:
        assert all_ids(speakers.spk2utt, *speakers.spk2utt.values())
        for spk, utts in speakers.spk2utt.items():
            groups = speakers.groups(spk)
            assert sorted(utt for group in groups for utt in group) == sorted(utts)
            assert session is not None or len(groups) == len(utts)
