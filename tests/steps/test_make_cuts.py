# SPDX-License-Identifier: Apache-2.0
"""steps/make_cuts.py: training reads what the tables of a Kaldi data directory say, or is refused."""

import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from corpus import voice
from page_commands import example
from programs import forking
from recipe import place_recipe

from rawnext.cli.main import main
from rawnext.data.cuts import CutTable
from rawnext.data.manifest import check_tables
from rawnext.data.segment import read_segment
from rawnext.data.wav import load_wave, read_sources
from rawnext.errors import InputError

TINY = ("model.channels=[8,8,8,8,8,8] model.cardinality=8 model.embedding_dim=8 model.blocks=[1,1,1,1] model.dla=false "
        "batch.speakers=4 crop.samples=4000 train.epochs=1")


def run(root, *args, program="steps/make_cuts.py"):
    return subprocess.run([sys.executable, root / program, *map(str, args)], capture_output=True, text=True,
                          env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"})


@pytest.fixture
def data(tmp_path):
    """Two recordings, one at 8 kHz and one with two channels, in five segments."""
    soundfile.write(tmp_path / "one (a) & JOB.wav", voice(0, 0, 1.5), 8000)
    soundfile.write(tmp_path / "two.flac", np.stack([voice(1, 0, 2), voice(2, 0, 2)], 1), 16000)
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text(f"r1 {tmp_path}/one (a) & JOB.wav\nr2 {tmp_path}/two.flac\n")
    (data / "segments").write_text("a-1 r1 0.5 1.0\na-2 r1 1.0 3.005\n"
                                   "b-1 r2 0 0.05 0\nb-2 r2 0.3 -1 1\nb-3 r2 0.3 0.9 0\n")
    (data / "utt2spk").write_text("a-1 a\na-2 a\nb-1 b\nb-2 b\nb-3 b\n")
    (data / "spk2gender").write_text("a f\nb m\n")
    return data


def test_training_reads_what_extraction_reads(root, data):
    done = run(root, "--min-duration", "0.2", data)
    assert done.returncode == 0, done.stderr
    assert f"removed 1 of 5 utterances, shorter than 0.2 s; {data}/short_utts lists them" in done.stdout
    assert (data / "short_utts").read_text() == "b-1 0.050\n"
    assert (data / "spk2utt").read_text() == "a a-1 a-2\nb b-2 b-3\n"
    table, seconds = CutTable(data), dict(line.split() for line in (data / "utt2dur").read_text().splitlines())
    check_tables(table, data)
    sources = read_sources(data)
    assert list(table.utts) == [source.utt for source in sources] == ["a-1", "a-2", "b-2", "b-3"]
    for i, source in enumerate(sources):
        wave, cut = load_wave(source), table[i]
        assert cut.lhotse is None and abs(len(wave) - cut.num_samples) <= 1
        assert float(seconds[source.utt]) == pytest.approx(cut.num_samples / 16000)
        num = min(len(wave), cut.num_samples) - 50
        assert np.abs(read_segment(cut, 40, num - 40) - wave[40:num]).max() < 1e-3  # a resampler's edge
    assert [round(float(s), 3) for s in seconds.values()] == [0.5, 2.0, 1.7, 0.6]
    assert run(root, data, program="utils/validate_data_dir.py").returncode == 0


def test_commands_are_written_to_files(root, data, tmp_path):
    text = (data / "wav.scp").read_text()
    (data / "wav.scp").write_text(text.replace(f"{tmp_path}/two.flac", f"cat {tmp_path}/two.flac |"))
    assert "is a command; --allow-pipes runs it" in run(root, data).stderr
    done = run(root, "--min-duration", "0.2", "--allow-pipes", "--audio-dir", tmp_path / "audio", data)
    assert done.returncode == 0, done.stderr
    assert (data / "wav.scp").read_text().endswith(f"r2 {tmp_path}/audio/r2.flac\n")
    cut = CutTable(data)[2]
    assert np.abs(read_segment(cut, 0, 8000) - voice(2, 0, 2)[4800:12800]).max() < 1e-4


def test_recordings_in_an_ark(root, data, tmp_path):
    assert run(root, "--min-duration", "0.2", data).returncode == 0
    expected = [read_segment(cut, 20, 5000) for cut in map(CutTable(data).__getitem__, range(4))]
    wav = tmp_path / "one (a) & JOB.wav"
    (tmp_path / "wav.ark").write_bytes(b"r0 " + wav.read_bytes() + b"r1 " + wav.read_bytes())  # as by Kaldi's wav-copy
    place = f"{tmp_path}/wav.ark:{6 + wav.stat().st_size}"
    (data / "wav.scp").write_text((data / "wav.scp").read_text().replace(str(wav), place))
    wav.unlink()
    assert run(root, data).returncode == 0
    assert CutTable(data)[0].path == place
    for cut, wave in zip(map(CutTable(data).__getitem__, range(4)), expected):
        assert np.array_equal(read_segment(cut, 20, 5000), wave)
    assert run(root, data, program="utils/validate_data_dir.py").returncode == 0


@pytest.mark.parametrize(("name", "old", "new", "why"), [
    ("segments", "0.05 0\n", "0.05 0\n", "segments:3: b-1: .*two.flac: 0.050 s of audio; .* 0.1 removes"),
    ("segments", "3.005", "3.51", "segments:2: a-2: .*: ends at 3.51 s, after its recording .3 s."),
    ("segments", "1.0 3.005", "3.1 3.3", "segments:2: a-2: .*: 0.000 s of audio; .* --min-duration 0.1 removes"),
    ("segments", "-1 1", "-1 2", "segments:4: b-2: .*: has no channel 2"),
    ("segments", "0.3 0.9 0", "0.3 0.9", "segments:5: b-3: .*two.flac: has 2 channels; add which one to segments"),
    ("utt2spk", "b-3 b\n", "", "segments:5: b-3: .*: is not in utt2spk"),
    ("utt2spk", "b-3 b\n", "b-3 b\nb-4 b\n", "utt2spk: b-4 has no audio"),
    ("wav.scp", "two", "none", "segments:3: b-1: .*none.flac: no such file")])
def test_faults_are_one_line(root, data, name, old, new, why):
    (data / name).write_text((data / name).read_text().replace(old, new))
    options = [] if "0.1 removes" in why else ["--min-duration", "0.1"]
    done = run(root, *options, data)
    assert done.returncode == 1 and re.search(why, done.stderr.splitlines()[-1]), done.stderr
    assert not (data / "cuts.jsonl").exists()


def test_cuts_and_tables_that_disagree_are_refused(root, data):
    """As after Kaldi's fix_data_dir.sh has removed an utterance: it would still be trained on."""
    assert run(root, "--min-duration", "0.1", data).returncode == 0
    table, text = CutTable(data), (data / "utt2spk").read_text()
    for changed, why in ((text.replace("b-2 b\n", ""), "has b-2 of b, which is not in utt2spk"),
                         (text.replace("b-2 b", "b-2 c"), "has b-2 of b, utt2spk of c"),
                         (text + "c-1 c\n", "does not have c-1, which is in utt2spk")):
        (data / "utt2spk").write_text(changed)
        with pytest.raises(InputError, match=f"cuts.jsonl: {why}; steps/make_cuts.py"):
            check_tables(table, data)
    train = run(root, "--train", data, data.parent / "exp", program="steps/train.py")
    assert train.returncode == 1 and "does not have c-1" in train.stderr
    assert not (data.parent / "exp/config.yaml").exists()


def test_audio_that_differs_from_the_tables_is_refused(root, data):
    """Kaldi's fix_data_dir.sh keeps four columns of segments; times and files may be edited."""
    assert run(root, "--min-duration", "0.1", data).returncode == 0
    for name, old, new, why in (("segments", " -1 1", " -1", "b-2 has channel 1, segments 0"),
                                ("segments", "1.0 3.005", "1.2 3.005", "a-2 has 1 to 3 s, segments 1.2 3.005"),
                                ("segments", "0.3 0.9", "0.3 0.8", "b-3 has 0.3 to 0.9 s, segments 0.3 0.8"),
                                ("wav.scp", "two.flac", "other.flac", "b-2 has the file .*two.flac, wav.scp .*other")):
        before = (data / name).read_text()
        (data / name).write_text(before.replace(old, new))
        checked = run(root, data, program="utils/validate_data_dir.py")
        assert checked.returncode == 1 and re.search(f"cuts.jsonl:[0-9]: {why}", checked.stderr), checked.stderr
        with pytest.raises(InputError, match="wav.scp or segments changed after it was made"):
            check_tables(CutTable(data), data)
        if " -1" in old:
            done = run(root, data)
            assert done.returncode == 1 and "segments:3: b-2: " in done.stderr and "has 2 channels; add" in done.stderr
        (data / name).write_text(before)
        assert run(root, data, program="utils/validate_data_dir.py").returncode == 0
    check_tables(CutTable(data), data)


def test_removed_utterances_are_in_no_table(root, data):
    utts = [line.split()[0] for line in (data / "utt2spk").read_text().splitlines()]
    for name in ("utt2lang", "text"):
        (data / name).write_text("".join(f"{utt} x\n" for utt in utts))
    (data / "utt2codec").write_text("a-1 mp3\nb-2 mp3\n")
    (data / "spk2age").write_text("a 5\nb 6\n")
    (data / "segments").write_text((data / "segments").read_text().replace("r1 0.5 1.0", "r1 0 0.01").replace(
        "r1 1.0 3.005", "r1 1 1.01"))
    refused = run(root, data)
    assert refused.returncode == 1 and "segments:1: a-1: " in refused.stderr
    assert "3 utterances are shorter; --min-duration 0.1 removes them from the tables" in refused.stderr
    assert run(root, "--min-duration", "0.1", data).returncode == 0
    assert run(root, data, program="utils/validate_data_dir.py").returncode == 0
    assert (data / "wav.scp").read_text().startswith("r2 ") and (data / "text").read_text() == "b-2 x\nb-3 x\n"
    assert (data / "utt2codec").read_text() == "b-2 mp3\n" and (data / "spk2age").read_text() == "b 6\n"
    assert (data / "utt2num_frames").read_text() == "b-2 168\nb-3 58\n"
    (data / "feats.scp").write_text("b-2 x\nb-3 x\n")
    (data / "utt2num_frames").write_text("b-2 170\nb-3 60\n")
    assert run(root, data).returncode == 0 and (data / "utt2num_frames").read_text() == "b-2 170\nb-3 60\n"


@pytest.mark.slow
def test_the_page_leads_from_tables_to_calibrated_decisions(root, tmp_path, monkeypatch, capsys):
    """docs/howto/own_data.md, from wav.scp, segments and utt2spk of one recording per speaker."""
    data = tmp_path / "data/all"
    data.mkdir(parents=True)
    spks = [f"s{i:02}" for i in range(12)]
    for i, spk in enumerate(spks):
        soundfile.write(tmp_path / f"{spk}.flac", np.concatenate([voice(i, utt, 0.7) for utt in range(4)]), 16000)
    utts = [(spk, k) for spk in spks for k in range(4)]
    (data / "wav.scp").write_text("".join(f"{spk}-all {tmp_path}/{spk}.flac\n" for spk in spks))
    (data / "segments").write_text("".join(f"{s}-{k} {s}-all {0.7 * k:.2f} {0.7 * (k + 1):.2f}\n" for s, k in utts))
    (data / "utt2spk").write_text("".join(f"{s}-{k} {s}\n" for s, k in utts))
    env = forking(place_recipe(root, "csv", tmp_path))
    page = [example(root, "docs/howto/own_data.md", start) for start in (
        "utils/subset_data_dir.py --speakers 20", "utils/subset_data_dir.py --without",
        "steps/make_cuts.py data/all_train", "steps/make_cuts.py data/all_dev",
        "utils/make_trials.py --seed 1 data/all_dev")]
    train = example(root, "docs/howto/own_data.md", "steps/verification.sh")
    train[1:1] = ["--set", TINY, "--protocols", "native", "--backends", "cosine", "--durations", "0.5", "--nj", "1",
                  "--num-threads", "1", "--calibrate", "cosine", "--stop-stage", "8"]
    for words in (*page, train):
        words = ["5" if word == "20" else word.replace("data/test:", "data/all_dev:") for word in words]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    monkeypatch.chdir(tmp_path)
    main(["verify", "-m", "exp/all", "s00.flac", "s01.flac"])
    assert re.search("^decision  (same|different)", capsys.readouterr().out, re.M)
