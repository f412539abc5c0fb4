#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""EER of trained systems over the level of the test side, as a markdown table.

  bench/level.py --enroll data/test --trials data/test/trials --test data/test_noisy exp/rawnext exp/resnext

The middle --seconds of each test utterance are multiplied by the stated gains, the enroll side stays as it is; in the
last column both sides have random gains. Samples stay floating-point numbers: nothing is clipped or rounded.
"""

from pathlib import Path

import numpy as np

from rawnext.data.cuts import SAMPLE_RATE, centre_crop
from rawnext.data.wav import load_wave, read_sources
from rawnext.errors import ArgumentParser, run_main
from rawnext.kaldi.tables import read_trials
from rawnext.scoring.cosine import cosine_scores
from rawnext.scoring.metrics import eer

GAINS_DB = (-40, -30, -20, -10, -6, 0, 6)


def embed(extractor, waves: list[np.ndarray], gains_db: np.ndarray) -> np.ndarray:
    """Embeddings of waves at these gains."""
    return extractor.embed_batch([wave * np.float32(10 ** (gain / 20)) for wave, gain in zip(waves, gains_db)])


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--enroll", type=Path, required=True, help="data directory of the enroll side")
    parser.add_argument("--test", type=Path, required=True, help="data directory of the test side")
    parser.add_argument("--trials", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1, help="of each test utterance (default: 1)")
    parser.add_argument("exps", nargs="+", type=Path, metavar="EXP")
    args = parser.parse_args()

    import torch

    from rawnext import Extractor

    torch.set_num_threads(1)
    trials = read_trials(args.trials)
    sides = []
    for data, ids in ((args.enroll, trials.enroll), (args.test, trials.test)):
        sources = read_sources(data)
        row = {source.utt: i for i, source in enumerate(sources)}
        sides.append(([load_wave(source) for source in sources], np.array([row[utt] for utt in ids])))
    (whole, enroll_rows), (waves, test_rows) = sides
    short = [centre_crop(wave, round(args.seconds * SAMPLE_RATE)) for wave in waves]
    random = np.random.default_rng(1)
    enroll_gains, test_gains = (random.uniform(min(GAINS_DB), max(GAINS_DB), len(side)) for side in (whole, short))
    print("| EER % with the test side at |", *(f"{gain:+d} dB |" for gain in GAINS_DB), "both random |")
    print("| --- |" + " ---: |" * (len(GAINS_DB) + 1))
    for exp in args.exps:
        model = Extractor.from_pretrained(exp, "cpu", warn=False)
        enroll = embed(model, whole, np.zeros(len(whole)))
        pairs = [(enroll, embed(model, short, np.full(len(short), gain))) for gain in GAINS_DB]
        pairs.append((embed(model, whole, enroll_gains), embed(model, short, test_gains)))
        rates = []
        for one, other in pairs:
            scores = cosine_scores(one, other, enroll_rows, test_rows)
            rates.append(100 * eer(scores[trials.is_target], scores[~trials.is_target]))
        print(f"| {exp.name} |", *(f"{rate:.2f} |" for rate in rates), flush=True)


if __name__ == "__main__":
    run_main(main)
