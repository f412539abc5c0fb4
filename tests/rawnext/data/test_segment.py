# SPDX-License-Identifier: Apache-2.0
"""Segments equal lhotse's samples for every file format; only they are read from the file."""

import json
import random
import struct
import tracemalloc
from copy import deepcopy

import numpy as np
import pytest
import soundfile
from corpus import voice
from lhotse.serialization import deserialize_item

from rawnext.data import audio
from rawnext.data.audio import find_pcm, read_pcm
from rawnext.data.cuts import CutTable, as_cut
from rawnext.data.manifest import Utterance, make_cut, scan_audio, write_data_dir
from rawnext.data.segment import AudioFault, read_segment

WAVE = np.stack([voice(0, 0, 0.6), voice(1, 0, 0.6)], 1)
KINDS = {  # rate, channels, sample format, file format
    "pcm": (16000, 1, "PCM_16", "WAV"), "stereo": (16000, 2, "PCM_16", "WAV"), "flac": (16000, 1, "PCM_16", "FLAC"),
    "extensible": (16000, 1, "PCM_16", "WAVEX"), "24": (16000, 1, "PCM_24", "WAV"), "8": (16000, 1, "PCM_U8", "WAV"),
    "float": (16000, 2, "FLOAT", "WAV"), "big_endian": (16000, 1, "PCM_16", "AIFF"),
    "telephone": (8000, 1, "PCM_16", "WAV"), "studio": (48000, 2, "PCM_16", "WAV")}


def write(path, rate=16000, channels=1, subtype="PCM_16", form="WAV"):
    soundfile.write(path, WAVE[:, :channels], rate, subtype, format=form)
    (utterance,), bad = scan_audio([("a", "a", str(path))], 1)
    assert not bad
    return make_cut(utterance, None)


def by_lhotse(cut, start, num):
    part = deserialize_item(deepcopy(cut)).truncate(offset=start / 16000, duration=num / 16000, preserve_id=True)
    return part.load_audio()[0][:num]


@pytest.mark.parametrize("kind", KINDS)
def test_samples_equal_lhotses(tmp_path, kind):
    cut = write(tmp_path / "a", *KINDS[kind])
    for row in range(KINDS[kind][1]):
        cut["channel"] = row
        own = as_cut(deepcopy(cut))
        assert own.lhotse is None
        whole = by_lhotse(cut, 0, own.num_samples)  # a part that lhotse resamples alone differs at its ends
        for start, num in [(0, 1), (0, 2000), (1, 777), (1599, 1601), (own.num_samples - 500, 500)]:
            apart = np.abs(read_segment(own, start, num) - whole[start: start + num]).max()
            assert apart <= (0 if KINDS[kind][0] == 16000 else 1e-6), (row, start)


def test_cut_inside_a_recording_equals_lhotses(tmp_path):
    """As in lhotse, a start between two samples is rounded after the segment's start is added."""
    cut = {**write(tmp_path / "a.wav"), "duration": 0.25}
    for begin in (0.125, 0.10003, 0.10004, 1 / 3):
        cut["start"] = begin
        for start in (0, 7, 1000):
            assert np.array_equal(read_segment(as_cut(cut), start, 900), by_lhotse(cut, start, 900))
    assert as_cut(cut).num_samples == 4000
    assert as_cut({**cut, "duration": 0.10004}).num_samples == 1601, "rounded as lhotse does"
    short = read_segment(as_cut(cut), 3900, 250)
    assert np.array_equal(short, np.resize(by_lhotse(cut, 3900, 100), 250)), "repeats itself, not the recording"


def test_cut_with_other_transforms_is_read_by_lhotse(tmp_path):
    cut = write(tmp_path / "a.wav")
    cut["recording"]["transforms"] = [{"name": "Volume", "kwargs": {"factor": 0.5}}]
    half = as_cut(deepcopy(cut))
    assert half.lhotse is not None and np.array_equal(read_segment(half, 10, 99), by_lhotse(cut, 10, 99))
    assert np.allclose(2 * read_segment(half, 10, 99), WAVE[10:109, 0], atol=1e-4)


