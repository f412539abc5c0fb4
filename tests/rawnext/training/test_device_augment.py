# SPDX-License-Identifier: Apache-2.0
"""Batches equal those of a simple reference program, whether workers or the device augment them."""

import random

import numpy as np
import pytest
import soundfile
import torch
from corpus import write_corpus
from lhotse import CutSet
from scipy.signal import convolve

from rawnext.data.cuts import CutTable
from rawnext.data.manifest import scan_audio, write_data_dir
from rawnext.errors import InputError
from rawnext.training.dataset import EpochDataset, epoch_loader, to_device
from rawnext.training.device_augment import apply_on_device, batch_operations
from rawnext.training.system import load_system

CASES = [["music"], ["babble"], ["noise"], ["reverb"], ["reverb", "babble"], ["babble", "reverb"],
         ["noise", "reverb", "music", "reverb"], [{"name": "reverb", "p": 0.5}, {"name": "noise", "p": 0.5}], []]
CROP = {"samples": 9000, "short_from": 4000}
SNRS = {"noise": (0, 15, 1, 1), "music": (5, 15, 1, 1), "babble": (13, 20, 3, 7)}  # dB, dB, smallest and largest number
BANKS = {"noise": "musan_noise", "music": "musan_music", "babble": "musan_speech", "reverb": "rirs"}


