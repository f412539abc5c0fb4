# SPDX-License-Identifier: Apache-2.0
"""Random access to a manifest of a million cuts."""

import contextlib
import json
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path
from rawnext.kaldi.words import check_id

SAMPLE_RATE = 16000
INDEX = "cuts.npz"

# otherwise lhotse passes the names of some files (.sph, .opus) to a shell
os.environ.setdefault("LHOTSE_AUDIO_BACKEND", "LibsndfileBackend")


class Cut(NamedTuple):
    """All that reading a cut needs.

    num_samples: at 16 kHz.   path, channel: the file, and the index of the cut's channel among its channels.
    begin: first sample in the file, at its rate in Hz.   lhotse: the MonoCut itself if only lhotse can read it (changed
        or joined audio); None for a segment of one file.
    """

    utt: str
    num_samples: int
    path: str
    channel: int
    begin: int
    rate: int
    lhotse: Any


def read_cut(line: bytes, path: PathLike, line_number: int) -> dict[str, Any]:
    """The JSON values of a lhotse MonoCut with a speaker and audio in files, one line of a cuts.jsonl.

    It is checked before lhotse gets it, which would also run commands and fetch URLs.

    Raises: InputError: it is anything else, or an id is invalid.
    """
    try:
        cut = json.loads(line)
        recording, utt, spk = cut["recording"], cut["id"], cut["supervisions"][0]["speaker"]
        kinds = [cut["type"], *(source["type"] for source in recording["sources"])]
        numbers = [cut["start"], cut["duration"], recording["duration"], recording["num_samples"],
                   recording["sampling_rate"]]
        check_id(utt, path, line_number)
        check_id(spk, path, line_number)
        finite = all(0 <= number < math.inf for number in numbers)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise InputError(path, line_number, "not a lhotse cut with a speaker") from None
    if kinds[0] != "MonoCut" or len(kinds) == 1 or any(kind != "file" for kind in kinds[1:]):
        raise InputError(path, line_number, f"{utt}: not a MonoCut of audio in files")
    if not finite:
        raise InputError(path, line_number, f"{utt}: negative or infinite lengths")
    return cut


def as_cut(cut: dict[str, Any]) -> Cut:
    """A Cut from JSON values; lhotse's own objects take ten times as long."""
    recording, source = cut["recording"], cut["recording"]["sources"][0]
    rate = rate_of(recording)
    if not rate:
        from lhotse.serialization import deserialize_item

        whole = deserialize_item(cut)
        return Cut(whole.id, whole.num_samples, "", 0, 0, 0, whole)
    return Cut(cut["id"], math.floor(cut["duration"] * SAMPLE_RATE + 0.5), str(source["source"]),
               source["channels"].index(cut["channel"]), math.floor(cut["start"] * rate + 0.5), rate, None)


def rate_of(recording: dict[str, Any]) -> int:
    """Rate in Hz of a recording's only file, of which it is a copy, resampled to 16 kHz if need be; 0 for others."""
    if len(recording["sources"]) > 1 or recording["sampling_rate"] != SAMPLE_RATE:
        return 0
    if not (transforms := recording.get("transforms")):
        return SAMPLE_RATE
    if len(transforms) > 1 or transforms[0]["name"] != "Resample":
        return 0
    rates = transforms[0]["kwargs"]
    return rates["source_sampling_rate"] if rates["target_sampling_rate"] == SAMPLE_RATE else 0


class CutTable:
    """The cuts of a `cuts.jsonl`, each read from the file when it is requested.

    This takes about 50 bytes of memory per cut, where a cut object takes 3.4 kB, so the million utterances of VoxCeleb2
    fit into every process. Ids and offsets are in arrays, which forked data workers share; Python objects would be
    copied on access. They come from the index `cuts.npz` within 0.1 s, or from the manifest in over 10 s if the index
    is missing or belongs to another version of the manifest.

    Args:
        path: the data directory.
    Attributes:
        utts: N ids.   speakers: sorted speaker ids.   speaker_of: (N,) index of each cut's speaker.
    Raises: InputError: no manifest, or one that is empty or damaged.
    """

    def __init__(self, path: PathLike):
        import lhotse.serialization  # noqa: F401 (takes a second; without it, in each data worker of each epoch)

        self.path = os.path.join(path, "cuts.jsonl")
        index = read_index(path) or scan_cuts(self.path)
        self.offsets, self.speakers, self.speaker_of = index["offsets"], index["speakers"], index["speaker_of"]
        self.utts = Ids(index["utts"])
        self._file: Any = None

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> Cut:
        """The cut at a line (0-based).

        Raises: InputError: the line is damaged or has another cut because the manifest was changed during training.
        """
        if self._file is None or self._file[0] != os.getpid():  # a file position must not be shared with a fork
            self._file = (os.getpid(), open(self.path, "rb"))  # noqa: SIM115 (kept open)
        self._file[1].seek(self.offsets[index])
        try:
            cut = read_cut(self._file[1].readline(), self.path, int(index) + 1)
        except InputError:
            cut = {"id": None}
        if cut["id"] != self.utts[index]:
            raise InputError(self.path, int(index) + 1, f"the cut {self.utts[index]} is no longer on this line")
        try:
            return as_cut(cut)
        except Exception as error:  # lhotse raises many types for unknown fields
            raise InputError(self.path, int(index) + 1, f"{self.utts[index]}: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


class Ids(Sequence[str]):
    """Strings in one array of UTF-8 bytes."""

    def __init__(self, encoded: np.ndarray):
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index):
        return self.encoded[index].decode()


