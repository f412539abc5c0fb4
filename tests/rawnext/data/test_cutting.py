# SPDX-License-Identifier: Apache-2.0
"""Cut data directories contain the requested part of each utterance."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from rawnext.data.cuts import centre_crop
from rawnext.data.cutting import POLICIES, Cut, Span, read_spans, read_tables, seconds_of, write_cut_dir
from rawnext.data.wav import load_wave, read_sources
from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.kaldi.tables import read_trials

pytestmark = pytest.mark.usefixtures("forked_programs")

RATE = 16000


def write_data(folder, lengths, segmented):
    """Utts a-0, a-1, b-0, ... of these lengths in samples, each a file, or segments of one, the last to its end."""
    rng, utts = np.random.default_rng(0), [f"{'ab'[i % 2]}-{i}" for i in range(len(lengths))]
    pairs = sorted(zip(utts, lengths))
    waves = [rng.integers(-3000, 3000, num).astype(np.int16) for _, num in pairs]
    folder.mkdir(parents=True, exist_ok=True)
    if segmented:
        starts = np.cumsum([777, *map(len, waves)])
        soundfile.write(folder / "all.wav", np.concatenate([np.zeros(777, np.int16), *waves]), RATE)
        ends = [*(f"{end / RATE:.7f}" for end in starts[1:-1]), "-1"]
        write_lines(folder / "segments", (f"{utt} all {start / RATE:.7f} {end}"
                                          for (utt, _), start, end in zip(pairs, starts, ends)))
        write_lines(folder / "wav.scp", [f"all {folder}/all.wav"])
    else:
        for (utt, _), wave in zip(pairs, waves):
            soundfile.write(folder / f"{utt}.wav", wave, RATE)
        write_lines(folder / "wav.scp", (f"{utt} {folder}/{utt}.wav" for utt, _ in pairs))
    write_lines(folder / "utt2spk", (f"{utt} {utt[0]}" for utt, _ in pairs))
    write_lines(folder / "spk2gender", ["a f", "b m"])
    write_lines(folder / "spk2age", ["b 30"])
    return {utt: wave / np.float32(32768) for (utt, _), wave in zip(pairs, waves)}


def cut_waves(data, out, cut):
    sources = read_sources(data)
    num_short = write_cut_dir(out, read_tables(data), sources, read_spans(data, sources), cut)
    return {source.utt: load_wave(source) for source in read_sources(out)}, num_short


@pytest.mark.parametrize("segmented", [False, True])
def test_centre_cut_equals_that_of_extraction_and_full_keeps_everything(tmp_path, root, segmented):
    waves = write_data(tmp_path / "data", [5000, 9001, 3199, 8000], segmented)
    for seconds, short in ((0.2, 1), (0.3, 1), (0.5, 2), (0, 0)):
        found, num_short = cut_waves(tmp_path / "data", tmp_path / "out", Cut(seconds, "centre", "keep", 0))
        assert (num_short, list(found)) == (short, list(waves))
        for utt, wave in waves.items():
            expected = centre_crop(wave, round(seconds * RATE)) if seconds else wave
            assert np.array_equal(found[utt], expected), (seconds, utt)
        done = subprocess.run([sys.executable, root / "utils/validate_data_dir.py", tmp_path / "out"],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/spk2age").read_text() == "b 30\n"
    assert (tmp_path / "out/spk2utt").read_text() == "a a-0 a-2\nb b-1 b-3\n"
    assert (tmp_path / "out/utt2dur").read_text().split()[1] == "0.3125000"


@pytest.mark.parametrize("segmented", [False, True])
def test_start_policy_tiles_short_utterances(tmp_path, segmented):
    waves = write_data(tmp_path / "data", [5000, 9001, 3199, 8000], segmented)
    found, num_short = cut_waves(tmp_path / "data", tmp_path / "out", Cut(0.5, "start", "tile", 0))
    assert num_short == 2 and all(len(wave) == 8000 for wave in found.values())
    for utt, wave in waves.items():
        assert np.array_equal(found[utt], np.resize(wave, 8000)), utt


@given(start=st.integers(0, 10**6), num=st.integers(1600, 10**6), rate=st.sampled_from([8000, 16000, 44100]),
       seconds=st.floats(0.1, 20), policy=st.sampled_from(POLICIES), seed=st.integers(0, 9))
def test_cut_is_within_its_utterance(start, num, rate, seconds, policy, seed):
    cut, span = Cut(seconds, policy, "keep", seed), Span(start, num, rate)
    part = cut.of("a", span)
    assert start <= part.start and part.start + part.num_samples <= start + num
    assert part.num_samples == min(num, round(seconds * rate)) and part == cut.of("a", span)


def test_random_cuts_are_spread_and_depend_on_utt_and_seed_only():
    span, cuts = Span(0, 10 * RATE, RATE), [Cut(seconds, "random", "keep", 1) for seconds in (1, 9)]
    starts = np.array([[cut.of(f"u{i}", span).start for cut in cuts] for i in range(300)]) / RATE
    assert starts[:, 0].min() < 0.3 and 8.7 < starts[:, 0].max() <= 9 and abs(starts[:, 0].mean() - 4.5) < 0.5
    assert np.allclose(starts[:, 0] / 9, starts[:, 1] / 1, atol=1e-4), "the same relative position at every length"
    assert Cut(1, "random", "keep", 2).of("u0", span).start / RATE != starts[0, 0]


def test_durations_are_parsed():
    assert seconds_of("2 0.5 full 2") == [0.5, 2, 0] and seconds_of("") == [0]
    for words in ("0.05", "x", "1 -1", "nan", "inf"):
        with pytest.raises(ValueError):
            seconds_of(words)


def test_length_of_a_command_is_read_from_utt2dur(tmp_path):
    write_lines(tmp_path / "wav.scp", ["a cat a.wav |"])
    sources = read_sources(tmp_path, allow_pipes=True)
    with pytest.raises(InputError, match="utt2dur must list its length"):
        read_spans(tmp_path, sources)
    write_lines(tmp_path / "utt2dur", ["a 1.5"])
    assert read_spans(tmp_path, sources) == [Span(0, 24000, RATE, 0)]


# --- steps/cut_data_dir.py

def test_program_drops_short_utterances_with_their_trials(root, tmp_path):
    write_data(tmp_path / "data", [8000, 9000, 8000, 3000, 8000, 7999, 9000], False)
    write_lines(tmp_path / "trials", ["a-0 a-2 target", "a-0 b-1 nontarget", "a-2 b-3 nontarget", "b-5 b-1 target"])

    def run(*args):
        command = [sys.executable, root / "steps/cut_data_dir.py", "--trials", "trials", *args, "data", "out"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("--short", "drop", "--durations", "0.3 0.5")
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in (tmp_path / "out/cuts.tsv").read_text().splitlines()]
    assert lines[1:] == [[name, "0", "3", "2", "2", "2", "centre", "drop", "0"] for name in ("0.3s", "0.5s", "full")]
    assert read_trials(tmp_path / "out/full/trials").test == ["a-2", "b-1"]
    assert [source.utt for source in read_sources(tmp_path / "out/0.3s")] == ["a-0", "a-2", "b-1"]

    assert run("--durations", "0.3").returncode == 0
    assert len(read_sources(tmp_path / "out/full")) == 5, "utterances outside the trials are left out"
    assert "0.3s\t1\t5\t4\t0\t0" in (tmp_path / "out/cuts.tsv").read_text()
    for args, why in ((("--short", "drop", "--durations", "0.55"), "trials: has no target or no nontarget trials left"),
                      (("--durations", "0"), "cut_data_dir.py: --durations: want seconds")):
        done = run(*args)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and why in done.stderr, done.stderr
    write_lines(tmp_path / "trials", ["a-0 a-2 target", "a-0 c nontarget"])
    assert run("--durations", "0.3").stderr == "cut_data_dir.py: trials:2: c is not in data\n"


@pytest.mark.parametrize("segmented", [False, True])
def test_segments_are_evenly_spaced_and_whole_short_utterances(tmp_path, root, segmented):
    waves = write_data(tmp_path / "data", [5000, 9001, 3199, 8000], segmented)
    done = subprocess.run([sys.executable, root / "steps/segment_data_dir.py", "--segments", "3", "--seconds", "0.25",
                           tmp_path / "data", tmp_path / "out"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    found = {source.utt: load_wave(source) for source in read_sources(tmp_path / "out")}
    table = dict(line.split(maxsplit=1) for line in (tmp_path / "out/utt_segments").read_text().splitlines())
    assert list(table) == list(waves) and " ".join(table.values()).split() == list(found)
    for utt, wave in waves.items():
        starts = np.linspace(0, len(wave) - 4000, 3).astype(int) if len(wave) > 4000 else [0]
        expected = [wave[start:start + 4000] for start in starts]
        assert all(np.array_equal(found[name], part) for name, part in zip(table[utt].split(), expected, strict=True))
    done = subprocess.run([sys.executable, root / "utils/validate_data_dir.py", tmp_path / "out"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