def write_responses(folder):
    rng = np.random.default_rng(0)
    for i, length in enumerate((40, 3000, 9500)):
        soundfile.write(folder / f"r{i}.wav", rng.uniform(-0.9, 0.9, length) * np.exp(-np.arange(length) / 900), 16000)
    write_data_dir(scan_audio([(f"r{i}", f"r{i}", str(folder / f"r{i}.wav")) for i in range(3)], 1)[0], folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Speech; noises and room responses shorter and longer than a crop."""
    folder = tmp_path_factory.mktemp("corpora")
    found = {kind: write_corpus(folder / kind, 2, 2, seconds)
             for kind, seconds in (("musan_noise", 0.3), ("musan_music", 1.0), ("musan_speech", 0.5))}
    responses = write_responses(tmp_path_factory.mktemp("r"))
    return {**found, "train": write_corpus(folder / "train", 9, 2), "rirs": responses}


def batch_of(folders, on, cases=CASES, num_workers=0):
    config = load_system([], ["batch.speakers=9", f"train.augment_on={on}", f"crop={CROP}".replace("'", "")])
    config.augment = [{"ops": ops} for ops in cases]
    banks = {name: CutTable(folder) for name, folder in folders.items() if name != "train"}
    (batch,) = epoch_loader(EpochDataset(CutTable(folders["train"]), config, banks, 2, 0, 1), num_workers)
    return batch


class Reference:
    """One utterance after the other: the same draws, whole recordings, sums and convolutions in double precision."""

    def __init__(self, folders):
        self.cuts = {name: list(CutSet.from_file(folder / "cuts.jsonl")) for name, folder in folders.items()}

    def batch(self, utts):
        return np.stack([self.utterance(utt, position % 2 > 0) for position, utt in enumerate(utts)])

    def utterance(self, utt, short):
        rng = random.Random(f"1234-2-{utt}-0")
        whole = next(cut for cut in self.cuts["train"] if cut.id == utt).load_audio()[0].astype(np.float64)
        num = min(len(whole), rng.randint(4000, 8999) if short else 9000)
        start = rng.randint(0, len(whole) - num)
        wave = np.resize(whole[start : start + num], 9000)
        for op in rng.choices(CASES, [1] * len(CASES))[0]:
            if isinstance(op, str) or rng.random() < op["p"]:
                wave = self.operation(op if isinstance(op, str) else op["name"], wave, rng)
        return wave

    def operation(self, name, wave, rng):
        bank = self.cuts[BANKS[name]]
        if name == "reverb":
            response = bank[rng.randrange(len(bank))].load_audio()[0].astype(np.float64)
            return convolve(wave, response / np.sqrt((response**2).sum()))[:9000]
        low, high, min_num, max_num = SNRS[name]
        snrs = [rng.uniform(low, high) for _ in range(rng.randint(min_num, max_num))]
        noises = [self.noise(bank, rng) for _ in snrs]
        power = [10 * np.log10((x**2).mean() + 1e-4) for x in (wave, *noises)]
        return wave + sum(10 ** ((power[0] - p - snr) / 20) * n for p, n, snr in zip(power[1:], noises, snrs))

    def noise(self, bank, rng):
        whole = bank[rng.randrange(len(bank))].load_audio()[0].astype(np.float64)
        start = rng.randint(0, max(0, len(whole) - 9000))
        return np.resize(whole[start : start + 9000], 9000)


@pytest.mark.parametrize(("on", "num_workers"), [("workers", 0), ("device", 0), ("device", 1)])
def test_batches_equal_the_reference(folders, on, num_workers):
    batch = batch_of(folders, on, num_workers=num_workers)
    wave, label = to_device(batch, torch.device("cpu"))
    expected = Reference(folders).batch(batch["utt"])
    assert len(expected) == 18 and wave.dtype == torch.float32 and torch.equal(label, batch["label"])
    assert np.abs(wave.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    assert bool(batch["operations"]) == (on == "device")


def test_workers_and_device_give_the_same_batches(folders):
    """Including operations before a reverberation that only workers support."""
    cases = [["time_stretch", "gaussian_noise", {"name": "reverb", "p": 0.5}, "noise"]]
    for own in (CASES, cases):
        one, other = batch_of(folders, "workers", own), batch_of(folders, "device", own)
        before = other["wave"].clone()
        assert one["utt"] == other["utt"] and other["operations"]
        assert (to_device(one, torch.device("cpu"))[0] - to_device(other, torch.device("cpu"))[0]).abs().max() < 1e-5
        assert torch.equal(other["wave"], before), "the batch was changed in place"
    assert batch_of(folders, "device", [["noise", "babble"]])["operations"] == [], "pending without reverb"


def test_batch_operations_keep_each_utterances_order():
    noise, response = np.ones(10, np.float32), np.array([0, 0, 1], np.float32)
    pending = [[("noise", noise), ("reverb", response)], [], [("reverb", response[1:]), ("music", noise)],
               [("babble", noise)]]
    operations = batch_operations(pending)
    assert [(op.is_reverb, op.rows.tolist()) for op in operations] == [
        (False, [0, 3]), (True, [2]), (False, [2]), (True, [0])]
    wave = apply_on_device(torch.full((4, 10), 0.5), operations)
    gain = float(np.sqrt(0.25 + 1e-4))
    late = float(np.sqrt(0.25 * 0.9 + 1e-4))  # of a wave that lost its first sample to the delay
    expected = [[0] * 2 + [0.5 + gain] * 8, [0.5] * 10, [late] + [0.5 + late] * 9, [0.5 + gain] * 10]
    assert np.allclose(wave, expected, atol=1e-6)
    assert batch_operations([[], []]) == [] and torch.equal(apply_on_device(wave, []), wave)


def test_operations_that_the_device_does_not_support(root):
    late = ["augment=[{ops: [shift, noise, reverb, noise, {name: reverse, p: 0.1}]}]", "train.augment_on={}"]
    with pytest.raises(InputError, match="augment_on: device: reverse follows reverb, but only workers can apply it"):
        load_system([], [late[0], late[1].format("device")])
    assert load_system([], [late[0], late[1].format("workers")]).augment
    assert load_system([root / "conf/csv/augment.yaml"], ["train.augment_on=device"]).augment
    with pytest.raises(InputError, match="train.augment_on: workers or device, got 'gpu'"):
        load_system([], ["train.augment_on=gpu"])
    assert load_system([root / "conf/augment.yaml"], ["train.augment_on=device"]).augment
