# SPDX-License-Identifier: Apache-2.0
"""utils/make_trials.py: properties of the list that hold for any data directory."""

import collections
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

UTILS = Path(__file__).parents[2] / "utils"


def write_data(folder: Path, sizes: dict[str, int], genders: dict[str, str] | None = None) -> Path:
    """A data directory of speakers with these numbers of utterances."""
    folder.mkdir(exist_ok=True)
    utts = [(f"{spk}-{i:04}", spk) for spk in sorted(sizes) for i in range(sizes[spk])]
    (folder / "utt2spk").write_text("".join(f"{utt} {spk}\n" for utt, spk in utts))
    (folder / "spk2utt").write_text("".join(
        f"{spk} {' '.join(utt for utt, owner in utts if owner == spk)}\n" for spk in sorted(sizes)))
    (folder / "wav.scp").write_text("".join(f"{utt} x.wav\n" for utt, _ in utts))
    if genders:
        (folder / "spk2gender").write_text("".join(f"{spk} {genders[spk]}\n" for spk in sorted(sizes)))
    return folder


def call(folder: Path, *options, out: str = "trials", **environment):
    return subprocess.run([sys.executable, UTILS / "make_trials.py", *map(str, options), folder, folder / out],
                          capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def trials(folder: Path, *options, **environment) -> list[tuple[str, str, str]]:
    done = call(folder, *options, **environment)
    assert done.returncode == 0, done.stderr
    lines = (folder / "trials").read_text().splitlines()
    return [tuple(line.split(" ")) for line in lines]  # type: ignore[misc]


def spk(utt: str) -> str:
    return utt.rsplit("-", 1)[0]


SETS = {
    "even": {f"s{i:02}": 20 for i in range(10)},
    "uneven": {"a": 300, "b": 1, "c": 2, "d": 3, "e": 40},
    "tiny": {"a": 2, "b": 1},
    "scarce": {"a": 100, "b": 1},        # 160 target pairs drawn, but only 100 nontarget pairs exist
}


@pytest.mark.parametrize("name", SETS)
def test_properties_of_every_list(tmp_path, name):
    folder = write_data(tmp_path / "data", SETS[name])
    rows = trials(folder)
    kinds = collections.Counter(kind for _, _, kind in rows)
    assert kinds["target"] == kinds["nontarget"] > 0
    assert all(enroll != test for enroll, test, _ in rows)
    assert all((spk(enroll) == spk(test)) == (kind == "target") for enroll, test, kind in rows)
    assert len({frozenset(row[:2]) for row in rows}) == len(rows)
    assert len(list(itertools.groupby(rows, key=lambda row: row[0]))) == len({row[0] for row in rows})   # grouped
    most = collections.Counter(spk(enroll) for enroll, _, kind in rows if kind == "target")
    assert max(most.values()) <= 160
    valid = subprocess.run([sys.executable, UTILS / "validate_data_dir.py", folder], capture_output=True, text=True)
    assert valid.returncode == 0, valid.stderr


def test_all_pairs_are_drawn_if_they_are_few(tmp_path):
    rows = trials(write_data(tmp_path / "data", {"a": 5, "b": 8, "c": 8}))
    for name, size in (("a", 5), ("b", 8), ("c", 8)):
        pairs = {tuple(sorted(row[:2])) for row in rows if row[2] == "target" and spk(row[0]) == name}
        assert pairs == set(itertools.combinations([f"{name}-{i:04}" for i in range(size)], 2))


def test_target_pairs_are_drawn_evenly(tmp_path):
    """Each utterance is in about as many target trials as any other, on both sides."""
    rows = trials(write_data(tmp_path / "data", {"a": 400, "b": 400}), "--targets-per-speaker", 8000)
    for side in (0, 1):
        counts = collections.Counter(row[side] for row in rows if row[2] == "target" and spk(row[0]) == "b")
        assert len(counts) == 400 and max(counts.values()) < 38          # 20 expected; 38 is 4 sigma off


def test_nontargets_come_from_all_speakers(tmp_path):
    rows = trials(write_data(tmp_path / "data", SETS["even"]))
    counts = collections.Counter(spk(test) for _, test, kind in rows if kind == "nontarget")
    assert set(counts) == set(SETS["even"]) and max(counts.values()) < 2 * min(counts.values())


def test_same_seed_same_list(tmp_path):
    folder = write_data(tmp_path / "data", SETS["uneven"])
    first = trials(folder, PYTHONHASHSEED="1")
    assert trials(folder, PYTHONHASHSEED="2") == first == trials(folder, "--seed", 1)
    assert trials(folder, "--seed", 2) != first


def test_number_of_targets_per_speaker(tmp_path):
    rows = trials(write_data(tmp_path / "data", SETS["even"]), "--targets-per-speaker", 7)
    assert collections.Counter(spk(row[0]) for row in rows if row[2] == "target") == dict.fromkeys(SETS["even"], 7)


GENDERS = {name: "mf"[i % 2] for i, name in enumerate(SETS["even"])}


@pytest.mark.parametrize("options, share", [([], 0.5), (["--same-gender"], 1.0)])
def test_half_of_the_nontargets_are_of_the_same_gender(tmp_path, options, share):
    rows = trials(write_data(tmp_path / "data", SETS["even"], GENDERS), *options)
    same = [GENDERS[spk(enroll)] == GENDERS[spk(test)] for enroll, test, kind in rows if kind == "nontarget"]
    assert sum(same) / len(same) == share


def test_one_gender_only_still_gives_a_list(tmp_path):
    folder = write_data(tmp_path / "data", SETS["even"], dict.fromkeys(SETS["even"], "f"))
    assert len(trials(folder)) == 2 * 10 * 160
    assert len(trials(folder, "--same-gender")) == 2 * 10 * 160


def test_targets_left_out_are_reported(tmp_path):
    done = call(write_data(tmp_path / "data", SETS["scarce"]))
    assert "target trials: too few nontarget" in done.stderr


def write_sessions(folder: Path, size: int = 4) -> dict[str, str]:
    """Sessions of `size` consecutive utterances; all speakers share the session names."""
    sessions = {utt: f"-v{int(utt[-4:]) // size}" for utt in column(folder / "utt2spk")}
    (folder / "utt2session").write_text("".join(f"{utt} {session}\n" for utt, session in sessions.items()))
    return sessions


def column(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


def models_of(folder: Path) -> dict[str, list[str]]:
    lines = (folder / "trials.enroll").read_text().splitlines()
    assert lines == sorted(lines)
    return {model: utts for model, *utts in map(str.split, lines)}


@pytest.mark.parametrize("size", [1, 3, 19])
def test_different_session_gives_all_pairs_across_sessions(tmp_path, size):
    folder = write_data(tmp_path / "data", {"a": 20, "b": 20, "c": 1})
    sessions = write_sessions(folder, size)
    found = {frozenset(row[:2]) for row in trials(folder, "--different-session", "--targets-per-speaker", 999)
             if row[2] == "target"}
    assert found == {frozenset(pair) for pair in itertools.combinations(sessions, 2)
                     if spk(pair[0]) == spk(pair[1]) and sessions[pair[0]] != sessions[pair[1]]}


def test_targets_across_sessions_are_drawn_evenly(tmp_path):
    folder = write_data(tmp_path / "data", {"a": 400, "b": 400})
    sessions = write_sessions(folder, 100)
    rows = [row for row in trials(folder, "--different-session", "--targets-per-speaker", 8000) if row[2] == "target"]
    assert all(sessions[enroll] != sessions[test] for enroll, test, _ in rows)
    for side in (0, 1):
        counts = collections.Counter(row[side] for row in rows if spk(row[0]) == "b")
        assert len(counts) == 400 and max(counts.values()) < 38          # 20 expected; 38 is 4 sigma off


def test_number_of_targets_is_spread_over_speakers(tmp_path):
    folder = write_data(tmp_path / "data", {"a": 3, "b": 30, "c": 30, "d": 1})     # 3, 435, 435, 0 pairs
    for wanted, expected in ((4, [1, 1, 2]), (100, [3, 48, 49]), (873, [3, 435, 435])):
        rows = trials(folder, "--num-targets", wanted)
        counts = collections.Counter(spk(row[0]) for row in rows if row[2] == "target")
        assert [counts[name] for name in "abc"] == expected
    assert "874 target trials requested, only 873 are possible" in call(folder, "--num-targets", 874).stderr


@pytest.mark.parametrize("options", [[], ["--enroll-utts", 2]])
def test_several_nontargets_per_target(tmp_path, options):
    folder = write_data(tmp_path / "data", SETS["even"], GENDERS)
    rows = trials(folder, "--nontargets", 3, "--targets-per-speaker", 7, *options)
    assert len({frozenset(row[:2]) for row in rows}) == len(rows) == 10 * 7 * 4
    for start in range(0, len(rows), 4):
        assert [kind for _, _, kind in rows[start:start + 4]] == ["target"] + 3 * ["nontarget"]
        assert len({enroll for enroll, _, _ in rows[start:start + 4]}) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_target_without_all_its_nontargets_is_left_out(tmp_path, seed):
    folder = write_data(tmp_path / "data", {"a": 10, "b": 3})           # 3 nontarget trials of each utterance of a
    rows = trials(folder, "--nontargets", 2, "--seed", seed)
    assert len({frozenset(row[:2]) for row in rows}) == len(rows)
    assert [kind for _, _, kind in rows] == ["target", "nontarget", "nontarget"] * (len(rows) // 3)
    assert all(len({enroll for enroll, _, _ in rows[start:start + 3]}) == 1 for start in range(0, len(rows), 3))
    assert all((spk(enroll) == spk(test)) == (kind == "target") for enroll, test, kind in rows)


@pytest.mark.parametrize("size", [1, 3, 10])
@pytest.mark.parametrize("by_session", [False, True])
def test_models_and_tests_share_no_utterance(tmp_path, size, by_session):
    """by_session: nor a session of a speaker."""
    folder = write_data(tmp_path / "data", {"a": 300, "b": 1, "c": 14, "d": 40, "e": 9})
    sessions = write_sessions(folder) if by_session else {}
    rows = trials(folder, "--enroll-utts", size, *(["--different-session"] if by_session else []))
    models, tests = models_of(folder), {test for _, test, _ in rows}
    assert {model for model, _, _ in rows} == set(models)
    enrolls = {spk(model) for model in models}
    assert enrolls == {*"acd"} | ({"e"} if size < 9 else set())
    assert {utt for utt in column(folder / "utt2spk") if spk(utt) not in enrolls} <= tests    # all are impostors
    assert all(len(set(utts)) == size and {spk(utt) for utt in utts} == {spk(model)} for model, utts in models.items())
    enrolled = [utt for utts in models.values() for utt in utts]
    assert len(set(enrolled)) == len(enrolled) and not tests & set(enrolled)
    sides = [{(spk(utt), sessions.get(utt, utt)) for utt in utts} for utts in (enrolled, tests)]
    assert not sides[0] & sides[1]
    assert all((spk(enroll) == spk(test)) == (kind == "target") for enroll, test, kind in rows)
    kinds = collections.Counter(kind for _, _, kind in rows)
    assert kinds["target"] == kinds["nontarget"] and len({row[:2] for row in rows}) == len(rows)
    counts = collections.Counter(spk(row[0]) for row in rows if row[2] == "target")
    assert counts["a"] == 160 and min(counts.values()) >= 2


def test_models_use_the_larger_session_if_sessions_are_uneven(tmp_path):
    folder = write_data(tmp_path / "data", {"a": 6, "b": 6})
    (folder / "utt2session").write_text("".join(f"{s}-{i:04} {i // 5}\n" for s in "ab" for i in range(6)))
    for seed in range(5):
        rows = trials(folder, "--enroll-utts", 5, "--different-session", "--seed", seed)
        assert sorted(rows) == [(f"{e}-m001", f"{t}-0005", "target" if e == t else "nontarget")
                                for e in "ab" for t in "ab"]


def test_the_table_of_models_is_replaced_with_its_list(tmp_path):
    folder = write_data(tmp_path / "data", SETS["even"])
    first = trials(folder, "--enroll-utts", 3, PYTHONHASHSEED="1"), models_of(folder)
    assert first == (trials(folder, "--enroll-utts", 3, PYTHONHASHSEED="2"), models_of(folder))
    trials(folder)
    assert not (folder / "trials.enroll").exists()


@pytest.mark.parametrize("sizes, genders, options, why", [
    ({"a": 5}, None, [], "data/utt2spk: has only one speaker"),
    ({"a": 1, "b": 1}, None, [], "data/utt2spk: no speaker has two utterances"),
    ({"a": 2, "b": 2}, None, ["--same-gender"], "data/spk2gender: no such file; --same-gender needs it"),
    ({"a": 2, "b": 2}, {"a": "m", "b": "f"}, ["--same-gender"], "data/spk2gender: no gender has two speakers"),
    ({"a": 2, "b": 2}, None, ["--different-session"], "data/utt2session: no such file"),
    ({"a": 2, "b": 3}, None, ["--enroll-utts", 3], "data/utt2spk: no speaker has 3 utterances to enroll and others"),
])
def test_impossible_requests_are_one_line_errors(tmp_path, sizes, genders, options, why):
    folder = write_data(tmp_path / "data", sizes, genders)
    done = call(folder, *options)
    assert done.returncode == 1 and why in done.stderr and done.stderr.count("\n") == 1
    assert not (folder / "trials").exists()


def test_errors_name_file_and_line(tmp_path):
    assert "utt2spk: no such file" in call(tmp_path).stderr
    (tmp_path / "utt2spk").write_text("a-1 a\na-2\n")
    done = call(tmp_path)
    assert done.returncode == 1 and "utt2spk:2: expected 2 fields, got 1" in done.stderr
    folder = write_data(tmp_path / "data", {"a": 2, "b": 2}, {"a": "m", "b": "f"})
    (folder / "spk2gender").write_text("a m\n")
    assert "spk2gender: b of utt2spk is missing" in call(folder).stderr


def test_session_errors_name_the_file(tmp_path):
    folder = write_data(tmp_path / "data", {"a": 2, "b": 2})
    (folder / "utt2session").write_text("a-0000 x\na-0001 x\nb-0000 y\nb-0001 y\n")
    assert "data/utt2session: no speaker has two sessions" in call(folder, "--different-session").stderr
    (folder / "utt2session").write_text("a-0000 x\nb-0000 y\nb-0001 z\n")
    assert "data/utt2session: a-0001 of utt2spk is missing" in call(folder, "--different-session").stderr


def test_a_model_name_that_is_an_utterance_is_an_error(tmp_path):
    folder = write_data(tmp_path / "data", {"a": 4, "b": 4})
    text = (folder / "utt2spk").read_text()
    (folder / "utt2spk").write_text(text.replace("a-0003", "a-m001"))
    assert "data/utt2spk: a-m001 would also be the name of a model" in call(folder, "--enroll-utts", 2).stderr
    assert not (folder / "trials").exists() and not (folder / "trials.enroll").exists()


@pytest.mark.parametrize("option", ["--targets-per-speaker", "--num-targets", "--nontargets", "--enroll-utts"])
def test_numbers_below_one_are_refused(tmp_path, option):
    assert call(write_data(tmp_path / "data", SETS["tiny"]), option, 0).returncode == 2


def test_output_folder_is_created_without_temporary_files(tmp_path):
    folder = write_data(tmp_path / "data", SETS["even"])
    assert call(folder, out="trials/new/dev").returncode == 0
    assert [path.name for path in (folder / "trials/new").iterdir()] == ["dev"]
    assert call(folder, out="utt2spk/x").returncode == 1
