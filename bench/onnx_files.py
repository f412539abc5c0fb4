#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Size, speed and EER of ONNX files of one model, such as those of `rawnext export --onnx` with and without --int8.

  bench/onnx_files.py --data data/test float32.onnx int8.onnx

Speeds are relative to the first file, by the processor time of one thread, in turns; in brackets the minimum and
maximum over the rounds. Without --data, for 3 s of noise and without an EER.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.timing import ratio
from rawnext.data.cuts import SAMPLE_RATE
from rawnext.data.wav import load_wave, read_sources
from rawnext.kaldi.tables import read_trials
from rawnext.scoring.metrics import eer

SECONDS = (0, 1)  # 0: whole utterances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="data directory with a list of trials, `trials`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("files", nargs="+", type=Path, metavar="ONNX")
    args = parser.parse_args()
    from rawnext.export.onnx import runtime

    models = [runtime(path) for path in args.files]
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE, np.float32)
    waves, trials = read(args.data) if args.data else ([noise], None)
    print("| file | MiB | seconds | EER % | speed |", "|---|---:|---:|---:|---:|", sep="\n")
    for seconds in SECONDS[: 2 if trials else 1]:
        cut = [wave[: seconds * SAMPLE_RATE or None] for wave in waves]
        rounds = [[cpu_seconds(model, cut) for model in models] for _ in range(args.rounds + 1)]
        times = rounds[1:]  # the first warms up
        for path, model, own in zip(args.files, models, zip(*times)):
            speed = ratio("", 1, "", ("", [first for first, *_ in times]), ("", own))
            error = f"{eer_of(embed(model, cut), *trials):.2f}" if trials else ""
            print(f"| {path.name} | {path.stat().st_size / 2**20:.1f} | {seconds or 'whole'} | {error} | "
                  f"{speed.ratio:.2f} ({speed.low:.2f}-{speed.high:.2f}) |")


def read(data: Path) -> tuple[list[np.ndarray], tuple[list[int], list[int], np.ndarray]]:
    """Waveforms of a data directory; rows of both sides of its trials, and which are targets."""
    sources, trials = read_sources(data), read_trials(data / "trials")
    row = {source.utt: number for number, source in enumerate(sources)}
    enroll, test = ([row[utt] for utt in side] for side in (trials.enroll, trials.test))
    return [load_wave(source) for source in sources], (enroll, test, trials.is_target)


def embed(model, waves: Sequence[np.ndarray]) -> np.ndarray:
    """N waveforms (T,) -> (N, D), one at a time."""
    return np.concatenate([model(wave[None], np.array([len(wave)])) for wave in waves])


def cpu_seconds(model, waves: Sequence[np.ndarray]) -> float:
    began = time.process_time()
    embed(model, waves)
    return time.process_time() - began


def eer_of(x: np.ndarray, enroll: list[int], test: list[int], is_target: np.ndarray) -> float:
    """EER in % of the cosines of embeddings (N, D)."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    scores = np.einsum("nd,nd->n", x[enroll], x[test])
    return 100 * eer(scores[is_target], scores[~is_target])


if __name__ == "__main__":
    main()
