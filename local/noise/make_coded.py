#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a copy of the test side of a trial list for each of several codecs: encoded, decoded and stored as FLAC.

  local/noise/make_coded.py --codecs "ulaw opus:8k opus:16k mp3:32k" data/test data/test_coded

Codecs: ulaw and alaw (G.711), gsm (GSM 06.10), amr:4.75k...12.2k (AMR-NB, one of its eight bit rates), all at 8 kHz;
opus:6k...256k and mp3:8k...160k, with their bit rate. AMR needs the package av: pip install 'rawnext[amr]'.
OUT_DIR has each test utterance once uncoded, with its own id, and once for each codec, with an id such as UTT-opus_16k,
and each trial once with each of them. The enroll side is that of DATA_DIR. OUT_DIR/utt2codec states the codec, PCM of
uncoded utterances, so that the figures by condition have a row for each codec.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.manifest import scan_audio, write_data_dir
from rawnext.data.pool import worker_pool
from rawnext.data.wav import Source, check_sources, load_wave, read_sources
from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main
from rawnext.files import atomic_path, read_lines, write_lines
from rawnext.kaldi.tables import Trials, read_conditions, read_table, read_trials, write_trials
from rawnext.log import progress, setup_log
from rawnext.training.augment import AMR_KBITS, amr_coded, check_amr, coded

UNCODED = "PCM"  # sorted before all codecs: of groups of the same size, the first is the reference
TELEPHONE = {"ulaw": "ULAW", "alaw": "ALAW", "gsm": "GSM610"}  # libsndfile's names, at 8 kHz
# Format and subtype of libsndfile, its bit rates in kbit/s at compression levels 0 and 1, and mode. With a constant bit
# rate, low-rate MP3 has no frame that states the delay of the codec.
RATED = {"opus": ("OGG", "OPUS", 256, 6, None), "mp3": ("MP3", "MPEG_LAYER_III", 160, 8, "AVERAGE")}
FULL_SCALE = 32768


class Codec(NamedTuple):
    """name: in utt2codec, such as opus_16k.   change: (T,) -> (T,) encoded and decoded; None: uncoded."""

    name: str
    change: Callable[[np.ndarray], np.ndarray] | None = None


def parse_codec(word: str) -> Codec:
    """`ulaw` or `opus:16k`.   Raises: InputError: an unknown codec or bit rate."""
    name, _, rate = word.partition(":")
    if name in TELEPHONE and not rate:
        return Codec(name, partial(coded, form="WAV", subtype=TELEPHONE[name], rate=8000))
    if name == "amr" and (found := [kbits for kbits in AMR_KBITS if rate == f"{kbits:g}k"]):
        with as_input_error("--codecs"):
            check_amr()
        return Codec(f"amr_{rate}", partial(amr_coded, kbits=found[0]))
    if name in RATED and rate.endswith("k") and rate[:-1].isascii() and rate[:-1].isdigit():
        form, subtype, most, least, mode = RATED[name]
        if least <= (kbits := int(rate[:-1])) <= most:
            level = min((most - kbits) / (most - least), 0.9999)  # libsndfile refuses 1 for MP3
            return Codec(f"{name}_{kbits}k", partial(coded, form=form, subtype=subtype, rate=SAMPLE_RATE, level=level,
                                                     mode=mode))
    known = [*TELEPHONE, *(f"amr:{kbits:g}k" for kbits in AMR_KBITS),
             *(f"{name}:{least}k...{most}k" for name, (_, _, most, least, _) in RATED.items())]
    raise InputError("--codecs", None, f"{word} is none of {', '.join(known)}")


def utt_of(utt: str, codec: Codec) -> str:
    return f"{utt}-{codec.name}" if codec.change else utt


def write_coded(source: Source, codecs: list[Codec], folder: Path) -> None:
    """Write an utterance as 16-bit FLAC through each codec."""
    wave = load_wave(source)
    for codec in codecs:
        changed = codec.change(wave) if codec.change else wave
        steps = np.clip(np.rint(changed * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        path = folder / f"{utt_of(source.utt, codec)}.flac"
        with atomic_path(path) as temporary:
            soundfile.write(temporary, steps, SAMPLE_RATE, format="FLAC")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--codecs", required=True, metavar="'C ...'", help="such as ulaw opus:16k mp3:32k")
    parser.add_argument("--trials", type=Path, help="lines `enroll test target|nontarget` (default: DATA_DIR/trials)")
    parser.add_argument("--nj", type=int, default=4, help="parallel processes (default: %(default)s)")
    parser.add_argument("--allow-pipes", action="store_true", help="accept commands `... |` in wav.scp")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    setup_log()
    codecs = [Codec(UNCODED), *map(parse_codec, dict.fromkeys(args.codecs.split()))]
    data, out, path = args.data_dir, args.out_dir, args.trials or args.data_dir / "trials"
    if out.resolve() == data.resolve():
        raise InputError(out, None, "is DATA_DIR too; the copy needs another folder")
    trials, spk_of = read_trials(path), read_table(data / "utt2spk", one_word=True)
    sources = {source.utt: source for source in read_sources(data, args.allow_pipes)}
    for line, utt in enumerate(trials.test, 1):
        if utt not in sources or utt not in spk_of:
            raise InputError(path, line, f"{utt} is not in {data / ('utt2spk' if utt in sources else 'wav.scp')}")
    named = {*trials.test}
    chosen = [source for utt, source in sources.items() if utt in named]
    check_sources(chosen)

    (out / "wav.scp").unlink(missing_ok=True)  # of other codecs: without it, this is no data directory
    with worker_pool(args.nj) as pool:
        done = pool.map(partial(write_coded, codecs=codecs, folder=out / "audio"), chosen)
        for _ in progress(done, total=len(chosen)):
            pass

    copies = [(utt_of(source.utt, codec), source.utt, codec.name) for source in chosen for codec in codecs]
    conditions = read_conditions(data)
    for name in (name for name in conditions if name.startswith("utt2")):
        conditions[name] = {copy: conditions[name][utt] for copy, utt, _ in copies if utt in conditions[name]}
    conditions["utt2codec"] = {copy: name for copy, _, name in copies}
    files = [(copy, spk_of[utt], str(out / "audio" / f"{copy}.flac")) for copy, utt, _ in copies]
    write_data_dir(scan_audio(files, args.nj)[0], out, read_table(data / "spk2gender", optional=True), conditions)
    models, their_copy = Path(f"{path}.enroll"), out / f"{path.name}.enroll"
    their_copy.unlink(missing_ok=True)
    if models.exists():
        write_lines(their_copy, (line for _, line in read_lines(models)))
    tests = list(chain.from_iterable((utt_of(utt, codec) for utt in trials.test) for codec in codecs))
    write_trials(out / path.name, Trials(trials.enroll * len(codecs), tests, np.tile(trials.is_target, len(codecs))))


if __name__ == "__main__":
    run_main(main)
