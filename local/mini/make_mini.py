#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Synthesise the mini corpus: eSpeak NG speakers, and noise and room banks in the layouts of MUSAN and RIRS_NOISES.

  local/mini/make_mini.py corpus --train-speakers 64 --test-speakers 20 --utts 20

All audio is 16 kHz, mono, 16 bit, and identical in every run and for any --nj:
  OUT/{train,test}/<spk>/<utt>.flac   OUT/speakers.tsv
  OUT/musan/{noise,music,speech}/synth/*.wav   OUT/rirs/simulated_rirs/{small,medium,large}room/Room001/*.wav
It is made in .OUT.partial, where a killed run continues.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rawnext.data.pool import worker_pool
from rawnext.errors import FULL, InputError, run_main
from rawnext.files import atomic_path, write_lines
from rawnext.log import progress, setup_log

log = logging.getLogger(__name__)

NUM_NOISES, NUM_SONGS, NUM_TALKS, NUM_ROOMS = 16, 6, 20, 42
T60_S = {"small": (0.1, 0.25), "medium": (0.25, 0.4), "large": (0.4, 0.6)}
STAMP = ".complete"  # content of the folder, also while it is being made
Job = tuple[str, Callable[..., Any], tuple]  # (path in OUT, function of mini_files, its arguments)


def bank_jobs(seed: int) -> Iterator[Job]:
    from mini_files import make_noise, make_rir, make_song, make_talk

    banks = (("noise", make_noise, NUM_NOISES), ("music", make_song, NUM_SONGS), ("speech", make_talk, NUM_TALKS))
    for name, make, num in banks:
        for i in range(num):
            yield f"musan/{name}/synth/{name}-synth-{i:04d}.wav", make, (i, seed)
    for i in range(NUM_ROOMS):
        size = list(T60_S)[i % len(T60_S)]
        yield f"rirs/simulated_rirs/{size}room/Room001/Room001-{i:05d}.wav", make_rir, (i, *T60_S[size], seed)


def utterance_jobs(speakers: list[Any], num_utts: int, seed: int) -> Iterator[Job]:
    from mini_files import make_utterance

    for speaker in speakers:
        for i in range(1, num_utts + 1):
            utt = f"{speaker.spk}-{i:03d}"
            yield f"{speaker.set}/{speaker.spk}/{utt}.flac", make_utterance, (speaker, utt, seed)


def write_audio(out: Path, job: Job) -> int:
    """Make one file unless it exists; returns its number of samples."""
    import soundfile

    path, make, arguments = job
    if (out / path).exists():
        return soundfile.info(out / path).frames
    samples = make(*arguments)
    with atomic_path(out / path) as temporary:
        soundfile.write(temporary, samples, 16000, subtype="PCM_16", format=(out / path).suffix[1:])
    return len(samples)


def make_corpus(out: Path, args: argparse.Namespace) -> float:
    """Write the corpus to `out`; returns hours of speech."""
    from mini_espeak import load_library
    from mini_voices import Speaker, make_speakers

    load_library()  # reports a missing library before the work
    speakers = [*make_speakers("train", args.train_speakers, 1, args.seed),
                *make_speakers("test", args.test_speakers, args.train_speakers + 1, args.seed)]
    utterances = list(utterance_jobs(speakers, args.utts, args.seed))
    jobs = [*utterances, *bank_jobs(args.seed)]
    with worker_pool(args.nj) as pool:
        lengths = list(progress(pool.map(partial(write_audio, out), jobs, chunksize=8), total=len(jobs)))
    write_lines(out / "speakers.tsv", ("\t".join(map(str, row)) for row in [Speaker._fields, *speakers]))
    write_lines(out / "musan" / "music" / "synth" / "ANNOTATIONS",
                (f"music-synth-{i:04d} synthetic N rawnext" for i in range(NUM_SONGS)))
    return sum(lengths[: len(utterances)]) / 16000 / 3600


@contextlib.contextmanager
def growing_folder(final: Path, stamp: str) -> Iterator[Path]:
    """A folder that replaces `final` if the block succeeds; otherwise the next run with this stamp continues in it.

    Raises: InputError: it cannot be written, or another process is making it.
    """
    growing, old = (final.with_name(f".{final.name}.{what}") for what in ("partial", "old"))
    try:
        growing.mkdir(parents=True, exist_ok=True)
        with only_user(growing):
            if not has_stamp(growing, stamp):
                empty(growing)
                write_lines(growing / STAMP, [stamp])
            for left in growing.rglob(".*.tmp"):  # incomplete files of a killed run
                left.unlink()
            yield growing
            shutil.rmtree(old, ignore_errors=True)
            if final.exists():
                os.replace(final, old)
            os.replace(growing, final)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.filename is None and error.errno not in FULL:  # not about a file: a machine without shared memory
            raise
        raise InputError(final, None, f"cannot be written: {error.strerror or error}") from error


def has_stamp(folder: Path, stamp: str) -> bool:
    return (folder / STAMP).is_file() and (folder / STAMP).read_text().strip() == stamp


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def only_user(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder.

    Raises: InputError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(folder, None, "is being made by another process") from None
    finally:
        os.close(descriptor)


def make_stamp(args: argparse.Namespace) -> str:
    """Everything that the corpus depends on, as JSON."""
    here = Path(__file__).resolve()
    sources = b"".join(path.read_bytes() for path in [here, *sorted(here.parent.glob("mini_*.py"))])
    wanted = {name: getattr(args, name) for name in ("train_speakers", "test_speakers", "utts", "seed")}
    wanted["espeakng_loader"] = importlib.metadata.version("espeakng-loader")
    return json.dumps({**wanted, "sources": hashlib.sha256(sources).hexdigest()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the corpus; an older one is replaced")
    parser.add_argument("--train-speakers", type=int, default=64, help="training speakers (default: 64)")
    parser.add_argument("--test-speakers", type=int, default=20, help="test speakers, with other voices (default: 20)")
    parser.add_argument("--utts", type=int, default=20, help="utterances per speaker (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="seed of all draws (default: 1)")
    parser.add_argument("--nj", type=int, default=2, help="parallel processes (default: 2)")
    args = parser.parse_args()
    setup_log()
    for name, largest in (("train_speakers", 900), ("test_speakers", 99), ("utts", 999), ("nj", 999)):
        if not 1 <= getattr(args, name) <= largest:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}", None, f"must be 1 to {largest}")
    if args.seed < 0:
        raise InputError(f"--seed {args.seed}", None, "must be at least 0")
    make_once(args.out.resolve(), args)


def make_once(out: Path, args: argparse.Namespace) -> None:
    """Make the corpus unless the folder contains the requested one."""
    stamp, started = make_stamp(args), time.time()
    if out.exists():
        if has_stamp(out, stamp):
            log.info("%s: complete already, kept", out)
            return
        if not out.is_dir() or (any(out.iterdir()) and not (out / STAMP).is_file()):
            raise InputError(out, None, "exists and is not a mini corpus; remove it or choose another folder")
    with growing_folder(out, stamp) as folder:
        hours = make_corpus(folder, args)
    log.info("%s: %d training and %d test speakers, %d utterances each, %.2f hours, made in %.0f s", out,
             args.train_speakers, args.test_speakers, args.utts, hours, time.time() - started)


if __name__ == "__main__":
    run_main(main)
