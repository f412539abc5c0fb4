# SPDX-License-Identifier: Apache-2.0
"""utils/validate_data_dir.py: a good directory passes; each fault is reported with its file and line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "utils/validate_data_dir.py"
UTTS = ["a-1", "a-2", "b-1", "b-2", "c-1"]
GOOD = {
    "utt2spk": "a-1 a\na-2 a\nb-1 b\nb-2 b\nc-1 c\n",
    "spk2utt": "a a-1 a-2\nb b-1 b-2\nc c-1\n",
    "wav.scp": "a-1 /x/1.wav\na-2 /x/2 2.wav\nb-1 sox 3.mp3 -t wav - |\nb-2 x/4.wav\nc-1 x/5.wav\n",
    "utt2dur": "".join(f"{utt} 1.5\n" for utt in UTTS),
    "utt2num_frames": "".join(f"{utt} 150\n" for utt in UTTS),
    "spk2gender": "a m\nb f\nc m\n",
    "trials": "a-1 a-2 target\na-1 b-1 nontarget\nb b-2 target\n",     # an enrollment may be a speaker
    "trials_dir/E": "c-1 a-1 nontarget\n",
}
SEGMENTS = {
    "wav.scp": "r1 x/1.wav\nr2 x/2.wav\n",
    "segments": "a-1 r1 0.0 1.5\na-2 r1 1.5 3\nb-1 r2 0 1e1\nb-2 r2 2 3\nc-1 r1 0 1\n",
    "reco2dur": "r1 10\nr2 12.5\n",
}


def write(folder: Path, files: dict[str, str | None]) -> Path:
    for name, text in files.items():
        if text is None:
            (folder / name).unlink()
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode("latin-1"))
    return folder


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data", GOOD)


def validate(folder: Path, *options: str | Path) -> tuple[int, str, list[str]]:
    done = subprocess.run([sys.executable, PROGRAM, *options, folder], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr.replace(f"{folder}/", "").splitlines()


def test_a_good_directory_passes(data):
    assert validate(data) == (0, f"Successfully validated data-directory {data}\n", [])


def test_a_good_directory_with_segments_passes(data):
    write(data, SEGMENTS)
    assert validate(data)[::2] == (0, [])


@pytest.mark.parametrize("name, text, faults", [
    ("utt2spk", None, ["utt2spk: no such file"]),
    ("spk2utt", None, ["spk2utt: no such file"]),
    ("wav.scp", None, ["wav.scp: no such file"]),
    ("utt2spk", "", ["utt2spk: is empty"]),
    ("utt2spk", GOOD["utt2spk"].replace("a-2 a", "a-2 a x"), ["utt2spk:2: expected 2 fields, got 3"]),
    ("utt2spk", "b-1 b\na-1 a\na-2 a\nb-2 b\nc-1 c\n", ["utt2spk:2: a-1 is not in order; sort with LC_ALL=C"]),
    ("utt2spk", GOOD["utt2spk"].replace("b-2 b", "b-1 b"), ["utt2spk:4: b-1 appears twice"]),
    ("utt2spk", GOOD["utt2spk"].replace("b-1 b", "b-1 b\r"), ["utt2spk:3: carriage return"]),
    ("utt2spk", GOOD["utt2spk"].replace("b-1 b\n", "b-1 b\n\n"), ["utt2spk:4: empty line"]),
    ("utt2spk", GOOD["utt2spk"].replace("b-1", "b-\xff"), ["utt2spk:3: not UTF-8 text"]),
    ("utt2spk", GOOD["utt2spk"][:-1], ["utt2spk:5: the last line does not end in a newline"]),
    ("spk2utt", "a a-1\nb b-1 b-2\nc c-1\n", ["spk2utt:1: a has other utterances than in utt2spk: a-2 is in only"]),
    ("spk2utt", "a a-2 a-1\nb b-1 b-2\nc c-1\n", ["spk2utt:1: a has other utterances than in utt2spk: another order"]),
    ("spk2utt", "a a-1 a-2\nc c-1\n", ["spk2utt: b of utt2spk is missing"]),
    ("spk2utt", GOOD["spk2utt"] + "d d-1\n", ["spk2utt:4: d is not in utt2spk"]),
    ("wav.scp", GOOD["wav.scp"].replace("b-2 ", "b-3 "), ["wav.scp:4: b-3 is not in utt2spk",
                                                          "wav.scp: b-2 of utt2spk is missing"]),
    ("wav.scp", GOOD["wav.scp"].replace("/x/1.wav", "~/1.wav"), ["wav.scp:1: a-1 is ~/1.wav; write it without '~'"]),
    ("wav.scp", GOOD["wav.scp"].replace("/x/1.wav", "|"), ["wav.scp:1: a-1 is '|', not a file"]),
    ("wav.scp", GOOD["wav.scp"].replace("/x/1.wav", "-"), ["wav.scp:1: a-1 is '-', not a file"]),
    ("wav.scp", GOOD["wav.scp"].replace("b-2 x/4.wav", "b-2"), ["wav.scp:4: expected at least 2 fields, got 1",
                                                                "wav.scp: b-2 of utt2spk is missing"]),
    ("utt2dur", GOOD["utt2dur"].replace("b-1 1.5", "b-1 0"), ["utt2dur:3: expected a number of seconds > 0, got '0'"]),
    ("utt2dur", GOOD["utt2dur"].replace("b-1 1.5", "b-1 nan"), ["utt2dur:3: expected a number"]),
    ("utt2dur", GOOD["utt2dur"].replace("c-1 1.5\n", ""), ["utt2dur: c-1 of utt2spk is missing"]),
    ("utt2num_frames", GOOD["utt2num_frames"].replace("a-1 150", "a-1 1.5"), ["utt2num_frames:1: expected a whole"]),
    ("utt2num_frames", GOOD["utt2num_frames"].replace("a-1 150", f"a-1 {'9' * 5000}x"), ["utt2num_frames:1: expected"]),
    ("utt2num_frames", GOOD["utt2num_frames"].replace("a-1 150", "a-1 \xc2\xb2"), ["utt2num_frames:1: expected"]),
    ("utt2dur", GOOD["utt2dur"].replace("b-1 1.5", "b-1 1_5"), ["utt2dur:3: expected a number of seconds > 0"]),
    ("utt2spk", GOOD["utt2spk"].replace("b-1 b", "b'1 b"), ["utt2spk:3: \"b'1\" cannot be an id"]),
    ("utt2spk", GOOD["utt2spk"].replace("b-1 b", "b-1 b/.."), ["utt2spk:3: 'b/..' cannot be an id"]),
    ("utt2spk", GOOD["utt2spk"].replace("b-1 b", "b-1\xc2\xa0b b"), ["utt2spk:3: control character or unusual space "
                                                                    "(U+00A0)"]),
    ("utt2spk", "\xef\xbb\xbf" + GOOD["utt2spk"], ["utt2spk:1: control character or unusual space (U+FEFF)"]),
    ("wav.scp", GOOD["wav.scp"].replace("/x/1.wav", "/x/\x1b[31m1.wav"), ["wav.scp:1: control character",
                                                                        "wav.scp: a-1 of utt2spk is missing"]),
    ("trials", "a-1 a-2 target\n-1 b-1 nontarget\n", ["trials:2: '-1' cannot be an id"]),
    ("spk2gender", "a m\nb x\nc f\n", ["spk2gender:2: expected m or f, got 'x'"]),
    ("spk2gender", "a m\nb f\n", ["spk2gender: c of utt2spk is missing"]),
    ("utt2lang", "a-1 en\n", [f"utt2lang: {utt} of utt2spk is missing" for utt in UTTS[1:]]),
    ("trials", "a-1 a-2\n", ["trials:1: expected 3 fields, got 2"]),
    ("trials", "a-1 a-2 target\na-1  b-1 nontarget\n", ["trials:2: fields must be separated by exactly one space"]),
    ("trials", "a-1 a-2 Target\n", ["trials:1: expected target or nontarget, got 'Target'"]),
    ("trials", "a-1 c target\n", ["trials:1: c is not in utt2spk"]),        # a test is an utterance
    ("trials_dir/E", "z-1 a-1 target\n", ["trials_dir/E:1: z-1 is not in utt2spk"]),
    ("trials_x", "1 a-1 a-2 \n", ["trials_x:1: fields must be", "trials_x:1: expected target", "trials_x:1: 1 is not"]),
])
def test_each_fault_is_reported(data, name, text, faults):
    code, out, lines = validate(write(data, {name: text}))
    assert code == 1 and out == ""
    own = [line for line in lines if line.startswith(name)]         # a wrong utt2spk also contradicts other tables
    assert len(own) == len(faults) and all(line.startswith(fault) for line, fault in zip(own, faults)), lines
    assert name == "utt2spk" or own == lines


MODELS = {"trials_m": "a-m1 a-2 target\na-m1 b-1 nontarget\n", "trials_m.enroll": "a-m1 a-1\nb-m1 b-1 b-2\n"}


def test_a_list_with_models_passes(data):
    assert validate(write(data, {**MODELS, "utt2session": "".join(f"{utt} -x\n" for utt in UTTS)}))[::2] == (0, [])


def test_the_enroll_side_of_lists_may_be_elsewhere(data, tmp_path):
    other = write(tmp_path / "other", {"utt2spk": "x-1 x\nx-2 x\n"})
    write(data, {"trials": "x-1 a-1 nontarget\n", "trials_m": "m a-1 nontarget\n", "trials_m.enroll": "m x-1 x-2\n",
                 "trials_dir/E": "x a-1 nontarget\n"})
    assert validate(data)[2] == [f"{fault} is not in utt2spk" for fault in (
        "trials:1: x-1", "trials_dir/E:1: x", "trials_m.enroll:1: x-1")]
    assert validate(data, "--enroll", other)[::2] == (0, [])
    write(data, {"trials": "a-1 x-1 nontarget\n"})
    assert validate(data, "--enroll", other)[2] == [f"trials:1: {utt} is not in utt2spk" for utt in ("a-1", "x-1")]


@pytest.mark.parametrize("name, text, fault", [
    ("trials_m", "a-1 a-2 target\n", "trials_m:1: a-1 is not in trials_m.enroll"),
    ("trials_m", "a-m1 a target\n", "trials_m:1: a is not in utt2spk"),
    ("trials_m.enroll", "a-m1 a-1 z\n", "trials_m.enroll:1: z is not in utt2spk"),
    ("trials_m.enroll", "a-m1 a-1 a-1\n", "trials_m.enroll:1: a-m1 has an utterance twice"),
    ("trials_m.enroll", "a-m1 a-1\nb-1 b-1\n", "trials_m.enroll:2: b-1 is also an utterance"),
    ("trials_m.enroll", "a-m1 a-1\nb-m1\n", "trials_m.enroll:2: expected at least 2 fields, got 1"),
    ("utt2session", "a-1 x\na-2 x\nb-1 x\nb-2 x\n", "utt2session: c-1 of utt2spk is missing"),
    ("utt2codec", "a-1 mp3\nz-1 mp3\n", "utt2codec:2: z-1 is not in utt2spk"),
    ("spk2age", "a 5\na-1 5\n", "spk2age:2: a-1 is not in utt2spk"),
])
def test_faults_of_models_and_sessions_are_reported(data, name, text, fault):
    assert validate(write(data, {**MODELS, name: text}))[2] == [fault]


@pytest.mark.parametrize("name, line, fault", [
    ("segments", "a-1 r1 0.0", "segments:1: expected 4 fields, or 5 with a channel, got 3"),
    ("segments", "a-1 r1 1.5 1.5", "segments:1: expected 0 <= start < end in seconds or -1, got 1.5 1.5"),
    ("segments", "a-1 r1 -1 1.5", "segments:1: expected 0 <= start"),
    ("segments", "a-1 r1 0 x", "segments:1: expected 0 <= start"),
    ("segments", "a-1 r1 . 1", "segments:1: expected 0 <= start"),
    ("segments", "a-1 r1 0.0.0 1", "segments:1: expected 0 <= start"),
    ("segments", "a-1 r1 0 1_0", "segments:1: expected 0 <= start"),
    ("segments", "a-1 ../r1 0 1", "segments:1: '../r1' cannot be an id"),
    ("segments", "a-1 r3 0 1", "wav.scp: r3 of segments is missing"),
    ("reco2dur", "r1 -10", "reco2dur:1: expected a number"),
    ("reco2dur", "r0 10", "reco2dur:1: r0 is not in wav.scp"),
])
def test_faults_of_segments_are_reported(data, name, line, fault):
    first, rest = SEGMENTS[name].split("\n", 1)
    assert first
    code, _, lines = validate(write(data, {**SEGMENTS, name: f"{line}\n{rest}"}))
    assert code == 1 and any(found.startswith(fault) for found in lines), lines


def test_an_order_that_is_not_by_speaker_is_reported(data):
    """Sorted by utterance but not by speaker: Kaldi's second sort, `sort -k2`, finds it."""
    files = {"utt2spk": "1 z\n2 a\n", "spk2utt": "a 2\nz 1\n", "wav.scp": "1 x\n2 y\n"}
    folder = write(data.parent / "other", files)
    assert subprocess.run(["sort", "-c", folder / "utt2spk"], env={**os.environ, "LC_ALL": "C"}).returncode == 0
    assert subprocess.run(["sort", "-c", "-k2", folder / "utt2spk"], env={**os.environ, "LC_ALL": "C"},
                          capture_output=True).returncode == 1
    assert validate(folder)[::2] == (1, ["utt2spk:2: 2 a is not in the order of speakers (sort -k2); start "
                                         "utterance ids with their speaker id"])


