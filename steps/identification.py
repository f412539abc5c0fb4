#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Errors of open-set identification against the size of the gallery, from the embeddings of a data directory.

steps/identification.py --enroll-utts 3 data/test exp/x/embeddings/test_native/embedding.scp

N utterances of each speaker are enrolled (their unit vectors are averaged), the others are probes. For each size of the
gallery, --repeats galleries of random speakers are searched with all probes, by cosine; probes of speakers who are not
in the gallery should not be found. Prints, for each size and false-positive identification rate (FPIR), the
false-negative identification rate (FNIR) with its 95 % interval over speakers, and the FNIR without a threshold. See
docs/reference/metrics.md.
"""

import json
from pathlib import Path

import numpy as np

from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main
from rawnext.kaldi.tables import read_table
from rawnext.scoring.cosine import unit_vectors
from rawnext.scoring.embeddings import read_side
from rawnext.scoring.open_set import Row, identification_errors

SIZES = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


def enrolled(speaker: np.ndarray, num: int, seed: int) -> np.ndarray:
    """(N,) bool: utterances to enroll, `num` of each speaker 0 to S - 1 with more; (N,) speakers."""
    order = np.random.RandomState(seed).permutation(len(speaker))
    order = order[np.argsort(speaker[order], kind="stable")]
    _, first = np.unique(speaker[order], return_index=True)
    place = np.empty(len(speaker), np.int64)
    place[order] = np.arange(len(speaker)) - first[speaker[order]]
    return place < num


def line(row: Row) -> str:
    between = "" if np.isnan(row.low) else f" [{100 * row.low:.1f}, {100 * row.high:.1f}]"
    return f"{row.size}\t{100 * row.fpir:g}\t{100 * row.fnir:.2f}{between}\t{100 * row.closed:.2f}"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--enroll-utts", type=int, default=3, metavar="N",
                        help="utterances to enroll of each speaker (default %(default)s)")
    parser.add_argument("--sizes", type=lambda text: [int(word) for word in text.split()], metavar='"S S..."',
                        help="speakers in the gallery (default: 2, 5, 10, 20, ... below the number of speakers)")
    parser.add_argument("--fpir", type=lambda text: [float(word) for word in text.split()], default=[0.01, 0.1],
                        metavar='"P P..."', help="false-positive identification rates (default: 0.01 0.1)")
    parser.add_argument("--repeats", type=int, default=10, help="galleries of each size (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("data_dir", type=Path, help="with utt2spk")
    parser.add_argument("embeddings", metavar="SCP", help="embeddings of its utterances")
    args = parser.parse_args()
    if not (args.enroll_utts >= 1 and 1 <= args.repeats <= 1000 and 0 <= args.seed < 1 << 32):
        parser.error("want --enroll-utts from 1, --repeats from 1 to 1000 and --seed from 0 to 2^32 - 1")
    if not args.fpir or not all(0 < fpir < 1 for fpir in args.fpir):
        parser.error("want --fpir between 0 and 1")
    table = args.data_dir / "utt2spk"
    utt2spk = read_table(table, one_word=True)
    keys, x, _, _ = read_side(args.embeddings, wanted=utt2spk)
    _, speaker, num_utts = np.unique([utt2spk[key] for key in keys], return_inverse=True, return_counts=True)
    used = num_utts[speaker] > args.enroll_utts
    if (num := int((num_utts > args.enroll_utts).sum())) < 2:
        raise InputError(table, None, f"{num} speakers have more than {args.enroll_utts} embeddings; want 2 or more")
    x, speaker = unit_vectors(x[used]), np.unique(speaker[used], return_inverse=True)[1]
    is_enrolled = enrolled(speaker, args.enroll_utts, args.seed)
    models = np.zeros((num, x.shape[1]))
    np.add.at(models, speaker[is_enrolled], x[is_enrolled])
    sizes = args.sizes or [size for size in SIZES if size < num]
    with as_input_error(args.embeddings):
        scores = x[~is_enrolled] @ unit_vectors(models).astype(x.dtype).T
        rows = identification_errors(scores, speaker[~is_enrolled], sizes, args.fpir, args.repeats, args.seed)
    if not args.json:
        print("speakers\tFPIR %\tFNIR %\tFNIR % without a threshold")
    for row in rows:
        interval = {} if np.isnan(row.low) else {"fnir_interval": [row.low, row.high]}
        print(json.dumps({"size": row.size, "fpir": row.fpir, "fnir": row.fnir, **interval, "closed": row.closed,
                          "num_probes": len(scores), "num_speakers": num}) if args.json else line(row))


if __name__ == "__main__":
    run_main(main)
