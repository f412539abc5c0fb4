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
    """A data directory of speakers with so many utterances."""
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
def test_what_holds_of_every_list(tmp_path, name):
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


def test_all_pairs_if_they_are_few(tmp_path):
    rows = trials(write_data(tmp_path / "data", {"a": 5, "b": 8, "c": 8}))
    for name, size in (("a", 5), ("b", 8), ("c", 8)):
        pairs = {tuple(sorted(row[:2])) for row in rows if row[2] == "target" and spk(row[0]) == name}
        assert pairs == set(itertools.combinations([f"{name}-{i:04}" for i in range(size)], 2))


def test_target_pairs_are_drawn_evenly(tmp_path):
    """Each utterance is in about as many target trials as any other, on both sides."""
    rows = trials(write_data(tmp_path / "data", {"a": 400, "b": 400}), "--targets-per-speaker", 8000)
    for side in (0, 1):
        counts = collections.Counter(row[side] for row in rows if row[2] == "target" and spk(row[0]) == "b")
        assert len(counts) == 400 and max(counts.values()) < 38          # 20 expected, 38 lies 4 sigma off


def test_nontargets_come_from_all_speakers(tmp_path):
    rows = trials(write_data(tmp_path / "data", SETS["even"]))
    heard = collections.Counter(spk(test) for _, test, kind in rows if kind == "nontarget")
    assert set(heard) == set(SETS["even"]) and max(heard.values()) < 2 * min(heard.values())


def test_same_seed_same_list(tmp_path):
    folder = write_data(tmp_path / "data", SETS["uneven"])
    first = trials(folder, PYTHONHASHSEED="1")
    assert trials(folder, PYTHONHASHSEED="2") == first == trials(folder, "--seed", 1)
    assert trials(folder, "--seed", 2) != first


def test_targets_per_speaker(tmp_path):
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


def test_targets_left_out_are_counted(tmp_path):
    done = call(write_data(tmp_path / "data", SETS["scarce"]))
    assert "target trials left out" in done.stderr


@pytest.mark.parametrize("sizes, genders, options, why", [
    ({"a": 5}, None, [], "data/utt2spk: has one speaker only"),
    ({"a": 1, "b": 1}, None, [], "data/utt2spk: no speaker has two utterances"),
    ({"a": 2, "b": 2}, None, ["--same-gender"], "data/spk2gender: no such file, --same-gender needs it"),
    ({"a": 2, "b": 2}, {"a": "m", "b": "f"}, ["--same-gender"], "data/spk2gender: no gender has two speakers"),
])
def test_impossible_sets(tmp_path, sizes, genders, options, why):
    folder = write_data(tmp_path / "data", sizes, genders)
    done = call(folder, *options)
    assert done.returncode == 1 and why in done.stderr and done.stderr.count("\n") == 1
    assert not (folder / "trials").exists()


def test_wrong_input_is_named(tmp_path):
    assert "utt2spk: no such file" in call(tmp_path).stderr
    (tmp_path / "utt2spk").write_text("a-1 a\na-2\n")
    done = call(tmp_path)
    assert done.returncode == 1 and "utt2spk:2: expected 2 fields, got 1" in done.stderr
    folder = write_data(tmp_path / "data", {"a": 2, "b": 2}, {"a": "m", "b": "f"})
    (folder / "spk2gender").write_text("a m\n")
    assert "spk2gender: b of utt2spk is missing" in call(folder).stderr


def test_output_folder_is_made_and_nothing_else_stays(tmp_path):
    folder = write_data(tmp_path / "data", SETS["even"])
    assert call(folder, out="trials/new/dev").returncode == 0
    assert [path.name for path in (folder / "trials/new").iterdir()] == ["dev"]
    assert call(folder, out="utt2spk/x").returncode == 1
