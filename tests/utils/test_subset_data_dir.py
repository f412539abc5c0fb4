# SPDX-License-Identifier: Apache-2.0
"""utils/subset_data_dir.py: some utterances of each speaker, in a valid data directory."""

import subprocess
import sys

import pytest


@pytest.fixture
def data(tmp_path):
    """Two speakers of 7 and 2 utterances; tests may add segments of shared recordings."""
    def write(name, lines):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("".join(f"{line}\n" for line in lines))

    utts = [f"a-{i}" for i in range(7)] + ["b-0", "b-1"]
    write("utt2spk", [f"{u} {u[0]}" for u in utts])
    write("spk2utt", [f"{s} {' '.join(u for u in utts if u[0] == s)}" for s in "ab"])
    write("wav.scp", [f"{u} /audio/with two  spaces/{u}.wav" for u in utts])
    write("utt2dur", [f"{u} {i + 1}.5" for i, u in enumerate(utts)])
    write("spk2gender", ["a f", "b m"])
    write("spk2age", ["a 30", "b 40"])
    write("utt2codec", ["a-3 opus", "b-0 mp3", "b-1 mp3"])  # of some utterances
    return tmp_path / "data"


def run(root, *args, program="subset_data_dir.py"):
    return subprocess.run([sys.executable, root / "utils" / program, *map(str, args)], capture_output=True, text=True)


def keys(path):
    return [line.split()[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("num", "chosen"), [(1, "a-0 b-0"), (3, "a-0 a-2 a-4 b-0 b-1"),
                                             (9, "a-0 a-1 a-2 a-3 a-4 a-5 a-6 b-0 b-1")])
def test_takes_equal_steps_or_all_utterances_of_each_speaker(root, data, num, chosen):
    out = data.parent / "out"
    done = run(root, "--per-spk", num, data, out)
    assert done.returncode == 0, done.stderr
    for name in ("utt2spk", "wav.scp", "utt2dur"):
        assert keys(out / name) == chosen.split()
        assert set((out / name).read_text().splitlines()) <= set((data / name).read_text().splitlines())
    assert run(root, out, program="validate_data_dir.py").returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run(root, "--per-spk", num, data, out).returncode == 0
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_segments_keep_only_their_recordings(root, data):
    utts = keys(data / "utt2spk")
    (data / "segments").write_text("".join(f"{u} rec{i % 3} 0 1\n" for i, u in enumerate(utts)))
    (data / "wav.scp").write_text("".join(f"rec{i} r{i}.wav\n" for i in range(3)))
    out = data.parent / "out"
    assert run(root, "--per-spk", 1, data, out).returncode == 0
    assert keys(out / "segments") == ["a-0", "b-0"] and keys(out / "wav.scp") == ["rec0", "rec1"]
    assert run(root, out, program="validate_data_dir.py").returncode == 0
    (data / "segments").unlink()
    (data / "wav.scp").write_text("".join(f"{u} {u}.wav\n" for u in utts))
    assert run(root, "--per-spk", 1, data, out).returncode == 0
    assert not (out / "segments").exists(), "left from before"


@pytest.mark.parametrize(("name", "text", "why"), [
    ("utt2spk", "a-0 a\nA-1 b\n", "utt2spk:2: A-1 is not in order"), ("utt2spk", "a-0\n", "expected 2 fields"),
    ("wav.scp", None, "wav.scp: no such file")])
def test_faults_are_reported_and_nothing_is_written(root, data, name, text, why):
    (data / name).unlink()
    if text:
        (data / name).write_text(text)
    done = run(root, "--per-spk", 2, data, data.parent / "out")
    assert done.returncode == 1 and why in done.stderr and not (data.parent / "out").exists()


def test_lists_of_utterances_and_speakers(root, data):
    out = data.parent / "out"
    (data.parent / "utts").write_text("a-3 and more\nb-1")  # no final newline
    assert run(root, "--utt-list", data.parent / "utts", data, out).returncode == 0
    assert keys(out / "wav.scp") == ["a-3", "b-1"]
    (data.parent / "spks").write_text("b\n")
    assert run(root, "--spk-list", data.parent / "spks", data, out).returncode == 0
    assert keys(out / "spk2utt") == ["b"] and keys(out / "spk2gender") == ["b"]
    assert keys(out / "spk2age") == ["b"] and keys(out / "utt2codec") == ["b-0", "b-1"]
    (out / "cuts.jsonl").write_text("stale\n")
    assert run(root, "--speakers", 1, "--per-spk", 2, data, out).returncode == 0
    assert keys(out / "utt2spk") == ["a-0", "a-3"] and not (out / "cuts.jsonl").exists()
    assert run(root, out, program="validate_data_dir.py").returncode == 0
    (data.parent / "utts").write_text("nobody\n")
    done = run(root, "--utt-list", data.parent / "utts", data, out)
    assert done.returncode == 1 and done.stderr == f"{data.parent}/utts: nobody is not in {data}/utt2spk\n"
    assert run(root, "--spk-list", data.parent / "spks", data, out).returncode == 0
    assert run(root, "--without", out, data, data.parent / "rest").returncode == 0
    assert keys(data.parent / "rest/spk2utt") == ["a"]
    assert "want one of --per-spk" in run(root, data, out).stderr
