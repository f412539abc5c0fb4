#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""EER with and without voice activity detection on short speech between pauses, as a markdown table.

  bench/voice_activity.py --noise data/musan/noise data/test pretrained

All pairs of the first ENROLL utterances of each speaker, whole, with the next TEST. Of these, the --seconds with the
most energy are between two pauses of 1 to 3 s each (seed 0), all of it with white noise 60 dB below the speech, or with
a recording of --noise 15 dB below it.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.wav import load_wave, read_sources
from rawnext.errors import ArgumentParser, run_main
from rawnext.kaldi.tables import read_table
from rawnext.scoring.metrics import eer

PAUSE_S = 1, 3
WHITE_DB, NOISE_DB = 60, 15


def loudest(wave: np.ndarray, num: int) -> np.ndarray:
    """The `num` consecutive samples with the most energy; all of a shorter waveform."""
    sums = np.append(0, np.cumsum(np.square(wave, dtype=np.float64)))
    start = int(np.argmax(sums[num:] - sums[:-num])) if len(wave) > num else 0
    return wave[start : start + num]


def between_pauses(speech: np.ndarray, noise: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """The speech between two pauses, in noise at its level below the speech; None: white noise."""
    before, after = (round(seconds * SAMPLE_RATE) for seconds in rng.uniform(*PAUSE_S, 2))
    num = before + len(speech) + after
    if noise is None:
        sound, below_db = rng.standard_normal(num).astype(np.float32), WHITE_DB
    else:
        start = rng.integers(max(1, len(noise) - num))
        sound, below_db = np.resize(noise[start:], num), NOISE_DB
    level = np.sqrt(np.mean(np.square(speech)) / np.mean(np.square(sound))) * 10 ** (-below_db / 20)
    return np.pad(speech, (before, after)) + np.float32(level) * sound


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--enroll", type=int, default=2, help="enroll utterances of each speaker (default: 2)")
    parser.add_argument("--test", type=int, default=4, help="test utterances of each speaker (default: 4)")
    parser.add_argument("--noise", type=Path, help="folder with recordings of noise")
    parser.add_argument("--seconds", type=float, default=1, help="of speech (default: 1)")
    parser.add_argument("data", type=Path, metavar="DATA_DIR")
    parser.add_argument("exp", metavar="EXP")
    args = parser.parse_args()

    import torch

    from rawnext import Extractor, read_audio
    from rawnext.data.vad import KINDS, Energy, select, speech_frames

    torch.set_num_threads(1)
    utts, taken = defaultdict[str, list[str]](list), args.enroll + args.test
    for utt, spk in read_table(args.data / "utt2spk").items():
        utts[spk].append(utt)
    sides = [[(utt, spk) for spk in utts for utt in utts[spk][part]]
             for part in (slice(args.enroll), slice(args.enroll, taken))]
    target = np.array([[spk == other for _, other in sides[1]] for _, spk in sides[0]])
    chosen = {utt for side in sides for utt, _ in side}
    waves = {source.utt: load_wave(source) for source in read_sources(args.data) if source.utt in chosen}
    extractor = Extractor.from_pretrained(args.exp, "cpu", warn=False)
    noises = [read_audio(path)[0] for path in sorted(args.noise.rglob("*.wav"))] if args.noise else []

    def embed(sounds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = extractor.embed_batch(list(sounds.values()))
        return dict(zip(sounds, x / np.linalg.norm(x, axis=1, keepdims=True)))

    def rate(enroll: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> float:
        one, other = (np.stack([x[utt] for utt, _ in side]) for x, side in zip((enroll, test), sides))
        scores = one @ other.T
        return 100 * eer(scores[target], scores[~target])

    def speech_of(sounds: dict[str, np.ndarray], kind: str, context: int) -> dict[str, np.ndarray]:
        found = {}
        for utt, wave in sounds.items():
            speech = select(wave, speech_frames(wave, kind, Energy(frames_context=context))) if kind else wave
            found[utt] = speech if len(speech) >= SAMPLE_RATE // 10 else wave  # counted below
            short[0] += found[utt] is not speech
        return found

    rng, num = np.random.default_rng(0), round(args.seconds * SAMPLE_RATE)
    speech = {utt: loudest(waves[utt], num) for utt, _ in sides[1]}
    tests = {f"white noise at -{WHITE_DB} dB": {utt: between_pauses(wave, None, rng) for utt, wave in speech.items()}}
    if noises:
        tests[f"recorded noise at -{NOISE_DB} dB"] = {
            utt: between_pauses(wave, noises[rng.integers(len(noises))], rng) for utt, wave in speech.items()}
    enroll = {utt: waves[utt] for utt, _ in sides[0]}
    print(f"{target.size} trials, {target.sum()} of them target")
    print(f"| voice activity detection | {args.seconds:g} s alone |", *(f"{name} |" for name in tests),
          "without enough speech |")
    print("| --- |" + " ---: |" * (len(tests) + 2))
    ways = ("none", "", 0), *((kind, kind, 0) for kind in KINDS), ("energy, context 5", "energy", 5)
    for name, kind, context in ways:
        short = [0]
        one = embed(speech_of(enroll, kind, context))
        rates = [rate(one, embed(speech_of(test, kind, context))) for test in (speech, *tests.values())]
        print(f"| {name} |", *(f"{value:.2f} |" for value in rates), f"{short[0]} |", flush=True)


if __name__ == "__main__":
    run_main(main)
