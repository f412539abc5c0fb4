#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the embeddings of one job's share of a Kaldi data directory: OUT_DIR/embedding.JOB.{ark,scp,sources}.

steps/extract.py --job 1 --num-jobs 4 --protocol native data/vox1 exp/rawnext exp/rawnext/embeddings/vox1_native

EXP_DIR is an experiment or an exported model. A killed job that is run again continues where it stopped; a complete one
does nothing. OUT_DIR/embedding.JOB.sources lists the inputs of the embeddings: those with changed inputs are computed
again. With --min-duration, OUT_DIR/embedding.JOB.short lists the utterances that were skipped, with their seconds and
audio.
"""

import argparse
import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from rawnext.data import vad, wav
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import write_lines
from rawnext.identity import COMPUTATION, KEY, network_of, versions, weights_path, with_vad
from rawnext.kaldi.journal import write_journal
from rawnext.kaldi.tables import read_table
from rawnext.log import progress, setup_log
from rawnext.stamp import sha256

ADVICE = "; --min-duration 0.1 skips them, and steps/make_cuts.py --min-duration 0.1 removes them from the tables"
CHUNKS = {"native": 64, "paper": 16}  # utterances that are batched together; a killed job loses at most one chunk


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=int, default=1, help="number of this job, 1 or more (default 1)")
    parser.add_argument("--num-jobs", type=int, default=1, help="number of jobs (default 1)")
    parser.add_argument("--protocol", choices=tuple(CHUNKS), default="native",
                        help="native: whole utterance at once, a minute at most (default); paper: averaged segments of "
                             "59,049 samples")
    parser.add_argument("--duration", type=float, default=0, metavar="S", help="seconds cut from the middle; 0: all")
    parser.add_argument("--min-duration", type=float, default=0, metavar="S",
                        help="skip utterances shorter than S seconds, 0.1 or more (default: below 0.1 s is an error)")
    parser.add_argument("--vad", choices=("energy", "silero", "scp"), default="",
                        help="embed the speech alone, found by its energy, by the network of silero-vad, or as "
                             "DATA_DIR/vad.scp has it; --min-duration is then that of the speech (default: all audio)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="auto (default): a GPU if available; cuda: an error if there is none")
    parser.add_argument("--num-threads", type=int, default=1,
                        help="CPU threads, which decode ahead if the device is a GPU (default 1)")
    parser.add_argument("--allow-pipes", action="store_true", help="run commands `... |` in wav.scp, if you trust it")
    parser.add_argument("--checksum", action="store_true",
                        help="identify audio by size and SHA-256 in place of size and time")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("exp_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    if args.duration and not 0.1 <= args.duration < math.inf:
        parser.error("--duration: at least 0.1 s")
    if args.min_duration and not 0.1 <= args.min_duration < math.inf:
        parser.error("--min-duration: at least 0.1 s")
    return args


def common_lines(args: argparse.Namespace, sources: Path) -> list[str]:
    """Inputs of all embeddings: model, configuration and options. The model's fingerprint is taken from the lines of an
    earlier run in `sources`, if its files are the same: reading it takes seconds, for torch."""
    lines = [f"computation {COMPUTATION}",
             *(f"{path.name} {sha256(path)}" for path in (weights_path(args.exp_dir), args.exp_dir / "config.yaml"))]
    old = sources.read_text(encoding="utf-8").split("\n", 4)[:4] if sources.is_file() else [""]
    if old[0].startswith(KEY) and old[1:] == lines:
        network = str(network_of(old[0].removeprefix(f"{KEY} ")))
    else:
        from rawnext.inference.extract import load_model
        from rawnext.training.checkpoint import fingerprint

        model, config = load_model(args.exp_dir)
        network = fingerprint(config, model.state_dict())
    return [f"{KEY} {with_vad(network, args.vad)}", *lines, f"protocol {args.protocol} duration {args.duration:g}"]


def source_line(args: argparse.Namespace, source) -> str:
    """Inputs of an utterance's embedding: path, size and time (or SHA-256) of its audio, or of the files that a command
    names; start, end and channel of the segment; a checksum of its decisions in vad.scp."""
    channel = f" channel {source.channel}" if source.channel > 0 else ""
    decisions = f" vad {crc32(args.decisions[source.utt].tobytes()):08x}" if args.vad == "scp" else ""
    audio = versions(source.path, args.checksum)
    return f"{source.path} {source.start_s!r} {source.end_s!r} {audio}{channel}{decisions}"


def find_share(args: argparse.Namespace, sources: list, list_path: Path) -> tuple[list, dict[str, str]]:
    """This job's share of the sources, and utt -> line for list_path of those in it that are shorter than
    --min-duration: those of known length, and the commands that list_path has from an earlier run.

    Raises: InputError: the job has no share; without the option, segments or utt2dur have lengths below 0.1 s.
    """
    utt2dur = read_table(args.data_dir / "utt2dur", one_word=True, optional=True)
    share = wav.share_of(sources, args.job, args.num_jobs, args.data_dir)
    if args.vad == "scp":
        args.decisions = vad.read_decisions(args.data_dir / "vad.scp", (source.utt for source in share))
    if not args.min_duration:
        lengths = [(source, wav.known_seconds(source, utt2dur)) for source in sources]
        wav.refuse_short([pair for pair in lengths if wav.is_short(pair[1], wav.LEAST_S)], wav.LEAST_S, ADVICE)
        return share, {}
    found = wav.find_short(share, args.min_duration, utt2dur)
    if args.vad == "scp":  # of others, speech below the minimum is found during extraction
        speech_s = [(source, int(args.decisions[source.utt].sum()) / 100) for source in share]
        found += [pair for pair in speech_s if wav.is_short(pair[1], args.min_duration)]
    short = {source.utt: short_line(args, source, seconds) for source, seconds in found}
    # these are decoded to know their length
    unknown = {source.utt: source for source in share if source.is_pipe or args.vad}
    for line in list_path.read_text(encoding="utf-8").splitlines() if unknown and list_path.exists() else ():
        utt, seconds = line.split()[0], float(line.split()[1])
        if utt in unknown and wav.is_short(seconds, args.min_duration) and (
                line == short_line(args, unknown[utt], seconds)):
            short[utt] = line
    return share, short


def short_line(args: argparse.Namespace, source, seconds: float) -> str:
    return f"{source.utt} {seconds:.3f} {args.vad and f'vad={args.vad} '}{source_line(args, source)}"


def speech_of(args: argparse.Namespace, waves: Iterator[tuple], sources: list) -> Iterator[tuple]:
    """(utt, (T,) waveform of the speech) of each (utt, waveform).

    Raises: TooShort: less speech than --min-duration, or 0.1 s.   InputError: decisions about another number of frames.
    """
    least_s = args.min_duration or wav.LEAST_S
    for source, (utt, wave) in zip(sources, waves):
        frames = vad.fit(args.decisions[utt], len(wave)) if args.vad == "scp" else vad.speech_frames(wave, args.vad)
        if frames is None:
            raise InputError(args.data_dir / "vad.scp", None, f"{utt}: {len(args.decisions[utt])} decisions about "
                                                              f"{len(wave) / SAMPLE_RATE:.2f} s; want one each 0.01 s")
        speech = vad.select(wave, frames)
        if wav.is_short(seconds := len(speech) / SAMPLE_RATE, least_s):
            advice = "" if args.min_duration else ADVICE
            raise wav.TooShort(source, seconds, f" with speech; at least {least_s:g} s{advice}")
        yield utt, speech


def find_short_ones(args: argparse.Namespace, sources: list) -> Iterator[tuple]:
    """(source, seconds) of those with less audio, or speech, than --min-duration; all are decoded."""
    for source in sources:
        waves = wav.load_waves([source], least_samples=least_samples(args))
        try:
            deque(speech_of(args, waves, [source]) if args.vad else waves, maxlen=0)
        except wav.TooShort as error:
            yield error.source, error.seconds


def least_samples(args: argparse.Namespace) -> int:
    return round((args.min_duration or wav.LEAST_S) * SAMPLE_RATE)


def embed(args: argparse.Namespace, sources: list) -> Iterator[tuple]:
    """(utt, (D,) embedding) of each source."""
    if not args.min_duration:  # else they have been checked
        wav.refuse_short(wav.find_short(sources), wav.LEAST_S, ADVICE)
    import torch

    from rawnext.dist import choose_device
    from rawnext.inference.extract import embed_all, load_model
    from rawnext.models.folded import folded

    device = choose_device(args.device)
    gpu = device.type != "cpu"
    torch.set_num_threads(1 if gpu else args.num_threads)
    model, config = load_model(args.exp_dir, device)
    waves = wav.load_waves(sources, args.num_threads if gpu else 0, least_samples(args))
    waves = speech_of(args, waves, sources) if args.vad else waves
    waves = progress(waves, desc=f"extract.{args.job}", unit="utt", total=len(sources))
    yield from embed_all(folded(model), waves, args.protocol, config.extract, args.duration,
                         CHUNKS[args.protocol])


def write_embeddings(args: argparse.Namespace, name: Path, sources: list) -> int:
    """Write NAME.ark, NAME.scp and NAME.sources.   Returns: the number of embeddings of an earlier run."""
    return write_journal(name, common_lines(args, name.with_name(f"{name.name}.sources")),
                         [(source.utt, source_line(args, source)) for source in sources], CHUNKS[args.protocol],
                         lambda first: embed(args, sources[first:]))


def main() -> None:
    args = parse()
    setup_log()
    name = args.out_dir / f"embedding.{args.job}"
    list_path = name.with_name(f"{name.name}.short")
    if args.vad:
        vad.check_kind(args.vad)
    share, short = find_share(args, wav.read_sources(args.data_dir, args.allow_pipes), list_path)
    while True:
        if args.min_duration:
            write_lines(list_path, (short[utt] for utt in sorted(short)))
        sources = [source for source in share if source.utt not in short]
        try:
            kept = write_embeddings(args, name, sources)
            break
        except wav.TooShort as error:  # the output of a command, or speech, whose length was not known
            if not args.min_duration:
                raise
            # Find all others now: after each TooShort the network is loaded, and the last utterances embedded, again.
            rest = sources[sources.index(error.source):]
            short |= {source.utt: short_line(args, source, seconds) for source, seconds in find_short_ones(args, rest)}
    print(f"extract.py: {len(sources)} embeddings in {name}.ark, {kept} of them from an earlier run")


if __name__ == "__main__":
    run_main(main)
