# SPDX-License-Identifier: Apache-2.0
import multiprocessing
import tempfile
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from corpus import voice, write_corpus
from lhotse import CutSet
from scipy.signal import resample

from rawnext.config import Config, Crop, load_config
from rawnext.data.cuts import CutTable, tile
from rawnext.data.speed import with_copies
from rawnext.errors import InputError
from rawnext.kaldi.ark import write_vectors
from rawnext.training.dataset import LONGEST_TMPDIR, EpochDataset, TrainingLoader, crop_samples, epoch_loader
from rawnext.training.teacher import read_teacher

SMALL = ["batch.speakers=4", "crop.samples=8000", "crop.short_from=3000"]


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "train")


def batches(data, num_workers=0):
    return list(epoch_loader(data, num_workers))


def test_table_equals_lhotse(corpus):
    table, cuts = CutTable(corpus), CutSet.from_file(corpus / "cuts.jsonl")
    for i, cut in enumerate(cuts):
        assert table[i] == (cut.id, cut.num_samples, cut.recording.sources[0].source, 0, 0, 16000, None)
    assert list(table.utts) == [cut.id for cut in cuts]
    assert [table.speakers[s] for s in table.speaker_of] == [cut.supervisions[0].speaker for cut in cuts]


@pytest.mark.parametrize(("text", "why"), [("", "is empty"), ("{\n", ":1: not a lhotse cut"),
                                           ('{"id": "a", "supervisions": []}\n', ":1: not a lhotse cut")])
def test_damaged_manifest(tmp_path, text, why):
    (tmp_path / "cuts.jsonl").write_text(text)
    with pytest.raises(InputError, match=why):
        CutTable(tmp_path)


def test_batch_is_speaker_major_and_cropped(corpus):
    config, table = load_config([], SMALL), CutTable(corpus)
    for batch in batches(EpochDataset(table, config, {}, 0, 0, 1)):
        assert batch["wave"].shape == (8, 8000) and batch["wave"].dtype == torch.float32
        assert (batch["label"].view(4, 2)[:, :1] == batch["label"].view(4, 2)).all()
        assert [table.speakers[i] for i in batch["label"]] == [utt[:3] for utt in batch["utt"]]
        for row, (utt, wave) in enumerate(zip(batch["utt"], batch["wave"].numpy())):
            utterance = voice(int(utt[1:3]), int(utt[-1]), 1.3 + 0.1 * int(utt[-1]))
            period = 8000 if row % 2 == 0 else next(n for n in range(3000, 8000) if (wave[n:] == wave[:-n]).all())
            assert (wave == tile(wave[:period], 8000)).all()
            score = np.correlate(utterance, wave[:period], "valid")  # the crop is somewhere in its utterance
            start = int(score.argmax())
            assert np.abs(utterance[start : start + period] - wave[:period]).max() < 1e-4


def test_draws_do_not_depend_on_workers_ranks_or_start(corpus):
    config, table = load_config([], SMALL), CutTable(corpus)
    whole = batches(EpochDataset(table, config, {}, 3, 0, 1))
    workers = batches(EpochDataset(table, config, {}, 3, 0, 1), num_workers=2)
    late = batches(EpochDataset(table, config, {}, 3, 0, 1, start=1))
    ranks = [batches(EpochDataset(table, config, {}, 3, rank, 2)) for rank in (0, 1)]
    for i, batch in enumerate(whole):
        assert torch.equal(batch["wave"], workers[i]["wave"])
        assert torch.equal(batch["wave"], torch.cat([ranks[0][i]["wave"], ranks[1][i]["wave"]]))
    assert len(late) == len(whole) - 1 and torch.equal(late[0]["wave"], whole[1]["wave"])
    other = batches(EpochDataset(table, config, {}, 4, 0, 1))
    assert not torch.equal(other[0]["wave"], whole[0]["wave"])


