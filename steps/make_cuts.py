#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prepare a Kaldi data directory for training: from wav.scp, utt2spk and segments make spk2utt, utt2dur, utt2num_frames
and cuts.jsonl.

  steps/make_cuts.py data/train

Segments that end up to 0.5 s after their recording are cut to it. Utterances shorter than --min-duration are removed
from all tables and listed in short_utts; without the option one that is shorter than 0.1 s is an error. Training reads
files: the output of commands in wav.scp is written to --audio-dir as FLAC. utt2num_frames has Kaldi's numbers of whole
frames of 25 ms every 10 ms; if there is a feats.scp, it is left alone.
"""

import itertools
from pathlib import Path

from rawnext.data.audio import Header
from rawnext.data.cuts import INDEX, SAMPLE_RATE
from rawnext.data.manifest import Utterance, check_utterances, known_genders, num_samples_16k, read_headers, write_cuts
from rawnext.data.wav import LEAST_S, Source, channel_of, is_short, limits, read_sources, refuse_short
from rawnext.errors import ArgumentParser, AudioError, InputError, run_main
from rawnext.files import UTT_TABLES, condition_tables, read_lines, write_lines
from rawnext.kaldi.tables import read_table
from rawnext.log import progress, setup_log


def write_outputs(sources: list[Source], audio_dir: Path, data_dir: Path) -> list[Source]:
    """The same sources, with files in place of commands; wav.scp names the files from then on."""
    from rawnext.data.wav import file_of

    wavs = read_table(data_dir / "wav.scp")
    files = {}
    for recording, command in progress(wavs.items(), desc="audio", unit="recording"):
        if command.endswith("|"):
            try:
                files[command] = file_of(command, audio_dir.resolve() / f"{recording}.flac")
            except (AudioError, OSError) as error:
                raise InputError(data_dir / "wav.scp", None, f"{recording}: {error}") from None
    write_lines(data_dir / "wav.scp", (f"{key} {files.get(path, path)}" for key, path in wavs.items()))
    return [source._replace(path=str(files.get(source.path, source.path))) for source in sources]


def read_utterances(sources: list[Source], data_dir: Path, least: float, num_jobs: int) -> tuple[list, list[str]]:
    """Utterances, and `utt seconds` of those that are shorter than `least` seconds."""
    utt2spk = read_table(data_dir / "utt2spk", one_word=True)
    segments = read_table(data_dir / "segments", optional=True)
    paths = list(dict.fromkeys(source.path for source in sources))
    headers = dict(zip(paths, progress(read_headers(paths, num_jobs), total=len(paths))))
    utterances, short, refused = [], [], []
    for source in sources:
        header = headers[source.path]
        if not isinstance(header, Header):
            raise source.fault(header)
        if source.utt not in utt2spk:
            raise source.fault("is not in utt2spk")
        channel = channel_of(source, header.channels)
        start, stop = limits(source, header.num_samples, header.rate)
        if least and stop - start < least * header.rate:
            short.append(f"{source.utt} {(stop - start) / header.rate:.3f}")
            continue
        if is_short(seconds := (stop - start) / header.rate, LEAST_S):
            refused.append((source, seconds))
            continue
        recording = segments[source.utt].split()[0] if segments else ""
        utterances.append(Utterance(source.utt, utt2spk[source.utt], str(Path(source.path).absolute()), stop - start,
                                    header.rate, header.channels, start, channel, recording))
    if missing := next(iter(utt2spk.keys() - {source.utt for source in sources}), None):
        raise InputError(data_dir / "utt2spk", None, f"{missing} has no audio")
    refuse_short(refused, LEAST_S, "; --min-duration 0.1 removes them from the tables")
    return utterances, short


def keep(path: Path, keys: set[str]) -> None:
    """Remove all other lines of a table, if it exists."""
    if path.exists():
        write_lines(path, [line for _, line in read_lines(path) if line.split()[0] in keys])


def num_frames(utterance: Utterance) -> int:
    """Kaldi's number of frames of 25 ms every 10 ms (snip-edges)."""
    return 1 + (num_samples_16k(utterance) - 400) // 160


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--min-duration", type=float, default=0, metavar="S", help="remove utterances below S seconds")
    parser.add_argument("--allow-pipes", action="store_true", help="run commands `... |` in wav.scp, if you trust it")
    parser.add_argument("--audio-dir", type=Path, help="folder for the output of commands")
    parser.add_argument("--nj", type=int, default=2, help="parallel processes (default: 2)")
    parser.add_argument("data_dir", type=Path)
    args = parser.parse_args()
    if args.allow_pipes and not args.audio_dir:
        parser.error("--allow-pipes: --audio-dir is needed")
    setup_log()
    data = args.data_dir
    sources = read_sources(data, args.allow_pipes)
    if any(source.is_pipe for source in sources):
        sources = write_outputs(sources, args.audio_dir, data)
    utterances, short = read_utterances(sources, data, args.min_duration, args.nj)
    check_utterances(utterances, data / "utt2spk")
    by_speaker = [(spk, list(group)) for spk, group in itertools.groupby(utterances, key=lambda u: u.spk)]
    gender = data / "spk2gender"
    genders = known_genders([spk for spk, _ in by_speaker], read_table(gender, optional=True), gender)
    for name in ("cuts.jsonl", INDEX):  # never with the tables of another manifest
        (data / name).unlink(missing_ok=True)
    if short:
        utts, recordings = {u.utt for u in utterances}, {u.recording or u.utt for u in utterances}
        for name in {*UTT_TABLES, *(path.name for path in condition_tables(data) if path.name.startswith("utt2"))}:
            keep(data / name, utts)
        for name in ("wav.scp", "reco2dur", "reco2file_and_channel"):
            keep(data / name, recordings)
        for path in condition_tables(data):
            if path.name.startswith("spk2"):
                keep(path, {u.spk for u in utterances})
        write_lines(data / "short_utts", short)
        print(f"make_cuts.py: removed {len(short)} of {len(sources)} utterances, shorter than {args.min_duration:g} s; "
              f"{data}/short_utts lists them")
    write_lines(data / "spk2utt", (f"{spk} {' '.join(u.utt for u in group)}" for spk, group in by_speaker))
    write_lines(data / "utt2dur", (f"{u.utt} {num_samples_16k(u) / SAMPLE_RATE}" for u in utterances))
    if not (data / "feats.scp").exists():
        write_lines(data / "utt2num_frames", (f"{u.utt} {num_frames(u)}" for u in utterances))
    write_cuts(utterances, data, genders)
    print(f"make_cuts.py: {len(utterances)} utterances of {len(by_speaker)} speakers in {data}/cuts.jsonl")


if __name__ == "__main__":
    run_main(main)
