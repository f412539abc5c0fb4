#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Quality measures from embeddings: tables utt2norm and utt2cohort_mean in DIR, for steps/calibrate.py.

steps/quality.py --cohort exp/x/embeddings/cohort_native/embedding.scp exp/x/embeddings/dev_native_2s

utt2norm: Euclidean length of the embedding; some networks give uncertain speech short embeddings. utt2cohort_mean: mean
cosine with the nearest embeddings of the cohort, high if the utterance resembles many speakers; only with --cohort. The
cohort may also be that of an exported model, MODEL/calibration/cosine/native/cohort.npy.
"""

from pathlib import Path

import numpy as np

from rawnext.errors import ArgumentParser, as_input_error, run_main
from rawnext.files import write_lines
from rawnext.scoring.embeddings import read_cohort, read_side
from rawnext.scoring.snorm import TENTH, TOP, cohort_mean


def write_table(path: Path, keys: list[str], values: np.ndarray) -> None:
    write_lines(path, [f"{key} {value:.6g}" for key, value in zip(keys, values)])


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", metavar="SCP|NPY", help="embeddings of the cohort")
    parser.add_argument("--top", type=int, help=f"nearest cohort embeddings (default: 1/{TENTH} of it, at most {TOP})")
    parser.add_argument("embeddings", type=Path, metavar="DIR", help="folder with embedding.scp")
    args = parser.parse_args()
    scp = args.embeddings / "embedding.scp"
    keys, x, _, model = read_side(scp)
    write_table(args.embeddings / "utt2norm", keys, np.linalg.norm(x, axis=1))
    if args.cohort:
        with as_input_error(args.cohort):
            means = cohort_mean(x, read_cohort(args.cohort, scp, model), args.top)
        write_table(args.embeddings / "utt2cohort_mean", keys, means)


if __name__ == "__main__":
    run_main(main)