@pytest.mark.parametrize("fault", ["missing", "garbage", "nan", "silent", "short"])
def test_bad_audio_is_replaced_and_counted(corpus, fault):
    path = corpus / "audio" / "s02-u1.wav"
    if fault == "missing":
        path.unlink()
    elif fault == "garbage":
        path.write_bytes(b"RIFF but no more")
    elif fault == "nan":
        soundfile.write(path, np.full(25000, np.nan), 16000, subtype="FLOAT")
    elif fault == "silent":
        soundfile.write(path, np.zeros(25000), 16000)
    else:
        soundfile.write(path, np.ones(300), 16000)
    table = CutTable(corpus)
    drawn = batches(EpochDataset(table, load_config([], SMALL), {}, 0, 0, 1))
    bad = [why for batch in drawn for why in batch["bad"]]
    assert bad and all(why.startswith("s02-u1: ") for why in bad)
    assert "s02-u1" not in [utt for batch in drawn for utt in batch["utt"]]
    for batch in drawn:
        assert [table.speakers[i] for i in batch["label"]] == [utt[:3] for utt in batch["utt"]]


def test_speaker_without_readable_audio_stops_training(corpus):
    for path in (corpus / "audio").glob("s02-*"):
        path.unlink()
    with pytest.raises(RuntimeError, match="in a row"):
        batches(EpochDataset(CutTable(corpus), load_config([], SMALL), {}, 0, 0, 1))


def test_one_utterance_of_a_speaker_gives_several_crops(tmp_path):
    corpus = write_corpus(tmp_path / "train", num_utts=1)
    config = load_config([], [*SMALL, "batch.repeat=true"])
    (batch,) = batches(EpochDataset(CutTable(corpus), config, {}, 0, 0, 1))
    first, second = batch["wave"][::2], batch["wave"][1::2]
    assert batch["utt"][::2] == batch["utt"][1::2] and not (first == second).all(1).any()
    assert not batches(EpochDataset(CutTable(corpus), load_config([], SMALL), {}, 0, 0, 1)), "drawn without repeat"


def test_every_speaker_is_drawn_equally_often(tmp_path):
    folder = write_corpus(tmp_path / "train", num_speakers=4)
    lines = (folder / "cuts.jsonl").read_text().splitlines(keepends=True)
    (folder / "cuts.jsonl").write_text("".join(line for line in lines if '"s01-' not in line or '"s01-u0"' in line))
    config = load_config([], [*SMALL, "batch.repeat=true", "batch.min_utts_per_speaker=6",
                              "batch.max_utts_per_speaker=6"])
    labels = torch.cat([batch["label"] for batch in batches(EpochDataset(CutTable(folder), config, {}, 0, 0, 1))])
    assert torch.bincount(labels).tolist() == [6, 6, 6, 6]


@pytest.mark.parametrize("speed", [0.9, 1.25])
def test_copies_at_another_speed_are_new_speakers(corpus, speed):
    config, table = load_config([], [*SMALL, f"batch.speeds=[{speed}]", "crop.short_from=0"]), CutTable(corpus)
    drawn = batches(EpochDataset(table, config, {}, 0, 0, 1))
    assert {int(label) for batch in drawn for label in batch["label"]} == set(range(2 * len(table.speakers)))
    names = with_copies([str(s) for s in table.speakers], [speed])
    for batch in drawn:
        for utt, label, wave in zip(batch["utt"], batch["label"], batch["wave"].numpy()):
            assert utt.rpartition("-")[0] == names[label]
            if utt.startswith("sp"):
                whole = voice(int(utt[-5:-3]), int(utt[-1]), 1.3 + 0.1 * int(utt[-1]))
                ratio = Fraction(speed).limit_denominator(100)
                changed = resample(whole, round(len(whole) * ratio.denominator / ratio.numerator))
                middle = wave[2000:6000]  # FFT resampling of the whole as the oracle, away from the ends of the crop
                score = np.correlate(changed, middle, "valid") / np.linalg.norm(middle)
                at = int(score.argmax())
                assert score[at] > 0.94 * np.linalg.norm(changed[at : at + 4000])