def test_each_channel_may_have_its_own_file(tmp_path):
    cut = write(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", WAVE[:, 1], 16000)
    cut["recording"]["sources"].append({"type": "file", "channels": [1], "source": str(tmp_path / "b.wav")})
    cut["recording"]["channel_ids"] = [0, 1]
    for channel in range(2):
        cut["channel"] = channel
        wave = read_segment(as_cut(deepcopy(cut)), 10, 99)
        assert np.array_equal(wave, by_lhotse(cut, 10, 99)) and np.allclose(wave, WAVE[10:109, channel], atol=1e-4)


def test_cut_at_another_rate_is_refused_without_a_resample_transform(tmp_path):
    """The manifest does not ask for resampling."""
    cut = write(tmp_path / "a.wav", *KINDS["telephone"])
    del cut["recording"]["transforms"]
    cut["recording"].update(sampling_rate=8000, num_samples=9600)
    assert as_cut(deepcopy(cut)).num_samples == 9600
    with pytest.raises(AudioFault, match="^a: "):
        read_segment(as_cut(cut), 0, 8000)


def fast(path, start, stop):
    with open(path, "rb", buffering=0) as raw:
        return read_pcm(raw, start, stop, 0)


def with_chunk(path, size):
    """Insert a chunk before the samples, as ffmpeg does."""
    raw = path.read_bytes()
    path.write_bytes(raw[:36] + b"LIST" + struct.pack("<I", size) + b"d" * (size + size % 2) + raw[36:])


@pytest.mark.parametrize(("size", "is_fast"), [(26, True), (7, True), (5000, False)])
def test_wav_with_a_chunk_before_the_samples_is_read(tmp_path, size, is_fast):
    cut = write(tmp_path / "a.wav")
    with_chunk(tmp_path / "a.wav", size)
    assert (fast(tmp_path / "a.wav", 0, 9) is not None) == is_fast
    assert np.array_equal(read_segment(as_cut(cut), 321, 4000), by_lhotse(cut, 321, 4000))


def test_16_bit_wav_needs_no_decoder(tmp_path, monkeypatch):
    """In data directories as the recipes write them."""
    paths = [write(tmp_path / f"{kind}.wav", *KINDS[kind])["recording"]["sources"][0]["source"]
             for kind in ("pcm", "stereo")]
    write_data_dir([Utterance(f"a-{i}", "a", path, len(WAVE), 16000, i + 1) for i, path in enumerate(paths)],
                   tmp_path / "data")
    monkeypatch.delattr(audio, "open_by_libsndfile")
    table = CutTable(tmp_path / "data")
    for i in range(2):
        assert np.abs(read_segment(table[i], 5, 800) - WAVE[5:805, 0]).max() < 2**-15


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_only_the_requested_samples_are_read(tmp_path, subtype):
    """A sparse file of hundreds of megabytes."""
    path, seconds = tmp_path / "a.wav", 10_000
    cut = write(path, subtype=subtype)
    size = 16000 * seconds * (2 if subtype == "PCM_16" else 3)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"data")
    raw[4:8], raw[place + 4 : place + 8] = struct.pack("<I", size + place), struct.pack("<I", size)
    path.write_bytes(raw)
    with open(path, "rb+") as file:
        file.truncate(place + 8 + size)
    cut["duration"] = cut["recording"]["duration"] = float(seconds)
    cut["recording"]["num_samples"] = 16000 * seconds
    tracemalloc.start()
    assert not read_segment(as_cut(cut), 16000 * seconds - 5000, 5000).any()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def rewritten(change, **options):
    """A function that replaces the file after its manifest was written."""
    def spoil(path):
        soundfile.write(path, change(WAVE[:, :1]), **{"samplerate": 16000, "format": "WAV", **options})
    return spoil


