# SPDX-License-Identifier: Apache-2.0
"""Utterances per second that one core prepares for training, against a plain loop that does the same work.

The synthetic corpus has the form of VoxCeleb, MUSAN and RIRS_NOISES (16-bit WAV, 16 kHz), with noise instead of speech,
since the content does not affect the work. Its files are in the page cache. Crops of 59,050 samples, conf/augment.yaml.
The plain loop reads whole files (float32, soundfile) and convolves by scipy.signal.convolve in mode full.
"""

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import convolve

from bench.timing import Ratio, compare
from rawnext.config import load_config
from rawnext.data.cuts import CutTable
from rawnext.data.manifest import scan_audio, write_data_dir
from rawnext.data.segment import load, read_segment
from rawnext.data.shar import read_shar, write_shar
from rawnext.training.augment import needed_banks, reverberate, unit_energy
from rawnext.training.dataset import EpochDataset, epoch_loader, to_device

SPEAKERS, UTTS = 128, 4  # in the corpus; a batch is a sixteenth of it
STEP = 8 * UTTS
ROUNDS = 5
ADDED = {"music": ("musan_music", 5, 15, 1, 1), "noise": ("musan_noise", 0, 15, 1, 1),
         "babble": ("musan_speech", 13, 20, 3, 7)}  # bank, dB from and to, fewest and most at a time


def lengths() -> dict[str, list[tuple[str, str, float]]]:
    """Data directory -> (utt, spk, seconds) of each file."""
    rng = random.Random(0)
    found = {"train": [(f"id{s:05d}-{u}", f"id{s:05d}", min(20, 4 + rng.expovariate(1 / 4.2)))
                       for s in range(SPEAKERS) for u in range(UTTS)]}
    for bank, num, least, most in (("musan_noise", 40, 5, 60), ("musan_music", 20, 30, 60),
                                   ("musan_speech", 20, 30, 60), ("rirs", 60, 0.3, 1)):
        found[bank] = [(f"{bank}-{i:03d}", f"{bank}-{i:03d}", rng.uniform(least, most)) for i in range(num)]
    return found


