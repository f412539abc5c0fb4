# SPDX-License-Identifier: Apache-2.0
"""Batches of training waveforms: crop and augmentation of each utterance are drawn from (seed, epoch, utt)."""

import random
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rawnext.config import Config, Crop
from rawnext.data.cuts import CutTable, tile
from rawnext.data.segment import AudioFault, read_segment
from rawnext.training.augment import augment
from rawnext.training.device_augment import Pending, apply_on_device, augment_before_reverb, batch_operations
from rawnext.training.sampler import epoch_batches

TRIES = 20  # utterances of a speaker to try before training stops


def crop_samples(crop: Crop, progress: float) -> int:
    """Length of the crops after `progress` epochs."""
    if not crop.start_samples or progress >= crop.grow_epochs:
        return crop.samples
    return round(crop.start_samples + (crop.samples - crop.start_samples) * progress / crop.grow_epochs)


class EpochDataset(Dataset):
    """One process's share of an epoch; an item is a batch.

    Item: wave (B, T) float32 and label (B,) int64, speaker-major; utt: B ids; bad: why utterances could not be read
    and were replaced by others of the same speaker; operations: augmentation to be done on the device.
    Args: start: first batch, if a part of the epoch is done.
    """

    def __init__(self, table: CutTable, config: Config, banks: Mapping[str, CutTable], epoch: int, rank: int,
                 world: int, start: int = 0):
        self.table, self.config, self.banks, self.epoch, self.start = table, config, banks, epoch, start
        size = config.batch
        batches = epoch_batches(table.speaker_of, size.speakers, size.utts, size.max_utts_per_speaker, config.seed,
                                epoch)
        self.num_steps = len(batches)
        share = size.speakers // world
        self.batches = batches[start:, rank * share : (rank + 1) * share]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, item: int) -> dict[str, Any]:
        samples = crop_samples(self.config.crop, self.epoch + (self.start + item) / self.num_steps)
        bad: list[str] = []
        waves, utts, pending = [], [], []
        for group in self.batches[item]:
            for position, index in enumerate(group):
                index, (wave, operations) = self.read(int(index), samples, position > 0, bad)
                waves.append(wave)
                pending.append(operations)
                utts.append(self.table.utts[index])
        label = np.repeat(self.table.speaker_of[self.batches[item][:, 0]], self.batches.shape[2])
        return {"wave": torch.from_numpy(np.stack(waves)), "label": torch.from_numpy(label), "utt": utts, "bad": bad,
                "operations": batch_operations(pending)}

    def read(self, index: int, samples: int, short: bool, bad: list[str]) -> tuple[int, tuple[np.ndarray, Pending]]:
        """Index and crop of an utterance, or of another of its speaker if it cannot be read."""
        for attempt in range(TRIES):
            rng = random.Random(f"{self.config.seed}-{self.epoch}-{self.table.utts[index]}-{attempt}")
            try:
                return index, self.crop(index, samples, short, rng)
            except AudioFault as fault:
                bad.append(str(fault))
                same = np.flatnonzero(self.table.speaker_of == self.table.speaker_of[index])
                index = int(same[rng.randrange(len(same))])
        raise RuntimeError(f"{TRIES} utterances of a speaker in a row cannot be read, the last: {bad[-1]}")

    def crop(self, index: int, samples: int, short: bool, rng: random.Random) -> tuple[np.ndarray, Pending]:
        """A random crop of an utterance, tiled to `samples` and augmented, and the operations left to the device."""
        cut, wanted = self.table[index], samples
        if short and self.config.crop.short_from:
            wanted = rng.randint(self.config.crop.short_from, samples - 1)
        num = min(wanted, cut.num_samples)
        start = rng.randint(0, cut.num_samples - num)
        wave = tile(read_segment(cut, start, num), samples)
        if not wave.any():
            raise AudioFault(f"{cut.utt}: silent from sample {start} to {start + num}")
        if self.config.train.augment_on == "device":
            return augment_before_reverb(wave, self.config.augment, rng, self.banks)
        return augment(wave, self.config.augment, rng, self.banks), []


def epoch_loader(dataset: EpochDataset, num_workers: int) -> DataLoader:
    """A loader of the dataset's batches, in order."""
    return DataLoader(dataset, batch_size=None, num_workers=num_workers, pin_memory=torch.cuda.is_available(),
                      prefetch_factor=4 if num_workers else None, worker_init_fn=ignore_sigterm)


def ignore_sigterm(_: int) -> None:
    """A scheduler sends SIGTERM to every process; the main one needs its workers until it has saved."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def to_device(batch: dict[str, Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """wave (B, T) and label (B,) of a batch on the device, fully augmented."""
    wave = apply_on_device(batch["wave"].to(device, non_blocking=True), batch["operations"])
    return wave, batch["label"].to(device, non_blocking=True)
