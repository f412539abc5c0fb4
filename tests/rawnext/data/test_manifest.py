# SPDX-License-Identifier: Apache-2.0
"""Data directories are written as by lhotse and readable by Kaldi; bad audio and bad ids are reported."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from rawnext.data.audio import read_header
from rawnext.data.manifest import (
    Utterance,
    check_bad,
    hold_out_speakers,
    num_samples_16k,
    scan_audio,
    write_data_dir,
)
from rawnext.data.wav import limits, read_sources
from rawnext.errors import AudioError, InputError


def write_audio(path: Path, num_samples: int = 1600, rate: int = 16000, channels: int = 1, **options) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(num_samples)
    soundfile.write(path, rng.uniform(-0.5, 0.5, (num_samples, channels)), rate, **options)
    return str(path)


def utterance(utt: str, spk: str, path: str = "/a.wav", num_samples: int = 16000, rate: int = 16000, channels: int = 1):
    return Utterance(utt, spk, path, num_samples, rate, channels)


def cuts_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "cuts.jsonl").read_text().splitlines()]


# --- headers

def test_scan_keeps_the_order_and_reads_the_headers(tmp_path):
    files = [("b", "b", write_audio(tmp_path / "b.wav", 800, 8000, 2)),
             ("a", "a", write_audio(tmp_path / "with space" / "a.flac", 1234)),
             ("c", "c", write_audio(tmp_path / "c.ogg", 16000))]
    good, bad = scan_audio(iter(files), 1)
    assert not bad
    assert good == [Utterance("b", "b", files[0][2], 800, 8000, 2), Utterance("a", "a", files[1][2], 1234, 16000, 1),
                    Utterance("c", "c", files[2][2], 16000, 16000, 1)]


def test_scan_in_two_processes_equals_scan_in_one(tmp_path):
    path, hole = write_audio(tmp_path / "a.wav"), str(tmp_path / "hole.wav")
    files = [(f"u{i:04d}", "u", hole if i % 100 == 7 else path) for i in range(600)]
    assert scan_audio(files, 2) == scan_audio(files, 1)
    assert len(scan_audio(files, 2)[1]) == 6


def truncate(path: str, num_bytes: int) -> str:
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:num_bytes] if num_bytes >= 0 else data[:len(data) + num_bytes])
    return path


@pytest.mark.parametrize("make, why", [
    (lambda d: truncate(write_audio(d / "a.wav"), 0), "empty file"),
    (lambda d: write_audio(d / "a.wav", 0), "no samples"),
    (lambda d: truncate(write_audio(d / "a.wav"), -2), "cut off: it has 3242 bytes, its header promises 3244"),
    (lambda d: truncate(write_audio(d / "a.wav"), 44), "cut off: it has 44 bytes, its header promises 3244"),
    (lambda d: truncate(write_audio(d / "a.wav", channels=2, subtype="FLOAT"), -5), "cut off"),
    (lambda d: truncate(write_audio(d / "a.flac", 60000), -3000), ""),
    (lambda d: truncate(write_audio(d / "a.wav"), 20), ""),
    (lambda d: str(d), "not a file"),
    (lambda d: str(d / "none.wav"), "no such file"),
])
def test_bad_files_are_reported_in_one_line(tmp_path, make, why):
    path = make(tmp_path)
    good, bad = scan_audio([("a", "a", path)], 1)
    assert not good and bad[0][0] == path
    assert why in bad[0][1] and bad[0][1] and "\n" not in bad[0][1]


def test_text_file_named_wav_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("<html>404</html>")
    with pytest.raises(AudioError, match="^neither soundfile nor ffmpeg can read it: .* it: "):
        read_header(str(tmp_path / "a.wav"))


def test_wav_with_more_chunks_is_read(tmp_path):
    """An odd LIST chunk before the samples, junk after them, and a length left open by a pipe are accepted."""
    data = Path(write_audio(tmp_path / "a.wav", 800)).read_bytes()
    body = data[12:36] + b"LIST" + struct.pack("<I", 5) + b"INFOx\0" + data[36:] + b"junk\2\0\0\0ab"
    (tmp_path / "b.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    (tmp_path / "c.wav").write_bytes(data[:40] + b"\xff" * 4 + data[44:])
    assert read_header(str(tmp_path / "b.wav")) == read_header(str(tmp_path / "c.wav")) == (800, 16000, 1)
    truncate(str(tmp_path / "b.wav"), -20)
    with pytest.raises(AudioError, match="^cut off"):
        read_header(str(tmp_path / "b.wav"))


def test_nan_is_not_visible_in_the_header(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(1600, np.nan, dtype=np.float32), 16000, subtype="FLOAT")
    assert read_header(str(tmp_path / "a.wav")) == (1600, 16000, 1)


def test_bad_audio_is_listed_in_full_and_logged_in_part(tmp_path, caplog):
    table, bad = tmp_path / "bad_audio.tsv", [(f"/x/{i}.wav", "empty file") for i in range(25)]
    with pytest.raises(InputError, match=r"bad_audio.tsv: 25 of 1000"):
        check_bad(bad, 1000, table, 0.024)
    assert len(caplog.records) == 10 and len(table.read_text().splitlines()) == 25
    check_bad(bad, 1000, table, 0.025)
    assert "left out" in caplog.text
    check_bad([], 1000, table)
    assert not table.exists()


# --- data directories

def test_manifest_equals_lhotses_and_is_read_by_lhotse(tmp_path):
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

    files = [("s1-a", "s1", write_audio(tmp_path / "a.wav", 16001)), ("s1-é", "s1", write_audio(tmp_path / "é.flac")),
             ("s2-b", "s2", write_audio(tmp_path / "b.wav", 4001, 8000, 2)),
             ("s2-c", "s2", write_audio(tmp_path / "c.wav", 14707, 44100)),
             ("s2-d", "s2", write_audio(tmp_path / "d.wav", 999, 16000, 2))]
    utterances, _ = scan_audio(files, 1)
    write_data_dir(utterances, tmp_path / "data", {"s1": "f", "s2": "m"})

    def lhotse_cut(utt, spk, path):
        recording = Recording.from_file(path, recording_id=utt).resample(16000)
        span = {"start": 0.0, "duration": recording.duration, "channel": 0}
        speech = SupervisionSegment(id=utt, recording_id=utt, speaker=spk, gender="f" if spk == "s1" else "m", **span)
        return MonoCut(id=utt, recording=recording, supervisions=[speech], **span)

    CutSet.from_cuts(lhotse_cut(*file) for file in files).to_file(tmp_path / "lhotse.jsonl")
    assert (tmp_path / "data/cuts.jsonl").read_text() == (tmp_path / "lhotse.jsonl").read_text()
    cuts = list(CutSet.from_file(tmp_path / "data/cuts.jsonl"))
    assert cuts == list(CutSet.from_file(tmp_path / "lhotse.jsonl"))
    assert [cut.load_audio().shape for cut in cuts] == [(1, cut.num_samples) for cut in cuts]
    assert np.array_equal(cuts[4].load_audio()[0], soundfile.read(files[4][2], dtype="float32")[0][:, 0])


@given(st.integers(1, 10 ** 8), st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]))
def test_resampled_length_equals_lhotses(num_samples, rate):
    from lhotse.utils import compute_num_samples

    ours = num_samples_16k(utterance("a", "a", "/a", num_samples, rate))
    assert ours == compute_num_samples(num_samples / rate, 16000)


ids = st.text("ab-_.9é", min_size=1, max_size=4).filter(lambda text: not text.startswith("-") and ".." not in text)


@given(st.sets(ids, min_size=1, max_size=12))
def test_tables_agree_and_are_sorted(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("data")
    utts = [utterance(f"s{i % 3}-{name}", f"s{i % 3}", f"/x/{name}.wav", 16000 + i) for i, name in enumerate(names)]
    write_data_dir(utts, folder)
    rows = {name: [line.split(" ") for line in (folder / name).read_text().splitlines()]
            for name in ("wav.scp", "utt2spk", "spk2utt", "utt2dur")}
    keys = [row[0].encode() for row in rows["utt2spk"]]
    assert keys == sorted(u.utt.encode() for u in utts)
    assert all([row[0].encode() for row in rows[name]] == keys for name in ("wav.scp", "utt2dur"))
    assert [cut["id"].encode() for cut in cuts_of(folder)] == keys
    assert [[utt, spk] for spk, *its in rows["spk2utt"] for utt in its] == rows["utt2spk"]
    assert {key: float(s) for key, s in rows["utt2dur"]} == {u.utt: u.num_samples / 16000 for u in utts}
    assert not (folder / "spk2gender").exists()


def test_validator_accepts_the_directory(tmp_path, root):
    utts = [utterance(f"s{i}-{j}", f"s{i}", f"/x/{i} {j}.wav") for i in range(3) for j in range(12)]
    write_data_dir(utts[::-1], tmp_path, {"s0": "m", "s1": "f", "s2": "f", "other": "m"})
    subprocess.run([sys.executable, root / "utils/validate_data_dir.py", tmp_path], check=True)
    assert (tmp_path / "spk2gender").read_text() == "s0 m\ns1 f\ns2 f\n"


@pytest.mark.parametrize("utts, why", [
    ([], "no utterances"),
    ([utterance("s1-a", "s1", "/a"), utterance("s1-a", "s1", "/b")], "s1-a is the id of two files, /a and /b"),
    ([utterance("a", "s1")], "does not begin with the id of its speaker, s1"),
    ([utterance("s1 a", "s1")], "cannot be an id"),
    ([utterance("", "")], "cannot be an id"),
    ([utterance("a-1", "a"), utterance("a-b-1", "a-b"), utterance("a-c", "a")], "not sorted by speaker"),
    ([utterance("a", "a", "relative.wav")], "cannot contain the path"),
    ([utterance("a", "a", "/a\nb.wav")], "cannot contain the path"),
    ([utterance("a", "a", "/a.wav |")], "cannot contain the path"),
    ([utterance("a", "a", "/\udcff.wav")], "cannot contain the path"),
    ([utterance("a", "a", num_samples=0)], "no samples"),
])
def test_invalid_utterances_leave_the_old_directory_unchanged(tmp_path, utts, why):
    write_data_dir([utterance("old", "old")], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="utt2spk: ") as error:
        write_data_dir(utts, tmp_path)
    assert why in str(error.value) and "\n" not in str(error.value)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_rewriting_removes_the_old_tables(tmp_path):
    write_data_dir([utterance("old", "old")], tmp_path, {"old": "m"})
    write_data_dir([utterance("new", "new")], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"cuts.jsonl", "cuts.npz", "wav.scp", "utt2spk", "spk2utt",
                                                          "utt2dur"}
    assert all(b"old" not in path.read_bytes() for path in tmp_path.iterdir())


@given(start=st.integers(0, 70_000), num=st.integers(3000, 20_000), rate=st.sampled_from([16000, 44100, 8000]))
def test_segments_name_their_samples(tmp_path_factory, start, num, rate):
    folder = tmp_path_factory.mktemp("segments")
    whole = utterance("a-1", "a", "/x/1.wav", 90_000, rate)
    write_data_dir([whole._replace(utt="a-2", start=start, num_samples=num, recording="a-1"), whole], folder)
    sources = read_sources(folder, False)
    assert [limits(source, 90_000, rate) for source in sources] == [(0, 90_000), (start, start + num)]
    assert (folder / "wav.scp").read_text() == "a-1 /x/1.wav\n"
    write_data_dir([whole], folder)
    assert not (folder / "segments").exists()


def test_resampling_channels_and_unknown_gender_are_logged_once(tmp_path, caplog):
    utts = [utterance(f"s{i}", f"s{i}", rate=8000, channels=1 + (i > 2)) for i in range(5)]
    write_data_dir(utts, tmp_path, {"s0": "m"})
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records if record.levelname == "WARNING"] == [
        "5 of 5 files are not sampled at 16000 Hz and are resampled while loading",
        "2 of 5 files have several channels; the first is used",
        "not written: the gender of 4 of 5 speakers is not known"]
    assert [cut["supervisions"][0].get("gender") for cut in cuts_of(tmp_path)] == ["m", None, None, None, None]
    with pytest.raises(InputError, match="s0: expected m or f, got 'male'"):
        write_data_dir(utts, tmp_path, {"s0": "male"})


def test_interrupted_writing_leaves_no_manifest(tmp_path, monkeypatch):
    write_data_dir([utterance("old", "old")], tmp_path)
    monkeypatch.setattr("rawnext.data.manifest.make_cut", lambda u, gender: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_data_dir([utterance("new", "new")], tmp_path)
    assert not (tmp_path / "cuts.jsonl").exists() and not list(tmp_path.glob(".*"))


# --- held-out speakers

@given(st.lists(st.integers(1, 4), min_size=4, max_size=12), st.integers(0, 3), st.integers(0, 99))
def test_held_out_speakers_are_disjoint_and_reproducible(counts, num, seed):
    utts = [utterance(f"s{i:02d}-{j}", f"s{i:02d}") for i, count in enumerate(counts) for j in range(count)]
    if num > sum(count >= 2 for count in counts):
        with pytest.raises(InputError, match=f"held-out speakers: {num} were requested"):
            hold_out_speakers(utts, num, seed)
        return
    train, dev = hold_out_speakers(utts, num, seed)
    assert sorted(train + dev) == utts and train == sorted(train)
    assert not {u.spk for u in train} & {u.spk for u in dev}
    assert len({u.spk for u in dev}) == num
    assert all(counts[int(u.spk[1:])] >= 2 for u in dev)
    same_speakers = hold_out_speakers(utts[::-1], num, seed)[1]
    assert sorted(same_speakers) == dev


def test_seeds_choose_different_speakers():
    utts = [utterance(f"s{i:02d}-{j}", f"s{i:02d}") for i in range(50) for j in range(2)]
    assert len({tuple(hold_out_speakers(utts, 5, seed)[1]) for seed in range(10)}) > 1
    with pytest.raises(InputError):
        hold_out_speakers(utts, 50, 0)
