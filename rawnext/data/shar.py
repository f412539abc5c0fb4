# SPDX-License-Identifier: Apache-2.0
"""Lhotse Shar: utterances in a few large tar files, which our reader reads at any position (`TAR:OFFSET`).

A shard N is `cuts.N.jsonl.gz` and `recording.N.tar`, whose members are the audio of each cut, in order.
"""

import gzip
import io
import json
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import soundfile

from rawnext.data.audio import read_samples
from rawnext.data.cuts import SAMPLE_RATE, Cut, CutTable
from rawnext.data.manifest import Utterance, scan_audio
from rawnext.data.pool import worker_pool
from rawnext.errors import AudioError, InputError
from rawnext.files import PathLike, readable, writable
from rawnext.kaldi.tables import read_table
from rawnext.log import progress

FORMATS = ("flac", "wav")
TEMPORARY = ".shar-"  # prefix of a folder next to the shards
TOLERANCE_S = 0.1  # between the duration of a cut and that of its audio


# --- writing

class Shard(NamedTuple):
    """Lines first...last - 1 of a data directory's cuts.jsonl, as shard `number` of a folder."""

    data_dir: Path
    folder: Path
    audio_format: str
    number: int
    first: int
    last: int

    @property
    def names(self) -> tuple[str, str]:
        """The tar file, and the manifest, which is renamed last."""
        return f"recording.{self.number:06d}.tar", f"cuts.{self.number:06d}.jsonl.gz"


def write_shar(data_dir: PathLike, folder: PathLike, audio_format: str, shard_size: int, num_jobs: int) -> int:
    """Write the utterances of a data directory's cuts.jsonl in its order; shards of an interrupted run are kept.

    The samples are 16-bit, at the rate of the audio files.

    Args: audio_format: of FORMATS.   shard_size: utterances per shard.
    Returns: the number of new utterances whose samples were rounded, because they are not 16-bit.
    Raises: InputError: audio cannot be read, or the folder has other files.
    """
    data, out, table = Path(data_dir), Path(folder), CutTable(data_dir)
    shards = [Shard(data, out, audio_format, number, first, min(first + shard_size, len(table)))
              for number, first in enumerate(range(0, len(table), shard_size))]
    with writable(out):
        out.mkdir(parents=True, exist_ok=True)
    for path in out.parent.glob(f"{TEMPORARY}*"):  # of a killed export
        shutil.rmtree(path)
    expected = {name for shard in shards for name in shard.names}
    for path in out.iterdir():
        if not path.name.startswith(("recording.", "cuts.")) or path.is_symlink() or not path.is_file():
            raise InputError(path, None, "is no part of a Shar directory; give another output folder")
        if path.name not in expected:
            path.unlink()
    todo = [shard for shard in shards if not is_complete(shard, table)]
    with worker_pool(min(num_jobs, max(1, len(todo)))) as pool:
        return sum(progress(pool.map(write_shard, todo), total=len(todo), desc="write", unit="shard"))


def is_complete(shard: Shard, table: CutTable) -> bool:
    """Whether the shard was written from the present cuts.jsonl with the same options."""
    recording, cuts = (shard.folder / name for name in shard.names)
    try:
        if cuts.stat().st_mtime_ns < (shard.data_dir / "cuts.jsonl").stat().st_mtime_ns:
            return False
        with tarfile.open(recording, "r:") as tar:
            member = tar.next()
        return (member is not None and member.name.endswith(f".{shard.audio_format}")
                and [row.utt for row in read_manifest(cuts)] == [table.utts[i] for i in range(shard.first, shard.last)])
    except (OSError, tarfile.TarError, InputError):
        return False


def write_shard(shard: Shard) -> int:
    """Write a shard under temporary names and rename it.   Returns: see write_shar."""
    table, (recordings, cuts) = CutTable(shard.data_dir), shard.names
    genders = read_table(shard.data_dir / "spk2gender", one_word=True, optional=True)
    num_rounded = 0
    with writable(shard.folder / recordings), TemporaryDirectory(dir=shard.folder.parent, prefix=TEMPORARY) as folder:
        # not by lhotse's SharWriter, which has other decoders and prints a traceback when the disk is full
        with tarfile.open(f"{folder}/{recordings}", "w") as tar, gzip.open(f"{folder}/{cuts}", "wt") as manifest:
            for index in range(shard.first, shard.last):
                cut, spk, audio = table[index], str(table.speakers[table.speaker_of[index]]), io.BytesIO()
                try:
                    wave, rate = read_whole(cut)
                    samples, is_rounded = to_16_bit(wave)
                except AudioError as error:
                    raise InputError(table.path, index + 1, f"{cut.utt}: {cut.path}: {error}") from None
                num_rounded += is_rounded
                soundfile.write(audio, samples, rate, format=shard.audio_format)
                whole = lhotse_cut(cut.utt, spk, genders.get(spk), len(wave), rate)
                add(tar, f"{cut.utt}.{shard.audio_format}", audio.getvalue())
                add(tar, f"{cut.utt}.json", json.dumps(whole["recording"]).encode())
                manifest.write(f"{json.dumps(whole)}\n")
        (shard.folder / cuts).unlink(missing_ok=True)
        for name in shard.names:
            os.replace(Path(folder) / name, shard.folder / name)
    return num_rounded