@pytest.mark.parametrize(("spoil", "why"), [
    (lambda path: path.unlink(), "AudioError: no such file"),
    (lambda path: path.write_bytes(b""), "AudioError: empty file"),
    (lambda path: path.write_bytes(b"RIFF but no more"), "AudioError: .*soundfile"),
    (lambda path: path.write_bytes(path.read_bytes()[:3000]), r"1478 samples instead of 5000"),
    (rewritten(lambda wave: wave[:1500]), r"1500 samples instead of 5000"),
    (lambda path: (rewritten(lambda wave: wave[:1500])(path), path.write_bytes(path.read_bytes() + b"LIST" * 5000)),
     "1500 samples instead of 5000"),
    (rewritten(lambda wave: wave, samplerate=8000), "AudioError: 8000 Hz instead of 16000"),
    (rewritten(lambda wave: wave, samplerate=8000, subtype="FLOAT"), "AudioError: 8000 Hz instead of 16000"),
    (rewritten(lambda wave: wave * np.nan, subtype="FLOAT"), "contains NaN or infinity"),
    (rewritten(lambda wave: wave * np.inf, subtype="DOUBLE"), "contains NaN or infinity"),
    (rewritten(lambda wave: wave * 32768, subtype="FLOAT"), "has samples up to [0-9]+; they must be in")])
def test_changed_and_damaged_files_are_reported_in_one_line(tmp_path, spoil, why):
    cut = as_cut(write(tmp_path / "a.wav"))
    spoil(tmp_path / "a.wav")
    with pytest.raises(AudioFault, match=rf"^a: {why}") as fault:
        read_segment(cut, 0, 5000)
    assert "\n" not in str(fault.value)
    with pytest.raises(AudioFault, match="^a: no samples from sample 9600 on"):
        read_segment(cut, 9600, 100)
    with pytest.raises(AudioFault):
        read_segment(cut, 8000, 1000)


def test_missing_channel_is_refused(tmp_path):
    cut = write(tmp_path / "a.wav")
    cut["recording"]["sources"][0]["channels"], cut["channel"] = [0, 1], 1
    with pytest.raises(AudioFault, match="^a: AudioError: has no channel 1;"):
        read_segment(as_cut(cut), 0, 100)


def test_damaged_headers_never_give_wrong_samples(tmp_path):
    """Whichever byte is damaged, the samples equal libsndfile's or are None."""
    path, rng, num_read = tmp_path / "a.wav", random.Random(0), 0
    write(path)
    with_chunk(path, 10)
    good = path.read_bytes()
    for place in list(range(62)) * 4:
        path.write_bytes(good[:place] + bytes([rng.randrange(256)]) + good[place + 1 :])
        try:
            whole, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            continue
        wave = fast(path, 100, 1100)
        if wave is not None and len(wave) == 1000 and rate == 16000:
            num_read += 1
            assert np.array_equal(wave, whole[100:1100, 0]), place
    assert num_read > 50
    assert find_pcm(good[:40]) is None and find_pcm(b"") is None
    place = good.index(b"data")
    assert find_pcm(good) == (1, place + 8, 2 * len(WAVE))
    assert find_pcm(good[: place + 4] + bytes(4)) is None, "a data chunk of length 0"


@pytest.mark.parametrize("change", [{"duration": 1e308}, {"channel": None}, {"channel": 7}, {"channel": [0]}])
def test_invalid_cuts_are_refused(tmp_path, change):
    write_data_dir([Utterance("a", "a", "/a.wav", 9, 16000, 1)], tmp_path)
    line = json.loads((tmp_path / "cuts.jsonl").read_text())
    (tmp_path / "cuts.jsonl").write_text(json.dumps({**line, **change}) + "\n")
    with pytest.raises(Exception, match=r"cuts.jsonl:1: a: |^a: no samples"):
        read_segment(CutTable(tmp_path)[0], 0, 10)