def write_corpora(folder: Path, kind: str = "wav") -> Path:
    """Write the data directories of `lengths` with their audio, as wav or flac."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(60 * 16000 + 1000).astype(np.float32) / 10
    for name, files in lengths().items():
        (folder / name / "audio").mkdir(parents=True)
        paths = [(utt, spk, str(folder / name / "audio" / f"{utt}.{kind}")) for utt, spk, _ in files]
        for number, ((_, _, seconds), (_, _, path)) in enumerate(zip(files, paths)):
            wave = noise[number : number + round(16000 * seconds)]
            soundfile.write(path, wave * np.exp(-np.arange(len(wave)) / 2000) if name == "rirs" else wave, 16000)
        write_data_dir(scan_audio(paths, 1)[0], folder / name)
    return folder


class Plain:
    """The usual loop: one call per utterance, whole files."""

    def __init__(self, folder: Path, config):
        self.files = {name: sorted(str(path) for path in (folder / name / "audio").iterdir()) for name in lengths()}
        self.samples, self.cases, self.rng = config.crop.samples, config.augment, random.Random(0)

    def run(self, num: int) -> np.ndarray:
        """Prepare `num` utterances in batches; returns the last batch."""
        for first in range(0, num, STEP):
            batch = np.stack([self.utterance(path) for path in self.files["train"][first : first + STEP]])
        return batch

    def utterance(self, path: str) -> np.ndarray:
        wave = self.stretch(path)
        for op in self.rng.choices(self.cases, [case["weight"] for case in self.cases])[0]["ops"] if self.cases else ():
            wave = self.reverberated(wave) if op == "reverb" else self.noisy(wave, *ADDED[op])
        return wave

    def stretch(self, path: str) -> np.ndarray:
        wave, _ = soundfile.read(path, dtype="float32")
        if len(wave) < self.samples:
            wave = np.pad(wave, (0, self.samples - len(wave)), "wrap")
        start = self.rng.randint(0, len(wave) - self.samples)
        return wave[start : start + self.samples]

    def noisy(self, wave: np.ndarray, bank: str, low: float, high: float, least: int, most: int) -> np.ndarray:
        power, noises = 10 * np.log10(np.mean(wave**2) + 1e-4), []
        for path in self.rng.sample(self.files[bank], self.rng.randint(least, most)):
            noise = self.stretch(path)
            gain = power - 10 * np.log10(np.mean(noise**2) + 1e-4) - self.rng.uniform(low, high)
            noises.append(np.float32(10 ** (gain / 20)) * noise)
        return wave + np.sum(noises, axis=0)

    def reverberated(self, wave: np.ndarray) -> np.ndarray:
        response, _ = soundfile.read(self.rng.choice(self.files["rirs"]), dtype="float32")
        return convolve(wave, response / np.sqrt(np.sum(response**2)), mode="full")[: self.samples]


class Ours:
    """The work of a training's data worker; with `finish` also the part left to the device, on this core."""

    def __init__(self, folder: Path, config, finish: bool = True):
        banks = {name: CutTable(folder / name) for name in needed_banks(config.augment)}
        self.data, self.finish = EpochDataset(CutTable(folder / "train"), config, banks, 0, 0, 1), finish

    def run(self, num: int):
        """Prepare `num` utterances in batches; returns the waveforms of the last batch."""
        for item in range(num // STEP):
            batch = self.data[item]
            wave = to_device(batch, torch.device("cpu"))[0] if self.finish else batch["wave"]
        return wave


def configuration(*changes: str, augment: bool = True):
    path = Path(__file__).resolve().parents[1] / "conf/augment.yaml"
    return load_config([path] if augment else [], [f"batch.speakers={STEP // 2}", "crop.short_from=0", *changes])


def measured(folder: Path) -> Iterator[Ratio]:
    torch.set_num_threads(1)
    write_corpora(folder)
    num, config, on_device = 2 * STEP, configuration(), configuration("train.augment_on=device")
    plain, ours, device = Plain(folder, config), Ours(folder, config), Ours(folder, on_device)
    old, new = ("plain loop", partial(plain.run, num)), ("EpochDataset", partial(ours.run, num))
    yield compare("crops with noise and reverberation", num, "utts", old, new, ROUNDS, "other random draws")
    clean = configuration(augment=False)
    yield compare("crops alone", num, "utts", ("whole files", partial(Plain(folder, clean).run, num)),
                  ("EpochDataset", partial(Ours(folder, clean).run, num)), ROUNDS, "samples are the files'")
    yield from (tars(folder, kind, num) for kind in ("wav", "flac"))
    yield segments(folder, num)
    yield reverberation(folder)
    apart = float((ours.run(STEP) - device.run(STEP)).abs().max())
    yield compare("the same, reverberation on the device", num, "utts", new,
                  ("the workers' part", partial(Ours(folder, on_device, False).run, num)), ROUNDS)
    yield compare("the same, the device is a CPU", num, "utts", new,
                  ("both parts", partial(device.run, num)), ROUNDS, f"differs by {apart:.1g}")


def tars(folder: Path, kind: str, num: int) -> Ratio:
    """Crops from files, and from the tar files of steps/make_shar.py."""
    files = folder if kind == "wav" else write_corpora(folder / kind, kind)
    out, config = folder / f"{kind}_tars/train", configuration(augment=False)
    write_shar(files / "train", out / "shar", kind, STEP, 1)
    write_data_dir(read_shar(out / "shar", 1)[0], out)
    old, new = Ours(files, config), Ours(out.parent, config)
    apart = float((old.run(STEP) - new.run(STEP)).abs().max())
    return compare(f"crops alone, {kind}", num, "utts", ("files", partial(old.run, num)),
                   ("tar files", partial(new.run, num)), ROUNDS, f"differs by {apart:.1g}")


def segments(folder: Path, num: int) -> Ratio:
    """The lower bound: read 59,050 samples of each file."""
    def libsndfile(path: str, start: int, stop: int) -> np.ndarray:
        return soundfile.read(path, start=start, stop=stop, dtype="float32", always_2d=True)[0][:, 0]

    table, samples = CutTable(folder / "train"), configuration().crop.samples
    cuts = [table[i] for i in range(num)]
    apart = max(float(np.abs(libsndfile(cut.path, 100, 1100) - load(cut, 100, 1000)).max()) for cut in cuts)
    return compare("one segment", num, "segments",
                   ("libsndfile", lambda: [libsndfile(cut.path, 0, samples) for cut in cuts]),
                   ("as in training", lambda: [load(cut, 0, samples) for cut in cuts]), ROUNDS,
                   f"differs by {apart:.1g}")


def reverberation(folder: Path) -> Ratio:
    """Convolution alone, with RIRs of all lengths."""
    table, samples = CutTable(folder / "rirs"), configuration().crop.samples
    wave = np.random.default_rng(0).standard_normal(samples, np.float32)
    cuts = [table[i] for i in range(len(table))]
    responses = [unit_energy(read_segment(cut, 0, cut.num_samples)) for cut in cuts]
    full = [convolve(wave, response)[:samples] for response in responses]
    apart = max(float(np.abs(reverberate(wave, response) - one).max()) for response, one in zip(responses, full))
    return compare("reverberation", len(table), "utts",
                   ("scipy.signal.convolve, full", lambda: [convolve(wave, one)[:samples] for one in responses]),
                   ("reverberate", lambda: [reverberate(wave, one) for one in responses]), ROUNDS,
                   f"differs by {apart:.1g} of {float(np.abs(full).max()):.2g}")


def rows(place: str | None = None) -> list[Ratio]:
    """One core against plain programs; place: folder for the temporary corpus."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        return list(measured(Path(folder)))


def notes(place: str | None = None) -> list[str]:
    """Number of cores that feed a GPU, by the CPU time of a data worker that reads an epoch and hands it over."""
    lines = []
    with tempfile.TemporaryDirectory(dir=place) as folder:
        write_corpora(Path(folder))
        for where in ("workers", "device"):
            data = Ours(Path(folder), configuration(f"train.augment_on={where}")).data
            best = min(children_seconds(partial(list, epoch_loader(data, 1))) for _ in range(ROUNDS))
            rate = SPEAKERS * UTTS / best
            needs = ", ".join(f"{wanted / rate:.1f} for {wanted:,} utts/s" for wanted in (1000, 3000))
            lines.append(f"augment_on {where}: {rate:,.0f} utts/s per core with start and hand-over; cores: {needs}")
    return lines


def children_seconds(work: Callable[[], object]) -> float:
    """CPU time of the processes that `work` starts and waits for."""
    before = os.times()
    work()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system