def scan_cuts(path: PathLike) -> dict[str, np.ndarray]:
    """Read every line of a cuts.jsonl.

    Returns: utts (N,) bytes and speakers (S,) str, their ids; speaker_of (N,) into speakers; offsets (N,) in the file.
    Raises: InputError: no such file, or one that is empty or damaged.
    """
    utts, codes, offsets, offset = [], [], [], 0
    known: dict[bytes, int] = {}
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                cut = read_cut(line, path, number)
                codes.append(known.setdefault(cut["supervisions"][0]["speaker"].encode(), len(known)))
                utts.append(cut["id"].encode())
                offsets.append(offset)
                offset += len(line)
    except FileNotFoundError:
        raise InputError(path, None, "no such manifest; stage 1 of a recipe makes it (stage 2 for noises), and "
                                     "steps/make_cuts.py from Kaldi's tables") from None
    if not offsets:
        raise InputError(path, None, "is empty")
    speakers, place = np.unique(list(known), return_inverse=True)
    return {"utts": np.array(utts), "speakers": np.char.decode(speakers, "utf-8"), "speaker_of": place[np.array(codes)],
            "offsets": np.array(offsets)}


def write_index(path: PathLike) -> None:
    """Write `cuts.npz`, the index of `cuts.jsonl` in the data directory `path`."""
    manifest = os.path.join(path, "cuts.jsonl")
    with atomic_path(os.path.join(path, INDEX)) as temporary, open(temporary, "wb") as file:
        index: dict[str, Any] = {"version": file_version(manifest), "tables": checksum(path), **scan_cuts(manifest)}
        np.savez(file, **index)


def read_index(path: PathLike) -> dict[str, np.ndarray] | None:
    """The index of a data directory; None if it is missing, damaged or belongs to another manifest."""
    try:
        with np.load(os.path.join(path, INDEX)) as arrays:
            index = {name: arrays[name] for name in ("utts", "speakers", "speaker_of", "offsets", "version")}
        fresh = np.array_equal(index["version"], file_version(os.path.join(path, "cuts.jsonl")))
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
        return None
    return index if fresh else None


def tables_changed(path: PathLike) -> bool:
    """Whether wav.scp or segments of a data directory differ from those that cuts.jsonl was made with, if it is known:
    if the index belongs to a manifest of this size."""
    try:
        with np.load(os.path.join(path, INDEX)) as arrays:
            known = arrays["version"][0] == os.stat(os.path.join(path, "cuts.jsonl")).st_size
            return bool(known and arrays["tables"] != checksum(path))
    except (OSError, ValueError, KeyError, IndexError, EOFError, RuntimeError, zipfile.BadZipFile):
        return False


def checksum(path: PathLike) -> int:
    """CRC-32 of the tables that place utterances in files."""
    crc = 0
    for name in ("wav.scp", "segments"):
        with contextlib.suppress(FileNotFoundError), open(os.path.join(path, name), "rb") as file:
            crc = zlib.crc32(file.read(), crc)
    return crc


def file_version(path: PathLike) -> np.ndarray:
    """Size and modification time (ns), which differ for another or a changed file."""
    status = os.stat(path)
    return np.array([status.st_size, status.st_mtime_ns])


def centre_crop(wave: np.ndarray, num_samples: int) -> np.ndarray:
    """The middle num_samples of (T,); all samples if there are fewer."""
    if len(wave) <= num_samples:
        return wave
    start = len(wave) // 2 - num_samples // 2
    return wave[start : start + num_samples]


def tile(wave: np.ndarray, num_samples: int) -> np.ndarray:
    """Repeat or cut (T,) to num_samples."""
    return wave[:num_samples] if len(wave) >= num_samples else np.resize(wave, num_samples)
