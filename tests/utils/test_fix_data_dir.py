# SPDX-License-Identifier: Apache-2.0
"""utils/fix_data_dir.py and combine_data.py give valid data directories."""

import subprocess
import sys

import pytest


def run(root, program, *args):
    return subprocess.run([sys.executable, root / "utils" / program, *map(str, args)], capture_output=True, text=True)


def write(folder, **tables):
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def text_of(folder, name):
    return (folder / name).read_text()


def test_fix_keeps_what_all_tables_have(root, tmp_path):
    data = write(tmp_path / "data", utt2spk="b-1\tb\na-2 a\na-1 a\na-1 a\nc-1 c\r\n", spk2gender="a f\nb m\nc m\nd m\n",
                 wav_scp="a-1 /x y.wav\nb-1 /b.wav\na-2 /a2.wav", utt2dur="a-2 1.0\na-1 2.0\nc-1 3.0\nb-1 1.5\n",
                 cuts_jsonl="{}\n", spk2age="b 4\nd 5\n", utt2codec="c-1 mp3\na-2 opus\n")
    done = run(root, "fix_data_dir.py", data)
    assert text_of(data, "spk2age") == "b 4\n" and text_of(data, "utt2codec") == "a-2 opus\n", "tables of some"
    assert done.returncode == 0 and "kept 3 of 4 utterances" in done.stderr and "cuts.jsonl had other" in done.stderr
    assert text_of(data, "utt2spk") == "a-1 a\na-2 a\nb-1 b\n" and text_of(data, "spk2utt") == "a a-1 a-2\nb b-1\n"
    assert text_of(data, "wav.scp") == "a-1 /x y.wav\na-2 /a2.wav\nb-1 /b.wav\n"
    assert text_of(data, "spk2gender") == "a f\nb m\n" and "c-1 c" in text_of(data / ".backup", "utt2spk")
    assert not (data / "cuts.jsonl").exists()
    assert run(root, "validate_data_dir.py", data).returncode == 0
    before = {path.name: path.read_text() for path in data.iterdir() if path.is_file()}
    assert run(root, "fix_data_dir.py", data).returncode == 0
    assert before == {path.name: path.read_text() for path in data.iterdir() if path.is_file()}


def test_fix_reads_what_editors_and_windows_write(root, tmp_path):
    """A byte order mark was part of the first id, whose utterance was removed."""
    data = write(tmp_path / "data", utt2spk="\ufeffa-1 a\r\nb-1 b\r\n \r\n", wav_scp="\ufeffb-1 /b.wav\na-1 /a.wav")
    done = run(root, "fix_data_dir.py", data)
    assert done.returncode == 0 and done.stderr == f"fix_data_dir.py: kept 2 of 2 utterances of {data}\n"
    assert text_of(data, "utt2spk") == "a-1 a\nb-1 b\n" and text_of(data, "wav.scp") == "a-1 /a.wav\nb-1 /b.wav\n"


@pytest.mark.parametrize("line", ["c-1", "c-1\u00a0c", "a-1 b"])
def test_fix_states_which_lines_it_leaves_out(root, tmp_path, line):
    data = write(tmp_path / "data", utt2spk=f"a-1 a\n{line}\n", wav_scp="a-1 /a.wav\nc-1 /c.wav\n")
    done = run(root, "fix_data_dir.py", data)
    assert done.returncode == 0 and f"{data}/utt2spk: left out 1 of 2 lines, which have no value or" in done.stderr


@pytest.mark.parametrize(("program", "name"), [
    ("fix_data_dir.py", "wav.scp"), ("fix_data_dir.py", "utt2spk"), ("subset_data_dir.py", "wav.scp"),
    ("subset_data_dir.py", "utt2spk"), ("combine_data.py", "wav.scp"), ("validate_data_dir.py", "wav.scp")])
