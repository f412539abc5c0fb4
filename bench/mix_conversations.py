#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mix conversations with known turns from utterances of a data directory: OUT/wav.scp, reco2num_spk, ref.rttm.

  bench/mix_conversations.py --num 24 --speakers "2 3 4" data/test data/conversations

Speakers take turns of one or two utterances, whose pauses at both ends are cut off by their energy and which all get
the same level. Turns are 0.2 to 1 s apart; with --overlap, this share of them begins up to 1 s before the end of the
one before. White noise is 40 dB below the speech. A speaker is used again when all others have been.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.vad import SHIFT, Energy, speech_frames
from rawnext.data.wav import load_wave, read_sources
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import write_lines
from rawnext.kaldi.rttm import Turn, write_rttm
from rawnext.kaldi.tables import read_table

LEVEL, NOISE_DB = 0.05, 40
APART_S, OVERLAP_S, PAUSE_S = (0.2, 1.0), 1.0, 0.25


def trimmed(wave: np.ndarray) -> np.ndarray:
    """The waveform from its first to its last frame with energy, at LEVEL."""
    speech = np.flatnonzero(speech_frames(wave, "energy", Energy(frames_context=5)))
    if len(speech):
        wave = wave[speech[0] * SHIFT : (speech[-1] + 1) * SHIFT]
    return wave * np.float32(LEVEL / max(1e-9, float(np.sqrt(np.mean(np.square(wave))))))


def conversation(name: str, voices: Mapping[str, Sequence[np.ndarray]], num_turns: int, overlap: float,
                 rng: np.random.Generator) -> tuple[np.ndarray, list[Turn]]:
    """(T,) samples at 16 kHz and their turns.

    Args: voices: speaker -> utterances, which are used in turn.   overlap: share of turns that begin early.
    """
    speakers, used = list(voices), dict.fromkeys(voices, 0)
    parts: list[tuple[int, np.ndarray]] = []
    turns, at, last = list[Turn](), round(0.5 * SAMPLE_RATE), ""
    for number in range(num_turns):
        # everybody once first
        speaker = speakers[number] if number < len(speakers) else rng.choice([s for s in speakers if s != last])
        last, pieces = speaker, []
        for _ in range(rng.integers(1, 3)):
            pieces += [voices[speaker][used[speaker] % len(voices[speaker])],
                       np.zeros(round(PAUSE_S * SAMPLE_RATE), np.float32)]
            used[speaker] += 1
        wave = np.concatenate(pieces[:-1])
        if parts and rng.random() < overlap:
            at -= round(min(rng.uniform(0, OVERLAP_S), len(wave) / SAMPLE_RATE / 2) * SAMPLE_RATE)
        elif parts:
            at += round(rng.uniform(*APART_S) * SAMPLE_RATE)
        at = max(0, at)
        parts.append((at, wave))
        turns.append(Turn(name, at / SAMPLE_RATE, (at + len(wave)) / SAMPLE_RATE, str(speaker)))
        at += len(wave)
    total = max(start + len(wave) for start, wave in parts) + SAMPLE_RATE // 2
    mixed = rng.standard_normal(total, np.float32) * np.float32(LEVEL * 10 ** (-NOISE_DB / 20))
    for start, wave in parts:
        mixed[start : start + len(wave)] += wave
    return mixed, turns


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=24, help="conversations (default %(default)s)")
    parser.add_argument("--speakers", default="2 3 4", metavar="'N ...'",
                        help="numbers of speakers, in turn (default %(default)s)")
    parser.add_argument("--turns", type=int, default=8, help="turns per speaker (default %(default)s)")
    parser.add_argument("--overlap", type=float, default=0, metavar="SHARE",
                        help="turns that begin before the end of the one before (default: none)")
    parser.add_argument("--seed", type=int, default=0, help="(default %(default)s)")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    sizes = [int(word) for word in args.speakers.split()]
    utts = defaultdict[str, list](list)
    utt2spk = read_table(args.data_dir / "utt2spk", one_word=True)
    for source in read_sources(args.data_dir):
        utts[utt2spk[source.utt]].append(source)
    if len(utts) < max(sizes):
        raise InputError(args.data_dir, None, f"has {len(utts)} speakers, fewer than {max(sizes)}")
    rng = np.random.default_rng(args.seed)
    (args.out_dir / "audio").mkdir(parents=True, exist_ok=True)
    lines, counts, turns, left = list[str](), list[str](), list[Turn](), list[str]()
    for number in range(args.num):
        size = sizes[number % len(sizes)]
        if len(left) < size:
            left = list(rng.permutation(sorted(utts)))
        chosen, left = left[:size], left[size:]
        voices = {spk: [trimmed(load_wave(source)) for source in utts[spk]] for spk in chosen}
        name = f"conversation{number:03d}"
        mixed, own = conversation(name, voices, args.turns * size, args.overlap, rng)
        path = args.out_dir / "audio" / f"{name}.wav"
        soundfile.write(path, np.clip(mixed, -1, 1), SAMPLE_RATE, "PCM_16")
        lines.append(f"{name} {path.resolve()}")
        counts.append(f"{name} {size}")
        turns += own
    write_lines(args.out_dir / "wav.scp", lines)
    write_lines(args.out_dir / "reco2num_spk", counts)
    write_rttm(args.out_dir / "ref.rttm", turns)
    minutes = sum(turn.end - turn.start for turn in turns) / 60
    print(f"mix_conversations.py: {args.num} conversations, {minutes:.1f} minutes of speech, in {args.out_dir}")


if __name__ == "__main__":
    run_main(main)
