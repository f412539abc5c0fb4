# SPDX-License-Identifier: Apache-2.0
"""From audio files to a data directory: `cuts.jsonl` (lhotse) and Kaldi's tables, written from one list.

Time is linear, and a cut exists only while its line is written; figures for 1.1 million utterances:
docs/explanation/scale.md.
"""

import json
import logging
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from rawnext.data.audio import Header, read_header
from rawnext.data.cuts import INDEX, SAMPLE_RATE, CutTable, tables_changed, write_index
from rawnext.data.pool import worker_pool
from rawnext.errors import AudioError, InputError
from rawnext.files import PathLike, write_lines
from rawnext.kaldi.tables import read_table, write_conditions
from rawnext.kaldi.words import check_id
from rawnext.log import progress

log = logging.getLogger(__name__)


class Utterance(NamedTuple):
    """An audio file, or a segment of it.

    path: absolute.   num_samples, start: of the utterance, at the file's own sample_rate in Hz.   channel: counted from
    0.   recording: id of the file, of which this is a segment; empty: all of it.
    """

    utt: str
    spk: str
    path: str
    num_samples: int
    sample_rate: int
    num_channels: int
    start: int = 0
    channel: int = 0
    recording: str = ""


# --- reading headers

SHOWN_FAULTS = 10  # the list file has all of them


def scan_audio(files: Iterable[tuple[str, str, str]], num_jobs: int) -> tuple[list[Utterance], list[tuple[str, str]]]:
    """Read the header of every file, in parallel processes.

    Args:
        files: (utt, spk, path) each.   num_jobs: processes.
    Returns: the readable utterances in the given order, and (path, reason) of empty, undecodable and cut-off files.
    """
    files = [file for file in files if not os.path.basename(file[2]).startswith("._")]  # macOS's notes on other files
    paths = [os.path.abspath(path) for _, _, path in files]
    good, bad = [], []
    for (utt, spk, _), path, header in zip(files, paths, progress(read_headers(paths, num_jobs), total=len(paths))):
        if isinstance(header, str):
            bad.append((path, header))
        else:
            good.append(Utterance(utt, spk, path, *header))
    return good, bad


def read_headers(paths: Sequence[str], num_jobs: int) -> Iterator[Header | str]:
    """`describe` of each path, in order."""
    chunk = 256
    if num_jobs <= 1 or len(paths) <= chunk:
        yield from map(describe, paths)
    else:
        with worker_pool(num_jobs) as pool:
            yield from pool.map(describe, paths, chunksize=chunk)


def describe(path: str) -> Header | str:
    """The header of an audio file, or why it cannot be read."""
    try:
        return read_header(path)
    except AudioError as error:
        return str(error)


def check_bad(bad: Sequence[tuple[str, str]], num_files: int, list_path: PathLike, max_fraction: float = 0.0) -> None:
    """Report files that cannot be read, and list all of them in `list_path`.

    Raises: InputError: they are more than max_fraction of all.
    """
    Path(list_path).unlink(missing_ok=True)
    if not bad:
        return
    for path, why in bad[:SHOWN_FAULTS]:
        log.warning("%s: %s", path, why)
    write_lines(list_path, (f"{path}\t{why}" for path, why in bad))
    if len(bad) > max_fraction * num_files:
        raise InputError(list_path, None, f"{len(bad)} of {num_files} audio files cannot be read; they are listed here")
    log.warning("%s: %d of %d audio files cannot be read and are left out", list_path, len(bad), num_files)


# --- writing a data directory