def lhotse_cut(utt: str, spk: str, gender: str | None, num_samples: int, rate: int) -> dict[str, Any]:
    """A MonoCut of an utterance in a Shar directory, as JSON values."""
    from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

    seconds = num_samples / rate
    recording = Recording(utt, [AudioSource("shar", [0], "")], rate, num_samples, seconds, [0])
    segment = SupervisionSegment(utt, utt, 0, seconds, 0, speaker=spk, gender=gender)
    return MonoCut(utt, 0, seconds, 0, [segment], recording=recording).to_dict()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def read_whole(cut: Cut) -> tuple[np.ndarray, int]:
    """An utterance as (T,) float32 at the rate of its file, and this rate in Hz.

    A segment at another rate than 16 kHz ends with silence for the resampler, which otherwise hears what follows it.
    Raises: AudioError: it cannot be read, or is cut off.
    """
    if cut.lhotse is not None:
        try:
            return cut.lhotse.load_audio()[0], SAMPLE_RATE
        except Exception as error:  # lhotse raises many types
            raise AudioError(" ".join(str(error).split())[:200]) from error
    # the most samples that become cut.num_samples at 16 kHz; a file may end with fewer
    num = -(-cut.rate * (2 * cut.num_samples + 1) // (2 * SAMPLE_RATE)) - 1
    wave, rate, *_ = read_samples(cut.path, cut.begin, cut.begin + num, cut.channel)
    if rate != cut.rate:
        raise AudioError(f"{rate} Hz instead of {cut.rate} Hz")
    if len(wave) < num - max(1, rate // SAMPLE_RATE):
        raise AudioError(f"{len(wave)} samples instead of {num}")
    return wave, rate


def to_16_bit(wave: np.ndarray) -> tuple[np.ndarray, bool]:
    """(T,) samples in [-1, 1] as int16, and whether they had to be rounded.   Raises: AudioError: NaN or infinity."""
    if not np.isfinite(wave).all():
        raise AudioError("contains NaN or infinity")
    exact = wave * np.float32(32768)
    samples = np.clip(np.rint(exact), -32768, 32767)
    return samples.astype(np.int16), not np.array_equal(samples, exact)


# --- reading

class Row(NamedTuple):
    """A cut of a Shar manifest.   start_s, duration_s: within its audio.   gender: may be empty."""

    utt: str
    spk: str
    gender: str
    start_s: float
    duration_s: float


def is_shar(folder: PathLike) -> bool:
    return any(Path(folder).glob("cuts.*jsonl*")) and any(Path(folder).glob("recording.*tar*"))


def read_shar(folder: PathLike, num_jobs: int) -> tuple[list[Utterance], dict[str, str]]:
    """Utterances of a Shar directory, made by write_shar or by Lhotse, and the genders of its speakers, where known.

    An utt that does not begin with its speaker gets it as a prefix, as Kaldi's tables need.
    Raises: InputError: a shard is damaged or incomplete; a cut has no speaker, or is only a part of its audio.
    """
    cuts, tars = (sorted(Path(folder).absolute().glob(kind)) for kind in ("cuts.*jsonl*", "recording.*tar*"))
    if len(cuts) != len(tars):
        raise InputError(folder, None, f"has {len(cuts)} files cuts.*.jsonl.gz and {len(tars)} files recording.*.tar")
    with worker_pool(min(num_jobs, len(cuts))) as pool:
        shards = list(progress(pool.map(read_shard, cuts, tars), total=len(cuts), desc="read", unit="shard"))
    rows = [(row, place) for shard in shards for row, place in shard]
    utterances, bad = scan_audio([(f"{'' if row.utt.startswith(row.spk) else f'{row.spk}-'}{row.utt}", row.spk, place)
                                  for row, place in rows], num_jobs)
    for place, why in bad:
        raise InputError(place, None, why)
    for (row, place), utt in zip(rows, utterances):
        if not abs(row.start_s) + abs(row.duration_s - utt.num_samples / utt.sample_rate) <= TOLERANCE_S:
            raise InputError(place, None, f"{row.utt} is {row.duration_s:g} s from {row.start_s:g} s on of "
                                          f"{utt.num_samples / utt.sample_rate:g} s of audio; export such cuts again")
    return utterances, {row.spk: row.gender for row, _ in rows if row.gender}


def read_shard(cuts: Path, tar: Path) -> list[tuple[Row, str]]:
    """Rows of a manifest, and where the audio of each is, as `TAR:OFFSET`."""
    rows, members = list(read_manifest(cuts)), list(read_members(tar))
    for number, (row, (name, _)) in enumerate(zip(rows, members), 1):
        if name.rpartition(".")[0] != row.utt or name.endswith(".nodata"):
            raise InputError(cuts, number, f"{row.utt}: {tar.name} has {name} in its place")
    if len(rows) != len(members):
        raise InputError(cuts, None, f"has {len(rows)} cuts, and {tar.name} {len(members)}")
    return [(row, f"{tar}:{offset}") for row, (_, offset) in zip(rows, members)]


def read_members(path: Path) -> Iterator[tuple[str, int]]:
    """Name and offset of each audio file of a tar file."""
    try:
        with readable(path), tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.name.endswith((".json", ".nometa")):
                    yield member.name, member.offset_data
    except tarfile.TarError as error:
        raise InputError(path, None, f"is compressed, cut off or no tar file: {error}") from None


def read_manifest(path: Path) -> Iterator[Row]:
    with readable(path), gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            for number, line in enumerate(file, 1):
                yield read_row(line, path, number)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(path, None, f"is damaged: {error}") from None


def read_row(line: bytes, path: Path, number: int) -> Row:
    try:
        cut = json.loads(line)
        spks = {segment["speaker"] for segment in cut["supervisions"]}
        (spk,), gender = spks, str(cut["supervisions"][0].get("gender") or "")[:1].lower()
        row = Row(cut["id"], spk, gender if gender in ("m", "f") else "", float(cut["start"]), float(cut["duration"]))
        is_valid = isinstance(row.utt, str) and isinstance(spk, str) and cut["type"] == "MonoCut"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        is_valid = False
    if not is_valid:
        raise InputError(path, number, "not a lhotse MonoCut of one speaker")
    return row