def test_the_teacher_of_each_utterance_comes_with_it(corpus, tmp_path):
    config, table = load_config([], [*SMALL, "batch.speeds=[0.9]"]), CutTable(corpus)
    vectors = np.random.default_rng(0).standard_normal((2 * len(table), 5)).astype(np.float32)
    utts = with_copies(list(table.utts), [0.9])
    write_vectors(tmp_path / "x.ark", tmp_path / "x.scp", zip(utts, vectors))
    teacher = read_teacher(str(tmp_path / "x.scp"), table, config)
    for batch in batches(EpochDataset(table, config, {}, 0, 0, 1, teacher=teacher), num_workers=1):
        expected = (vectors - vectors.mean(0))[[utts.index(utt) for utt in batch["utt"]]]
        assert np.allclose(batch["teacher"], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_crops_grow():
    crop = Crop(samples=20000, short_from=0, start_samples=10000, grow_epochs=4)
    assert [crop_samples(crop, e) for e in (0, 1, 2, 4, 9)] == [10000, 12500, 15000, 20000, 20000]
    assert crop_samples(Config().crop, 0) == 59050


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_stay_from_epoch_to_epoch(corpus, num_workers):
    config, table = load_config([], SMALL), CutTable(corpus)
    loader = TrainingLoader(partial(EpochDataset, table, config, {}, rank=0, world=1), num_workers, False)
    workers = []
    for epoch, start in ((2, 1), (3, 0), (4, 0)):
        expected = batches(EpochDataset(table, config, {}, epoch, 0, 1, start))
        found = list(loader.batches(epoch, start))
        assert len(found) == len(expected) == loader.num_steps(epoch) - start
        assert all(torch.equal(one["wave"], other["wave"]) for one, other in zip(found, expected))
        workers.append({process.pid for process in multiprocessing.active_children()})
    assert len(workers[0]) == num_workers and workers == workers[:1] * 3
    started = time.monotonic()
    loader.close()
    assert not multiprocessing.active_children() and time.monotonic() - started < 4


@pytest.mark.parametrize("num_workers", [0, 1])
def test_reading_does_not_advance_the_generator(corpus, num_workers):
    """A resumed run starts the loader again, and must have the draws of an uninterrupted one."""
    before = torch.get_rng_state()
    batches(EpochDataset(CutTable(corpus), load_config([], SMALL), {}, 0, 0, 1), num_workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_data_worker_that_hangs_is_an_error(corpus, monkeypatch):
    monkeypatch.setattr(EpochDataset, "__getitem__", lambda self, step: time.sleep(2))
    make = partial(EpochDataset, CutTable(corpus), load_config([], SMALL), {}, rank=0, world=1)
    loader = TrainingLoader(make, 1, False, timeout_minutes=0.005)
    with pytest.raises(RuntimeError, match="timed out after 0.3 s"):
        next(loader.batches(0, 0))


def test_a_tmpdir_too_long_for_the_workers_sockets_is_an_error(corpus, monkeypatch):
    """Python would print a traceback, and training would wait forever."""
    monkeypatch.delitem(multiprocessing.current_process()._config, "tempdir", raising=False)
    data = EpochDataset(CutTable(corpus), load_config([], SMALL), {}, 0, 0, 1)
    with tempfile.TemporaryDirectory() as short:
        longest = Path(short, "x" * (LONGEST_TMPDIR - len(short) - 1))
        longest.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(longest))
        assert len(batches(data, 1)) == data.num_steps
        monkeypatch.setattr(tempfile, "tempdir", f"{longest}x")
        with pytest.raises(InputError, match="TMPDIR has over 75 bytes"):
            batches(data, 1)
        assert len(batches(data)) == data.num_steps
