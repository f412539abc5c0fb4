#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mean embedding of each speaker, without length normalisation before the mean, as Kaldi's ivector-mean.

steps/average_speakers.py data/vox1/spk2utt exp/rawnext/embeddings/vox1

Reads DIR/embedding.scp; writes DIR/spk_embedding.{ark,scp} and DIR/num_utts.ark (text, `spk count`).
"""

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np

from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import read_lines, write_lines
from rawnext.kaldi.ark import read_vectors, write_vectors
from rawnext.kaldi.tables import read_table


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--skipped", type=Path, metavar="FILE",
                        help="utterances without an embedding, the first word of each line")
    parser.add_argument("spk2utt", type=Path)
    parser.add_argument("dir", type=Path, help="folder with embedding.scp")
    args = parser.parse_args()
    vectors = read_vectors(args.dir / "embedding.scp")
    skipped = {line.split()[0] for _, line in read_lines(args.skipped)} if args.skipped else set()
    speakers = {spk: [utt for utt in utts.split() if utt not in skipped]
                for spk, utts in read_table(args.spk2utt).items()}
    for line, (spk, utts) in enumerate(speakers.items(), 1):
        if missing := [utt for utt in utts if utt not in vectors]:
            raise InputError(args.spk2utt, line, f"{missing[0]} of {spk} is not in {args.dir}/embedding.scp")

    def means() -> Iterator[tuple[str, np.ndarray]]:
        for spk, utts in filter(itemgetter(1), speakers.items()):
            yield spk, np.stack([vectors[utt] for utt in utts]).mean(0, dtype=np.float64)

    write_vectors(args.dir / "spk_embedding.ark", args.dir / "spk_embedding.scp", means())
    write_lines(args.dir / "num_utts.ark", (f"{spk} {len(utts)} " for spk, utts in speakers.items() if utts))


if __name__ == "__main__":
    run_main(main)
