# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import soundfile
import torch
from corpus import voice, write_corpus
from lhotse import CutSet

from rawnext.config import Config, Crop, load_config
from rawnext.data.cuts import CutTable, tile
from rawnext.errors import InputError
from rawnext.training.dataset import EpochDataset, crop_samples, epoch_loader

SMALL = ["batch.speakers=4", "crop.samples=8000", "crop.short_from=3000"]


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "train")


def batches(data, num_workers=0):
    return list(epoch_loader(data, num_workers))


def test_table_equals_lhotse(corpus):
    table, cuts = CutTable(corpus), CutSet.from_file(corpus / "cuts.jsonl")
    for i, cut in enumerate(cuts):
        assert table[i] == (cut.id, cut.num_samples, cut.recording.sources[0].source, 0, 0.0, None)
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


def test_crops_grow():
    crop = Crop(samples=20000, short_from=0, start_samples=10000, grow_epochs=4)
    assert [crop_samples(crop, e) for e in (0, 1, 2, 4, 9)] == [10000, 12500, 15000, 20000, 20000]
    assert crop_samples(Config().crop, 0) == 59050
