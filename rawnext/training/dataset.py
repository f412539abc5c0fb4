# SPDX-License-Identifier: Apache-2.0
"""Batches of training waveforms: crop and augmentation of each utterance are drawn from (seed, epoch, utt)."""

import logging
import math
import os
import random
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rawnext.config import Batch, Config, Crop
from rawnext.data.cuts import CutTable, tile
from rawnext.data.segment import AudioFault, read_segment
from rawnext.data.speed import change_speed, with_copies
from rawnext.dist import is_main
from rawnext.errors import InputError
from rawnext.training.augment import augment
from rawnext.training.device_augment import Pending, apply_on_device, augment_before_reverb, batch_operations
from rawnext.training.sampler import epoch_batches
from rawnext.training.teacher import Teacher

log = logging.getLogger(__name__)

TRIES = 20  # utterances of a speaker to try before training stops
LONGEST_TMPDIR = 75  # bytes; with "/pymp-12345678/listener-12345678" it is the longest name of a socket, 107


def crop_samples(crop: Crop, progress: float) -> int:
    """Length of the crops after `progress` epochs."""
    if not crop.start_samples or progress >= crop.grow_epochs:
        return crop.samples
    return round(crop.start_samples + (crop.samples - crop.start_samples) * progress / crop.grow_epochs)


def num_draws(num_utts: int, batch: Batch) -> int:
    """Draws of a speaker with this many utterances in an epoch; 0: the speaker is never drawn."""
    least = max(batch.utts, batch.min_utts_per_speaker) if batch.repeat else 0
    return min(max(num_utts, least), batch.max_utts_per_speaker) // batch.utts * batch.utts


def report_undrawn(table: CutTable, config: Config) -> None:
    """Warn of speakers with too few utterances to be drawn."""
    counts = np.bincount(table.speaker_of, minlength=len(table.speakers))
    undrawn = [str(spk) for spk, num in zip(table.speakers, counts) if not num_draws(num, config.batch)]
    if undrawn and is_main():
        log.warning("%d of %d speakers have fewer than batch.utts %d utterances and are never drawn, the first: %s; "
                    "batch.repeat: true draws several crops of an utterance", len(undrawn), len(counts),
                    config.batch.utts, undrawn[0])


def fit_batch(table: CutTable, config: Config, parts: int) -> Config:
    """The configuration with smaller batches if the speakers do not fill one, as in a corpus of 20 speakers: of half of
    the speakers, so that those with more utterances than others are drawn more often.

    Args: parts: of a batch, all of which have equally many speakers.
    Raises: InputError: there are too few speakers for any batch.
    """
    counts = np.bincount(table.speaker_of, minlength=len(table.speakers))
    known = int(sum(num_draws(num, config.batch) > 0 for num in counts)) * (1 + len(config.batch.speeds))
    if known >= config.batch.speakers:
        return config
    size = max(known // 2 // parts, 1) * parts
    if not 2 <= size <= known:
        raise InputError(table.path, None, f"{known} speakers have {config.batch.utts} utterances or more, too few to "
                                           "train on; --set batch.repeat=true draws several crops of an utterance")
    if is_main():
        log.warning("batch.speakers: %d instead of %d, because %d speakers have %d utterances or more; --set "
                    "batch.speakers=N chooses another number", size, config.batch.speakers, known, config.batch.utts)
    return replace(config, batch=replace(config.batch, speakers=size))


class EpochDataset(Dataset):
    """One process's share of an epoch; an item is a batch.

    Item: wave (B, T) float32 and label (B,) int64, speaker-major; utt: B ids; bad: why utterances could not be read
    and were replaced by others of the same speaker; operations: augmentation to be done on the device; with a teacher,
    teacher (B, D): its embeddings. Copies at other speeds (batch.speeds) follow the N utterances and S speakers: copy
    c of utterance i is c N + i, with the label c S + its speaker.
    Args: start: first batch, if a part of the epoch is done.
    """

    def __init__(self, table: CutTable, config: Config, banks: Mapping[str, CutTable], epoch: int, rank: int,
                 world: int, start: int = 0, teacher: Teacher | None = None):
        self.table, self.config, self.banks, self.epoch, self.start = table, config, banks, epoch, start
        self.teacher, size = teacher, config.batch
        self.speeds = [1.0, *size.speeds]
        self.speaker_of = np.concatenate([table.speaker_of + c * len(table.speakers) for c in range(len(self.speeds))])
        batches = epoch_batches(self.speaker_of, size.speakers, size.utts, size.max_utts_per_speaker, config.seed,
                                epoch, num_draws(1, size))
        self.num_steps = len(batches)
        share = size.speakers // world
        self.batches = batches[start:, rank * share : (rank + 1) * share]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, item: int) -> dict[str, Any]:
        samples = crop_samples(self.config.crop, self.epoch + (self.start + item) / self.num_steps)
        bad: list[str] = []
        waves, indices, pending = [], [], []
        for group in self.batches[item]:
            for position, draw in enumerate(group):
                index, (wave, operations) = self.read(int(draw), samples, position > 0, bad)
                waves.append(wave)
                pending.append(operations)
                indices.append(index)
        batch = {"wave": torch.from_numpy(np.stack(waves)), "label": torch.from_numpy(self.speaker_of[indices]),
                 "utt": [self.name(index) for index in indices], "bad": bad, "operations": batch_operations(pending)}
        return batch if self.teacher is None else {**batch, "teacher": torch.from_numpy(self.teacher[indices])}

    def name(self, index: int) -> str:
        """Id of an utterance or of a copy."""
        copy, original = divmod(index, len(self.table))
        return with_copies([self.table.utts[original]], self.config.batch.speeds)[copy]

    def read(self, draw: int, samples: int, short: bool, bad: list[str]) -> tuple[int, tuple[np.ndarray, Pending]]:
        """Index and crop of a drawn utterance, or of another of its speaker if it cannot be read."""
        again, index = divmod(draw, len(self.speaker_of))
        for attempt in range(TRIES):
            seed = f"{self.config.seed}-{self.epoch}-{self.name(index)}-{attempt}"
            rng = random.Random(f"{seed}-{again}" if again else seed)
            try:
                return index, self.crop(index, samples, short, rng)
            except AudioFault as fault:
                bad.append(str(fault))
                same = np.flatnonzero(self.speaker_of == self.speaker_of[index])
                index = int(same[rng.randrange(len(same))])
        raise RuntimeError(f"{TRIES} utterances of a speaker in a row cannot be read, the last: {bad[-1]}")

    def crop(self, index: int, samples: int, short: bool, rng: random.Random) -> tuple[np.ndarray, Pending]:
        """A random crop of an utterance, tiled to `samples` and augmented, and the operations left to the device."""
        copy, original = divmod(index, len(self.table))
        cut, wanted, speed = self.table[original], samples, self.speeds[copy]
        if short and self.config.crop.short_from:
            wanted = rng.randint(self.config.crop.short_from, samples - 1)
        num = min(math.ceil(wanted * speed), cut.num_samples)
        start = rng.randint(0, cut.num_samples - num)
        wave = tile(change_speed(read_segment(cut, start, num), speed)[:wanted], samples)
        if not wave.any():
            raise AudioFault(f"{cut.utt}: silent from sample {start} to {start + num}")
        if self.config.train.augment_on == "device":
            return augment_before_reverb(wave, self.config.augment, rng, self.banks)
        return augment(wave, self.config.augment, rng, self.banks), []