def test_tables_are_ordered_by_bytes(tmp_path):
    """The order of `LC_ALL=C sort`, also for non-ASCII letters and mixed case."""
    utts = ["B", "a", "a-", "a1", "\u00e9", "\uffee", "\U00010000", "Z\u0394", "_", "é\u0301"]
    ordered = subprocess.run(["sort"], input="\n".join(utts) + "\n", env={**os.environ, "LC_ALL": "C"}, text=True,
                             capture_output=True, check=True).stdout.split()
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("utt2spk", "spk2utt", "wav.scp"):
        (folder / name).write_text("".join(f"{utt} {utt}\n" for utt in ordered), encoding="utf-8")
    assert validate(folder)[::2] == (0, [])


def test_a_transcript_may_contain_joiners_and_no_break_spaces(data):
    text = "".join(f"{utt} क्\u200dष a\u00a0b\n" for utt in UTTS)
    (data / "text").write_text(text, encoding="utf-8")
    assert validate(data)[::2] == (0, [])


def test_faults_beyond_ten_are_counted(data):
    spks = "".join(f"spk{i:03} m\n" for i in range(100))
    lines = validate(write(data, {"spk2gender": spks}))[2]
    assert len(lines) == 11 and lines[-1] == "spk2gender: and 93 more faults"


def test_a_missing_folder_is_reported(data):
    shutil.rmtree(data)
    assert validate(data)[::2] == (1, [f"{data}: no such folder"])


@pytest.mark.parametrize("name", ["combine_data", "fix_data_dir", "lint_trials", "make_trials", "subset_data_dir",
                                  "validate_data_dir"])
def test_the_tools_need_neither_the_environment_nor_a_package(tmp_path, name):
    done = subprocess.run([sys.executable, "-E", "-S", PROGRAM.with_name(f"{name}.py"), "--help"], cwd=tmp_path,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
