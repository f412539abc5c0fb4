#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Normalise cosine scores with a cohort of other speakers: AS-norm, or S-norm with --top 0.

steps/normalize.py --enroll exp/x/embeddings/vox1/embedding.scp --test exp/x/embeddings/vox1_2s/embedding.scp \\
    --cohort exp/x/embeddings/cohort/embedding.scp exp/x/scores/cosine/vox1/E_2s exp/x/scores/asnorm/vox1/E_2s

The cohort must not have the speakers of the trials. By the tables of speakers, they are left out with a warning.

For short test utterances, --test-cohort names the cohort's utterances cut to the same duration. The enroll side is
compared with these, as with impostors; the test side is compared with the whole utterances of --cohort.
"""

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main, warn
from rawnext.identity import one_model, origin, write_origin
from rawnext.kaldi.tables import read_enroll_map, read_scores, read_table, write_scores
from rawnext.scoring.embeddings import read_side, read_sides
from rawnext.scoring.snorm import FEWEST, TOP, cohort_stats, default_top, normalize_scores


def speakers(utt2spk: Path | None, scp: str) -> dict[str, str]:
    """utt -> speaker by a table, or by one next to the embeddings; empty if there is none."""
    return read_table(utt2spk or Path(scp).parent / "utt2spk", one_word=True, optional=utt2spk is None)


def own_speakers(args: argparse.Namespace, enroll_ids: Sequence[str], test_ids: Sequence[str]) -> set[str]:
    """Speakers of the trials; an utterance whose speaker is not known is one by itself."""
    enroll, test = speakers(args.enroll_utt2spk, args.enroll), speakers(args.utt2spk, args.test)
    utts = set(chain(*read_enroll_map(args.enroll_map).values())) if args.enroll_map else set(enroll_ids)
    return {enroll.get(utt, utt) for utt in utts} | {test.get(utt, utt) for utt in set(test_ids)}


def read_cohort(args: argparse.Namespace, scp: str, own: set[str], model: str) -> np.ndarray:
    """(C, D) embeddings of a cohort, without those of the trials' speakers if others are left.

    Args: model: fingerprint of the trials' embeddings.
    Raises: InputError: they are of one speaker, or of another model.
    """
    keys, x, _, own_model = read_side(scp)
    one_model({args.enroll: model, scp: own_model})
    table = speakers(args.cohort_utt2spk, scp)
    names = np.array([table.get(key, key) for key in keys])  # in spk_embedding.scp the keys are speakers
    others = np.array([name not in own for name in names])
    if not others.all():
        first = names[int(np.argmin(others))]
        why = f"{np.count_nonzero(~others)} of its {len(keys)} vectors are of speakers of the trials, such as {first}"
        if len(set(names[others])) > 1:
            warn(scp, f"{why}; they are left out")
        else:
            warn(scp, f"{why}, and too few are left without them; the scores are not to be trusted, because a cohort "
                      "needs other speakers")
            others[:] = True
    num, found = np.count_nonzero(others), len(set(names[others]))
    if found < 2:
        raise InputError(scp, None, f"a cohort of {num} of one speaker, {names[others][0]}: statistics need two or "
                                    f"more, and want {FEWEST} vectors of as many speakers as possible")
    if num < FEWEST:
        warn(scp, f"a cohort of {num} is too small, and scores will be worse than cosines; want {FEWEST} vectors or "
                  "more of other speakers (in recipes: --cohort-utts)")
    return x[others]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--enroll", required=True, metavar="SCP", help="embeddings of the enroll side")
    parser.add_argument("--test", required=True, metavar="SCP", help="embeddings of the test side; may be the same")
    parser.add_argument("--enroll-map", metavar="FILE", help="trials name models: lines `model utt utt...`")
    parser.add_argument("--cohort", required=True, metavar="SCP", help="embeddings of the cohort")
    parser.add_argument("--test-cohort", metavar="SCP", help="the cohort for the enroll side (default: --cohort)")
    parser.add_argument("--cohort-utt2spk", metavar="FILE", type=Path,
                        help="speakers of the cohort (default: utt2spk next to its embeddings, if there is one)")
    parser.add_argument("--utt2spk", metavar="FILE", type=Path,
                        help="speakers of the test side (default: utt2spk next to its embeddings, if there is one)")
    parser.add_argument("--enroll-utt2spk", metavar="FILE", type=Path, help="speakers of the enroll side (likewise)")
    parser.add_argument("--top", type=int,
                        help="number of nearest cohort members used for each side; 0: all (default: "
                             f"{TOP}, at most a quarter of the cohort)")
    parser.add_argument("cosines", help="lines `enroll test score`, by steps/score.py --backend cosine")
    parser.add_argument("scores", help="file to write")
    args = parser.parse_args()
    if args.top is not None and (args.top < 0 or args.top == 1):
        parser.error("--top must be 0 or at least 2")

    enroll_ids, test_ids, cosines = read_scores(args.cosines)
    sides = read_sides(args.enroll, args.test, None, args.enroll_map, True, args.cosines, enroll_ids, test_ids)
    own = own_speakers(args, enroll_ids, test_ids)
    model = one_model({args.cosines: origin(args.cosines), args.enroll: sides.model})
    cohort = read_cohort(args, args.cohort, own, model)
    test_cohort = read_cohort(args, args.test_cohort, own, model) if args.test_cohort else cohort
    same_side = sides.enroll is sides.test and test_cohort is cohort
    top = default_top(len(cohort)) if args.top is None else args.top
    if top > len(cohort):
        warn(args.cohort, f"a cohort of {len(cohort)}, fewer than --top {top}: all are used, as in S-norm")
    with as_input_error(args.cohort):
        test = cohort_stats(sides.test.x, cohort, top, sides.test.keys)
        enroll = test if same_side else cohort_stats(sides.enroll.x, test_cohort, top, sides.enroll.keys)
        scores = normalize_scores(cosines, enroll, test, sides.enroll_index, sides.test_index)
    write_scores(args.scores, enroll_ids, test_ids, scores)
    write_origin(args.scores, model)


if __name__ == "__main__":
    run_main(main)