def write_data_dir(utterances: Iterable[Utterance], out_dir: PathLike,
                   spk2gender: Mapping[str, str] | None = None,
                   conditions: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Write `wav.scp [segments] utt2spk spk2utt utt2dur [spk2gender] cuts.jsonl cuts.npz` in Kaldi's order; cuts.jsonl
    and its index last.

    Cuts are at 16 kHz (other rates are resampled while loading) and use the first channel.

    Args:
        spk2gender: speaker -> m or f; the table is written if it has all speakers.
        conditions: other tables utt2X and spk2X by name: see rawnext.kaldi.tables.write_conditions.
    Raises: InputError: no utterances, a bad or repeated id, a speaker id that is not the prefix of its utterances' ids.
    """
    out = Path(out_dir)
    utts = sorted(utterances)  # code points sort like UTF-8 bytes, that is like LC_ALL=C
    check_utterances(utts, out / "utt2spk")
    spk2utt = [(spk, " ".join(u.utt for u in group)) for spk, group in groupby(utts, key=lambda u: u.spk)]
    genders = known_genders([spk for spk, _ in spk2utt], spk2gender or {}, out / "spk2gender")
    # a manifest must never be present with the tables of another one
    for name in ("cuts.jsonl", INDEX, "spk2gender", "segments"):
        (out / name).unlink(missing_ok=True)
    files = {u.recording or u.utt: u.path for u in utts}
    write_lines(out / "wav.scp", (f"{name} {files[name]}" for name in sorted(files)))
    if any(u.recording for u in utts):
        write_lines(out / "segments", (f"{u.utt} {u.recording or u.utt} {u.start / u.sample_rate} "
                                       f"{(u.start + u.num_samples) / u.sample_rate}" for u in utts))
    write_lines(out / "utt2spk", (f"{u.utt} {u.spk}" for u in utts))
    write_lines(out / "spk2utt", (f"{spk} {its_utts}" for spk, its_utts in spk2utt))
    write_lines(out / "utt2dur", (f"{u.utt} {num_samples_16k(u) / SAMPLE_RATE}" for u in utts))
    if len(genders) == len(spk2utt):
        write_lines(out / "spk2gender", (f"{spk} {genders[spk]}" for spk, _ in spk2utt))
    write_conditions(out, conditions or {}, {u.utt: u.spk for u in utts})
    write_cuts(utts, out, genders)
    log.info("%s: %d utterances, %d speakers, %.2f hours", out, len(utts), len(spk2utt),
             sum(u.num_samples / u.sample_rate for u in utts) / 3600)


def write_cuts(utts: Iterable[Utterance], out: Path, genders: Mapping[str, str]) -> None:
    """Write `cuts.jsonl` and its index."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    write_lines(out / "cuts.jsonl", (encode(make_cut(u, genders.get(u.spk))) for u in utts))
    write_index(out)


def check_utterances(utts: Sequence[Utterance], place: Path) -> None:
    """Raise InputError unless sorted utterances follow Kaldi's rules; warn about rates and channels."""
    if not utts:
        raise InputError(place, None, "would be empty: there are no utterances")
    previous = Utterance("", "", "", 0, 0, 0)
    for u in utts:
        check_id(u.utt, place)
        if u.utt == previous.utt:
            raise InputError(place, None, f"{u.utt} is the id of two files, {previous.path} and {u.path}")
        if not u.utt.startswith(check_id(u.spk, place)):
            raise InputError(place, None, f"{u.utt} does not begin with the id of its speaker, {u.spk}")
        if u.spk < previous.spk:
            raise InputError(place, None, f"{previous.utt} of {previous.spk} is before {u.utt} of {u.spk}: sorted by "
                                          "utterance is not sorted by speaker; give all speaker ids the same length")
        if not u.path.isprintable() or u.path != u.path.strip() or u.path.endswith("|") or not os.path.isabs(u.path):
            raise InputError(place, None, f"{u.utt}: wav.scp cannot contain the path {u.path!r}")
        if num_samples_16k(u) < 1:
            raise InputError(place, None, f"{u.utt}: {u.path} has no samples")
        previous = u
    if count := sum(u.sample_rate != SAMPLE_RATE for u in utts):
        log.warning("%s: %d of %d files are not sampled at %d Hz and are resampled while loading",
                    place.parent, count, len(utts), SAMPLE_RATE)
    if count := sum(u.num_channels != 1 for u in utts):
        log.warning("%s: %d of %d files have several channels; the first is used", place.parent, count, len(utts))


def known_genders(spks: Sequence[str], spk2gender: Mapping[str, str], place: Path) -> dict[str, str]:
    """The genders of these speakers, where known."""
    genders = {spk: spk2gender[spk] for spk in spks if spk in spk2gender}
    for spk, gender in genders.items():
        if gender not in ("m", "f"):
            raise InputError(place, None, f"{spk}: expected m or f, got {gender!r}")
    if 0 < len(genders) < len(spks):
        log.warning("%s: not written: the gender of %d of %d speakers is not known", place, len(spks) - len(genders),
                    len(spks))
    return genders


def num_samples_16k(u: Utterance) -> int:
    """Samples at 16 kHz; halves are rounded up, as in lhotse."""
    return (2 * u.num_samples * SAMPLE_RATE + u.sample_rate) // (2 * u.sample_rate)


def make_cut(u: Utterance, gender: str | None) -> dict[str, Any]:
    """A lhotse MonoCut at 16 kHz as JSON values; lhotse's own objects take ten times as long."""
    channels, name = list(range(u.num_channels)), u.recording or u.utt
    span = {"start": 0.0, "duration": num_samples_16k(u) / SAMPLE_RATE, "channel": u.channel}
    supervision = {"id": u.utt, "recording_id": name, **span, "speaker": u.spk}
    if gender:
        supervision["gender"] = gender
    whole = num_samples_16k(u._replace(num_samples=u.start + u.num_samples))  # at least; only the cut is read
    recording = {"id": name, "sources": [{"type": "file", "channels": channels, "source": u.path}],
                 "sampling_rate": SAMPLE_RATE, "num_samples": whole, "duration": whole / SAMPLE_RATE,
                 "channel_ids": channels}
    if u.sample_rate != SAMPLE_RATE:
        rates = {"source_sampling_rate": u.sample_rate, "target_sampling_rate": SAMPLE_RATE}
        recording["transforms"] = [{"name": "Resample", "kwargs": rates}]
    return {"id": u.utt, **span, "start": u.start / u.sample_rate, "supervisions": [supervision],
            "recording": recording, "type": "MonoCut"}


def check_tables(table: CutTable, data_dir: PathLike) -> None:
    """Compare the cuts of a data directory, which training reads, with its tables, which all other programs read.

    Raises: InputError: an utterance is in one of them only, or has another speaker; wav.scp or segments changed.
    """
    path = Path(data_dir) / "utt2spk"
    if not path.exists():
        return
    utt2spk = read_table(path, one_word=True)
    advice = f"steps/make_cuts.py {data_dir} makes cuts.jsonl again"
    for utt, speaker in zip(table.utts, table.speakers[table.speaker_of].tolist()):
        if (known := utt2spk.pop(utt, None)) != speaker:
            why = f"has {utt} of {speaker}, which is not in utt2spk" if known is None else (
                f"has {utt} of {speaker}, utt2spk of {known}")
            raise InputError(table.path, None, f"{why}; {advice}")
    if utt2spk:
        raise InputError(table.path, None, f"does not have {next(iter(utt2spk))}, which is in utt2spk; {advice}")
    if tables_changed(data_dir):
        raise InputError(table.path, None, f"wav.scp or segments changed after it was made; {advice}")


# --- choosing speakers

def hold_out_speakers(utterances: Sequence[Utterance], num: int,
                      seed: int) -> tuple[list[Utterance], list[Utterance]]:
    """Hold out `num` speakers with two or more utterances for validation.

    Returns: (train, dev), each in the given order; the same seed and speakers give the same choice.
    Raises: InputError: there are not enough speakers, or none would be left to train on.
    """
    counts = Counter(u.spk for u in utterances)
    fit = sorted(spk for spk, count in counts.items() if count >= 2)
    if num > len(fit) or num >= len(counts):
        raise InputError("held-out speakers", None, f"{num} were requested; {len(fit)} of {len(counts)} speakers have "
                                                    "two utterances, and one must be left to train on"
                         + f"; try --dev-speakers {max(2, len(fit) // 5)}" * (len(fit) > 2))
    held = set(random.Random(seed).sample(fit, num))
    return [u for u in utterances if u.spk not in held], [u for u in utterances if u.spk in held]
