# SPDX-License-Identifier: Apache-2.0
"""A test side through codecs."""

import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from corpus import voice, write_corpus
from page_commands import example
from programs import forking

from rawnext.data.wav import load_wave, read_sources
from rawnext.errors import InputError
from rawnext.kaldi.tables import read_table, read_trials
from rawnext.results.conditions import conditions_of

CODECS = ("ulaw", "alaw", "gsm", "amr:4.75k", "amr:7.95k", "amr:12.2k", "opus:6k", "opus:24k", "opus:256k", "mp3:8k",
          "mp3:16k", "mp3:64k", "mp3:160k")


@pytest.fixture(scope="module")
def program(root):
    return runpy.run_path(str(root / "local/noise/make_coded.py"))


@pytest.mark.parametrize("word", CODECS)
def test_length_and_time_are_kept(program, word):
    codec, rng = program["parse_codec"](word), np.random.default_rng(0)
    for num in (1600, 16001, 30011):
        noise = np.convolve(rng.normal(size=num), np.hanning(20), "same").astype(np.float32) / 50
        changed = codec.change(noise)
        assert changed.shape == noise.shape and (changed != noise).any()
        lags = np.fft.irfft(np.fft.rfft(changed, 2 * num) * np.fft.rfft(noise, 2 * num).conj(), 2 * num)
        assert lags.argmax() in (0, 1, 2, 2 * num - 1), "no delay is left"


@pytest.mark.parametrize("name, rates", [("opus", (6, 12, 24, 64)), ("mp3", (8, 16, 32, 64))])
def test_a_lower_bit_rate_is_farther_from_the_original(program, monkeypatch, name, rates):
    wave, sizes, distances = voice(0, 0, 3.0).astype(np.float32), [], []
    written = soundfile.write
    monkeypatch.setattr(soundfile, "write", lambda file, *args, **options: (
        written(file, *args, **options), sizes.append(len(file.getvalue()) * 8 / 3000)))
    for rate in rates:
        distances.append(float(np.mean((program["parse_codec"](f"{name}:{rate}k").change(wave) - wave) ** 2)))
    assert distances == sorted(distances, reverse=True) and distances[0] > 2 * distances[-1]
    for size, rate in zip(sizes, rates):
        assert rate * 0.8 - 1 < size < rate * 1.2 + 3, "kbit/s"


@pytest.mark.parametrize("word", ["", "amr", "amr:5k", "amr:12k", "ulaw:64k", "opus", "opus:5k", "opus:257k", "opus:16",
                                  "mp3:161k"])
def test_unknown_codecs(program, word):
    with pytest.raises(InputError, match=r"is none of ulaw, alaw, gsm, amr:4\.75k, .*, amr:12\.2k, opus:6k\.\.\.256k, "
                                         r"mp3:8k\.\.\.160k"):
        program["parse_codec"](word)


@pytest.fixture
def data(tmp_path):
    data = write_corpus(tmp_path / "data/test", num_speakers=3, num_utts=3, seconds=0.5)
    utts = list(read_table(data / "utt2spk"))
    (data / "utt2session").write_text("".join(f"{utt} {utt}\n" for utt in utts))
    (data / "spk2age").write_text("s00 20\ns01 40\ns02 70\n")
    return data


def make(root, folder, words, **options):
    return subprocess.run([sys.executable, root / words[0], *words[1:]], cwd=folder, capture_output=True, text=True,
                          env=forking({**os.environ, "PYTHONPATH": str(root)}), **options)


def test_a_coded_list(root, tmp_path, data):
    words = example(root, "docs/howto/conditions.md", "local/noise/make_coded.py")
    done = make(root, tmp_path, [*words, "--nj", "1"])
    assert done.returncode == 0, done.stderr
    coded, plain = tmp_path / "data/test_coded", read_trials(data / "trials")
    names = "PCM", "alaw", "mp3_16k", "opus_16k", "opus_8k", "ulaw"
    trials, codec_of = read_trials(coded / "trials"), read_table(coded / "utt2codec")
    assert set(codec_of.values()) == set(names) and len(codec_of) == 6 * 3, "the test side alone"
    originals = {source.utt: load_wave(source) for source in read_sources(data)}
    for source in read_sources(coded):
        wave, name = load_wave(source), codec_of[source.utt]
        original = originals[source.utt if name == "PCM" else source.utt.removesuffix(f"-{name}")]
        assert len(wave) == len(original)
        assert np.array_equal(wave, original) == (name == "PCM")
    assert read_table(coded / "utt2session")["s00-u1-ulaw"] == "s00-u1"
    assert read_table(coded / "spk2age") == read_table(data / "spk2age")

    found = conditions_of(trials, coded / "trials", coded / "utt2spk", data / "utt2spk")
    groups = {one.name: one.groups for one in found}["codec of the test side"]
    assert tuple(groups) == names, "the first is the reference of the others"
    for name, part in groups.items():
        assert [trials.enroll[place] for place in part] == plain.enroll, "the same trials, with an uncoded enroll side"
        assert [trials.test[place].removesuffix(f"-{name}") for place in part] == plain.test
        assert np.array_equal(trials.is_target[part], plain.is_target)


def test_nothing_of_an_earlier_copy_is_left(root, tmp_path, data):
    words = ["local/noise/make_coded.py", "--nj", "1", "--codecs", "ulaw gsm", "data/test", "coded"]
    (data / "trials.enroll").write_text("".join(f"{utt} {utt}\n" for utt in {*read_trials(data / "trials").enroll}))
    assert make(root, tmp_path, words).returncode == 0
    assert (tmp_path / "coded/trials.enroll").read_text() == (data / "trials.enroll").read_text()
    (data / "trials.enroll").unlink()
    words[4] = "alaw"
    assert make(root, tmp_path, words).returncode == 0
    assert set(read_table(tmp_path / "coded/utt2codec").values()) == {"PCM", "alaw"}
    assert len(read_table(tmp_path / "coded/wav.scp")) == 6 and not (tmp_path / "coded/trials.enroll").exists()

    path = data / "audio/s01-u1.wav"
    soundfile.write(path, np.zeros(16000), 16000)  # found when it is decoded
    done = make(root, tmp_path, words)
    assert done.returncode == 1 and "s01-u1" in done.stderr and "has only zeros" in done.stderr
    assert not (tmp_path / "coded/wav.scp").exists(), "half a copy is no data directory"


def test_bad_input_stops_before_work(root, tmp_path, data):
    with open(data / "trials", "a") as file:
        file.write("s00-u0 nobody nontarget\n")
    for words, why in ((["--codecs", "ulaw", "data/test", "coded"], "trials:10: nobody is not in"),
                       (["--codecs", "amr", "data/test", "coded"], "--codecs: amr is none of"),
                       (["--codecs", "ulaw", "data/test", "data/../data/test"], "is DATA_DIR too")):
        done = make(root, tmp_path, ["local/noise/make_coded.py", *words])
        assert done.returncode == 1 and why in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not (tmp_path / "coded").exists() and (data / "wav.scp").exists()
