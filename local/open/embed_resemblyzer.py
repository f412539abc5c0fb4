#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Embeddings of a data directory by Resemblyzer (Apache-2.0, trained on 8,371 speakers): a teacher, or a comparison.

  local/open/embed_resemblyzer.py --speeds "0.875 1.142857" --means data/train exp/teacher

Writes EXP/embedding.ark and .scp. With --means, speakers' means are written too, and the utterances that are shorter
than Resemblyzer's window of 1.6 s are left out: train.py --teacher then takes their speaker's. Needs
`pip install resemblyzer` (which needs librosa and webrtcvad) next to this recipe's packages.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE, CutTable, centre_crop
from rawnext.data.segment import read_segment
from rawnext.data.speed import change_speed, with_copies
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.kaldi.ark import write_vectors
from rawnext.log import progress, setup_log

WINDOW_S = 1.6
CHUNK = 128  # utterances whose windows go through the network together


def embed(encoder, table: CutTable, speed: float, duration: float) -> Iterator[tuple[int, bool, np.ndarray]]:
    """Index, whether it fills a window, and embedding (as embed_utterance's) of each utterance.

    Windows of many utterances go through the network together, which takes a tenth of the time.
    """
    import torch
    from resemblyzer import normalize_volume, wav_to_mel_spectrogram
    from resemblyzer.hparams import audio_norm_target_dBFS

    for start in progress(range(0, len(table), CHUNK), desc=f"speed {speed:g}"):
        indices = range(start, min(start + CHUNK, len(table)))
        windows, counts, fills = [], [], []
        for index in indices:
            cut = table[index]
            wave = change_speed(read_segment(cut, 0, cut.num_samples), speed)
            wave = centre_crop(wave, round(duration * SAMPLE_RATE)) if duration else wave
            wave = normalize_volume(wave, audio_norm_target_dBFS, increase_only=True) if wave.any() else wave
            parts, mels = encoder.compute_partial_slices(len(wave), 1.3, 0.75)
            frames = wav_to_mel_spectrogram(np.pad(wave, (0, max(0, parts[-1].stop - len(wave)))))
            windows += [frames[part] for part in mels]
            counts.append(len(mels))
            fills.append(len(wave) >= WINDOW_S * SAMPLE_RATE)
        with torch.inference_mode():
            out = encoder(torch.from_numpy(np.stack(windows))).numpy()
        sums = np.add.reduceat(out, [0, *np.cumsum(counts)[:-1]])
        yield from zip(indices, fills, sums / np.linalg.norm(sums, axis=1, keepdims=True))


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="data directory with cuts.jsonl")
    parser.add_argument("exp", type=Path, help="where the embeddings go")
    parser.add_argument("--speeds", default="", help="speeds of copies that are embedded too (batch.speeds)")
    parser.add_argument("--means", action="store_true", help="speakers' means, and no short utterances")
    parser.add_argument("--duration", type=float, default=0, help="seconds cut from the middle of each utterance")
    args = parser.parse_args()
    setup_log()
    try:
        from resemblyzer import VoiceEncoder
    except ImportError as error:
        raise InputError("resemblyzer", None, f"{error.name} is not installed") from None
    encoder = VoiceEncoder("cpu", verbose=False)
    table, speeds = CutTable(args.data), [float(word) for word in args.speeds.split()]
    utts, speakers = with_copies(list(table.utts), speeds), with_copies(list(map(str, table.speakers)), speeds)
    vectors: dict[str, np.ndarray] = {}
    for copy, speed in enumerate([1.0, *speeds]):
        sums = np.zeros((len(table.speakers), 256))
        for index, fills, vector in embed(encoder, table, speed, args.duration):
            sums[table.speaker_of[index]] += vector
            if fills or not args.means:
                vectors[utts[copy * len(table) + index]] = vector
        if args.means:
            vectors.update(zip(speakers[copy * len(sums) :], (sums / np.linalg.norm(sums, axis=1, keepdims=True))))
    write_vectors(args.exp / "embedding.ark", args.exp / "embedding.scp", sorted(vectors.items()))


if __name__ == "__main__":
    run_main(main)