def epoch_loader(dataset: Dataset, num_workers: int, pin_memory: bool = False, items: Sequence | None = None,
                 timeout_minutes: float = 0) -> DataLoader:
    """A loader of the dataset's items, in order; with `items`, of those, by workers that stay for the next pass.

    Its iterator raises RuntimeError if it waits for an item for longer than `timeout_minutes` (0: no limit): a file
    system may hang, and so may a worker of Python 3.11, if a thread of torch holds a lock of Python during the fork.

    Raises: InputError: the path of the folder for temporary files is too long for the workers' sockets.
    """
    folder = tempfile.gettempdir()
    if num_workers and len(os.fsencode(folder)) > LONGEST_TMPDIR:  # training would wait for them forever
        raise InputError(folder, None, f"TMPDIR has over {LONGEST_TMPDIR} bytes, too long for the sockets of data "
                                       "workers; set a shorter one, or --num-workers 0")
    # a generator of its own: a loader draws a seed from its generator at each start, also when a run is resumed
    return DataLoader(dataset, batch_size=None, sampler=items, num_workers=num_workers, pin_memory=pin_memory,
                      prefetch_factor=4 if num_workers else None, worker_init_fn=ignore_sigterm,
                      persistent_workers=items is not None and num_workers > 0, generator=torch.Generator(),
                      timeout=60 * timeout_minutes if num_workers else 0)


class AllEpochs(Dataset):
    """The batches of all epochs: item (epoch, step).

    Args: make: epoch -> its EpochDataset.
    """

    def __init__(self, make: Callable[[int], EpochDataset]):
        self.epoch = lru_cache(maxsize=1)(make)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        epoch, step = item
        return self.epoch(epoch)[step]


class TrainingLoader:
    """Reads epoch after epoch with the same workers, which start at the first batch and end with `close`.

    Args: make: see AllEpochs.   pin_memory: for transfers to a GPU.   timeout_minutes: see epoch_loader.
    """

    def __init__(self, make: Callable[[int], EpochDataset], num_workers: int, pin_memory: bool,
                 timeout_minutes: float = 0):
        self.data = AllEpochs(make)
        self.items: list[tuple[int, int]] = []
        self.loader: DataLoader | None = epoch_loader(self.data, num_workers, pin_memory, self.items, timeout_minutes)

    def num_steps(self, epoch: int) -> int:
        return self.data.epoch(epoch).num_steps

    def batches(self, epoch: int, start: int) -> Iterator[dict[str, Any]]:
        """The batches of an epoch from number `start`."""
        assert self.loader is not None
        self.items[:] = [(epoch, step) for step in range(start, self.num_steps(epoch))]
        return iter(self.loader)

    def close(self) -> None:
        self.loader = None


def ignore_sigterm(_: int) -> None:
    """A scheduler sends SIGTERM to every process; the main one needs its workers until it has saved."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def to_device(batch: dict[str, Any], device: torch.device) -> tuple[Tensor, ...]:
    """wave (B, T), label (B,) and, if there is one, teacher (B, D) of a batch on the device, fully augmented."""
    wave = apply_on_device(batch["wave"].to(device, non_blocking=True), batch["operations"])
    return wave, *(batch[key].to(device, non_blocking=True) for key in ("label", "teacher") if key in batch)