def test_tables_that_are_not_utf8_are_one_line(root, tmp_path, program, name):
    data = write(tmp_path / "data", utt2spk="a-1 a\nb-1 b\n", wav_scp="a-1 /a.wav\nb-1 /b.wav\n")
    (data / name).write_bytes((data / name).read_bytes().replace(b" b", b" \xffb").replace(b"/b", b"/\xffb"))
    out = tmp_path / "out"
    folders = {"subset_data_dir.py": ("--per-spk", 1, data, out), "combine_data.py": (out, data)}
    done = run(root, program, *folders.get(program, (data,)))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{data}/{name}:2: not UTF-8 text" in done.stderr


def test_fix_with_segments(root, tmp_path):
    data = write(tmp_path / "data", utt2spk="a-1 a\na-2 a\nb-1 b\n", wav_scp="r2 /2.wav\nr1 /1.wav\nr3 /3.wav\n",
                 segments="a-1 r1 0 1\na-2 r9 0 1\nb-1 r2 0 -1\n")
    assert run(root, "fix_data_dir.py", data).returncode == 0
    assert text_of(data, "segments") == "a-1 r1 0 1\nb-1 r2 0 -1\n"
    assert text_of(data, "wav.scp") == "r1 /1.wav\nr2 /2.wav\n"
    assert run(root, "validate_data_dir.py", data).returncode == 0


def test_nothing_in_common_changes_nothing(root, tmp_path):
    data = write(tmp_path / "data", utt2spk="a-1 a\n", wav_scp="b-1 /b.wav\n")
    done = run(root, "fix_data_dir.py", data)
    assert done.returncode == 1
    assert done.stderr == f"fix_data_dir.py: {data}: no utterance is in all of utt2spk, wav.scp\n"
    assert text_of(data, "utt2spk") == "a-1 a\n"


def test_combine(root, tmp_path):
    one = write(tmp_path / "one", utt2spk="b-1 b\n", wav_scp="b-1 /b.wav\n", utt2dur="b-1 1.0\n", spk2gender="b f\n",
                utt2codec="b-1 mp3\n")
    other = write(tmp_path / "other", utt2spk="a-1 a\nb-2 b\n", wav_scp="a-1 /a.wav\nb-2 /b2.wav\n",
                  spk2gender="a m\nb f\n", utt2codec="a-1 opus\n")
    out = write(tmp_path / "out", utt2dur="stale 1\n", cuts_jsonl="stale\n", spk2age="stale 1\n")
    assert run(root, "combine_data.py", out, one, other).returncode == 0
    assert text_of(out, "utt2spk") == "a-1 a\nb-1 b\nb-2 b\n" and text_of(out, "spk2utt") == "a a-1\nb b-1 b-2\n"
    assert text_of(out, "spk2gender") == "a m\nb f\n" and not (out / "utt2dur").exists()
    assert text_of(out, "utt2codec") == "a-1 opus\nb-1 mp3\n" and not (out / "spk2age").exists()
    assert not (out / "cuts.jsonl").exists() and run(root, "validate_data_dir.py", out).returncode == 0


@pytest.mark.parametrize(("tables", "why"), [
    ({"utt2spk": "b-1 b\n", "wav_scp": "b-1 /other.wav\n"}, "wav.scp:1: b-1 has another line in another directory"),
    ({"utt2spk": "c-1 c\n", "wav_scp": "r /c.wav\n", "segments": "c-1 r 0 1\n"}, "segments: no such file, but another"),
    ({"utt2spk": "c-1 c x\n", "wav_scp": "c-1 /c.wav\n"}, "utt2spk:1: expected 2 fields, got 3"),
    ({"utt2spk": "c-1 c\n"}, "wav.scp: no such file")])
def test_directories_that_cannot_be_joined(root, tmp_path, tables, why):
    one = write(tmp_path / "one", utt2spk="b-1 b\n", wav_scp="b-1 /b.wav\n")
    other = write(tmp_path / "other", **tables)
    done = run(root, "combine_data.py", tmp_path / "out", one, other)
    assert done.returncode == 1 and why in done.stderr and not (tmp_path / "out").exists()
