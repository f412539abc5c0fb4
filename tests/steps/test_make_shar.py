# SPDX-License-Identifier: Apache-2.0
"""steps/make_shar.py: training on tar files draws and hears the same as on files."""

import gzip
import json
import os
import re
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import soundfile
import torch
from corpus import voice, write_corpus
from page_commands import example
from programs import forking
from small_models import small

from rawnext.config import Config, save_config
from rawnext.data.audio import read_samples
from rawnext.data.cuts import CutTable
from rawnext.data.manifest import Utterance, scan_audio, write_data_dir
from rawnext.data.shar import read_whole
from rawnext.data.wav import check_sources, load_wave, read_sources
from rawnext.training.augment import needed_banks
from rawnext.training.dataset import EpochDataset, TrainingLoader

RATES = (16000, 16000, 8000, 44100, 11025, 48000)


def make(root, *args):
    return run(root / "steps/make_shar.py", *args, PYTHONPATH=str(root))


def run(*words, **env):
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True,
                          env=forking({**os.environ, **env}))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data directory with files at several rates, FLAC and WAV, one loud, one with two channels, and segments."""
    folder, files = tmp_path_factory.mktemp("data"), []
    for s, rate in enumerate(RATES):
        for u in range(3):
            wave = voice(s, u, (0.5 + 0.0137 * u) * rate / 16000)  # 0.5 s and more
            if s == 1:
                wave = wave / np.abs(wave).max()  # full scale
            path = folder / f"s{s}-{u}.{'flac' if u else 'wav'}"
            soundfile.write(path, np.stack([wave, wave / 2], 1) if u == 2 else wave, rate)
            files.append((f"s{s}-{u}", f"s{s}", str(path)))
    utterances, bad = scan_audio(files, 1)
    assert not bad
    whole = utterances[0]
    parts = [Utterance(f"s9-{n}", "s9", whole.path, 3000 + n, 16000, 1, 500 * n, 0, whole.utt) for n in range(4)]
    write_data_dir([*utterances, *parts], folder / "train", {f"s{s}": "mf"[s % 2] for s in range(10)})
    return folder / "train"


def batches(data_dir, num_workers):
    config = Config()
    config.batch.speakers, config.crop.samples, config.crop.short_from = 5, 3500, 1000
    config.augment = [{"ops": ["noise"], "weight": 1.0}]
    banks = {name: CutTable(data_dir) for name in needed_banks(config.augment)}
    loader = TrainingLoader(lambda epoch: EpochDataset(CutTable(data_dir), config, banks, epoch, 0, 1), num_workers,
                            False)
    found = [batch for epoch in range(3) for batch in islice(loader.batches(epoch, 0), 100)]
    loader.close()
    return found


@pytest.mark.parametrize(("audio_format", "num_workers"), [("flac", 0), ("flac", 2), ("wav", 0), ("wav", 2)])
def test_batches_are_equal(root, data, tmp_path, audio_format, num_workers):
    done = make(root, "--format", audio_format, "--shard-utts", 4, data, tmp_path / "out")
    assert done.returncode == 0 and not done.stdout, done.stderr
    assert len(list((tmp_path / "out/shar").glob("recording.*.tar"))) == 6
    expected, found = batches(data, num_workers), batches(tmp_path / "out", num_workers)
    assert len(expected) == len(found) >= 3
    for one, other in zip(expected, found):
        assert one["utt"] == other["utt"] and not one["bad"] + other["bad"]
        assert torch.equal(one["wave"], other["wave"]) and torch.equal(one["label"], other["label"])


def test_whole_utterances_are_equal(root, data, tmp_path):
    assert make(root, data, tmp_path / "out").returncode == 0
    old, new = CutTable(data), CutTable(tmp_path / "out")
    sources = read_sources(tmp_path / "out")
    check_sources(sources)
    assert list(old.utts) == list(new.utts) == [source.utt for source in sources]
    for index, source in enumerate(sources):
        assert old[index].num_samples == new[index].num_samples and old[index].rate == new[index].rate
        assert np.array_equal(read_whole(old[index])[0], read_samples(source.path).wave)
        assert abs(len(load_wave(source)) - old[index].num_samples) <= 1
    for name in ("utt2spk", "spk2utt", "utt2dur", "spk2gender"):
        assert (data / name).read_text() == (tmp_path / "out" / name).read_text()
    assert run(root / "utils/validate_data_dir.py", tmp_path / "out").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
def test_losses_are_equal(root, data, tmp_path, num_workers):
    config = Config(model=small("convmixer"))
    config.batch.speakers, config.crop.samples, config.crop.short_from, config.train.epochs = 4, 1900, 0, 1
    save_config(config, tmp_path / "small.yaml")
    assert make(root, "--shard-utts", 5, data, tmp_path / "out").returncode == 0
    losses = []
    for name, train in (("a", data), ("b", tmp_path / "out")):
        done = run(root / "steps/train.py", "--config", tmp_path / "small.yaml", "--train", train, "--num-workers",
                   num_workers, "--device", "cpu", "--num-threads", 1, "--set", "train.log_every=1", tmp_path / name,
                   PYTHONPATH=str(root))
        assert done.returncode == 0, done.stderr
        losses.append(re.findall(r" loss=(\S+)", done.stderr))
    assert losses[0] == losses[1] and len(losses[0]) > 1


def test_lhotse_reads_the_shards(root, data, tmp_path):
    from lhotse import CutSet

    assert make(root, "--shard-utts", 7, data, tmp_path / "out").returncode == 0
    table, cuts = CutTable(data), list(CutSet.from_shar(in_dir=tmp_path / "out/shar"))
    assert [cut.id for cut in cuts] == list(table.utts)
    for index, cut in enumerate(cuts):
        wave, rate = read_whole(table[index])
        assert np.array_equal(cut.load_audio()[0], wave) and cut.sampling_rate == rate
        assert cut.supervisions[0].speaker == cut.id[:2]
        assert cut.supervisions[0].gender == "mf"[int(cut.id[1]) % 2]


def test_samples_that_are_not_16_bit_are_counted(root, tmp_path):
    files = []
    for u, subtype in enumerate(("PCM_16", "PCM_24", "FLOAT")):
        soundfile.write(tmp_path / f"a{u}.wav", voice(0, u, 0.5), 16000, subtype=subtype)
        files.append((f"a{u}", "a", str(tmp_path / f"a{u}.wav")))
    write_data_dir(scan_audio(files, 1)[0], tmp_path / "data")
    done = make(root, tmp_path / "data", tmp_path / "out")
    assert done.returncode == 0 and "2 utterances are not 16-bit and were rounded" in done.stdout
    for (_, _, path), source in zip(files, read_sources(tmp_path / "out")):
        assert np.abs(load_wave(source) - soundfile.read(path)[0]).max() <= 2**-16


def test_commands_of_the_page(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (example(root, "docs/howto/cluster.md", "steps/make_shar.py --nj"),
                  example(root, "docs/howto/cluster.md", "steps/make_shar.py data/musan_noise")):
        write_corpus(tmp_path / words[-2], num_speakers=2, num_utts=2, seconds=0.3)
        done = make(root, *words[1:])
        assert done.returncode == 0, done.stderr
        assert len(CutTable(words[-1])) == 4


# --- runs that end early

def test_an_interrupted_export_continues(root, data, tmp_path):
    out, good = tmp_path / "out", (data / "cuts.jsonl").read_text()
    assert make(root, "--shard-utts", 6, data, out).returncode == 0
    shard, other = out / "shar/recording.000001.tar", out / "shar/recording.000002.tar"
    before, whole = shard.stat().st_mtime_ns, other.read_bytes()
    (out / "shar/cuts.000002.jsonl.gz").unlink()  # as after a kill between the two files
    other.write_bytes(whole[:20000])
    (out / ".shar-1").mkdir()
    assert make(root, "--shard-utts", 6, data, out).returncode == 0
    assert shard.stat().st_mtime_ns == before
    assert len(other.read_bytes()) == len(whole) and not list(out.glob(".shar*"))
    assert make(root, "--shard-utts", 8, "--format", "wav", data, out).returncode == 0
    assert len(list((out / "shar").iterdir())) == 6
    assert shard.stat().st_mtime_ns != before
    (data / "cuts.jsonl").write_text(good)  # a new manifest
    before = shard.stat().st_mtime_ns
    assert make(root, "--shard-utts", 8, "--format", "wav", data, out).returncode == 0
    assert shard.stat().st_mtime_ns != before


def test_bad_audio_is_one_line_and_leaves_no_manifest(root, tmp_path):
    corpus = write_corpus(tmp_path / "data", num_speakers=2, num_utts=2, seconds=0.3)
    assert make(root, corpus, tmp_path / "out").returncode == 0
    os.utime(corpus / "cuts.jsonl")
    (corpus / "audio/s01-u0.wav").write_bytes((corpus / "audio/s01-u0.wav").read_bytes()[:3000])
    done = make(root, corpus, tmp_path / "out")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert re.match(r"make_shar.py: .*cuts.jsonl:3: s01-u0: .*s01-u0.wav: \d+ samples instead of 4800$", done.stderr)
    assert not (tmp_path / "out/cuts.jsonl").exists() and not list((tmp_path / "out").glob(".shar*"))


def test_other_files_in_the_way(root, data, tmp_path):
    (tmp_path / "out/shar").mkdir(parents=True)
    (tmp_path / "out/shar/notes").write_text("mine")
    done = make(root, data, tmp_path / "out")
    assert done.returncode == 1 and done.stderr == (f"make_shar.py: {tmp_path}/out/shar/notes: is no part of a Shar "
                                                    "directory; give another output folder\n")
    assert "OUT must not be DATA" in make(root, data, data).stderr


# --- Shar directories of others

@pytest.fixture
def shar(tmp_path):
    """As `lhotse shar export` writes it: ids without speakers, text."""
    from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
    from lhotse.shar import SharWriter

    cuts = []
    for number in range(6):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, voice(number % 2, number, 0.5 + number / 10), 16000)
        recording = Recording.from_file(path)
        segment = SupervisionSegment(f"sup{number}", recording.id, 0, recording.duration, speaker=f"spk{number % 2}",
                                     text="ja", gender=["Female", "male"][number % 2])
        cuts.append(MonoCut(f"cut-{number}", 0, recording.duration, 0, [segment], recording=recording))
    (tmp_path / "shar").mkdir()
    with SharWriter(tmp_path / "shar", {"recording": "flac"}, shard_size=4) as writer:
        for cut in CutSet.from_cuts(cuts):
            writer.write(cut)
    return tmp_path / "shar"


def test_shar_of_lhotse_is_used_where_it_is(root, shar, tmp_path):
    done = make(root, shar, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cuts.jsonl", "cuts.npz", "spk2gender", "spk2utt", "utt2dur", "utt2spk", "wav.scp"]
    assert (tmp_path / "out/spk2utt").read_text() == ("spk0 spk0-cut-0 spk0-cut-2 spk0-cut-4\n"
                                                      "spk1 spk1-cut-1 spk1-cut-3 spk1-cut-5\n")
    assert (tmp_path / "out/spk2gender").read_text() == "spk0 f\nspk1 m\n"
    for source in read_sources(tmp_path / "out"):
        number = int(source.utt[-1])
        assert source.path.startswith(f"{shar}/recording.00000{number // 4}.tar:")
        assert np.abs(load_wave(source) - voice(number % 2, number, 0.5 + number / 10)).max() < 1e-4


def cut_off(path):
    path.write_bytes(path.read_bytes()[:20000])


def edited(old, new):
    def edit(path):
        text = gzip.decompress(path.read_bytes()).decode()
        assert old in text
        path.write_bytes(gzip.compress(text.replace(old, new).encode()))
    return edit


CUTS, TAR = "cuts.000000.jsonl.gz", "recording.000000.tar"


@pytest.mark.parametrize(("name", "damage", "why"), [
    (TAR, cut_off, f"{TAR}: is compressed, cut off or no tar file: unexpected end of data"),
    (TAR, lambda path: path.unlink(), "has 2 files cuts.*.jsonl.gz and 1 files recording.*.tar"),
    (TAR, lambda path: path.write_bytes(gzip.compress(path.read_bytes())), f"{TAR}: is compressed, cut off"),
    (CUTS, lambda path: path.write_bytes(path.read_bytes()[:-30]), f"{CUTS}: is damaged"),
    (CUTS, lambda path: path.write_bytes(b"x\n"), f"{CUTS}: is damaged"),
    (CUTS, edited('"cut-2"', '"cut-7"'), f"{CUTS}:3: cut-7: {TAR} has cut-2.flac in its place"),
    (CUTS, edited('"speaker"', '"who"'), f"{CUTS}:1: not a lhotse MonoCut of one speaker"),
    (CUTS, edited('"MonoCut"', '"MixedCut"'), f"{CUTS}:1: not a lhotse MonoCut of one speaker"),
    (CUTS, edited('"duration": 0.8', '"duration": 0.2'), "cut-3 is 0.2 s from 0 s on of 0.8 s of audio")])
def test_damaged_shar_is_one_line(root, shar, tmp_path, name, damage, why):
    damage(shar / name)
    done = make(root, shar, tmp_path / "out")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and why in done.stderr, done.stderr
    assert not (tmp_path / "out/cuts.jsonl").exists()


def test_manifest_is_plain_json_of_lhotse(root, data, tmp_path):
    assert make(root, data, tmp_path / "out").returncode == 0
    with gzip.open(tmp_path / "out/shar/cuts.000000.jsonl.gz", "rt") as file:
        cut = json.loads(next(file))
    assert cut["id"] == "s0-0" and cut["recording"]["sources"][0]["type"] == "shar"
