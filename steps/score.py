#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Score trials with a back end; writes lines `enroll test score`, where higher is more similar.

steps/score.py --enroll exp/x/embeddings/vox1/embedding.scp --test exp/x/embeddings/vox1_2s/embedding.scp \\
    --backend plda --model exp/x/backend/native data/vox1/trials_E exp/x/scores/plda/vox1/trials_E_native_2s

Back ends: cosine of the embeddings. cosine_mean: cosine after subtraction of the mean MODEL/mean.vec. lda: as
cosine_mean, after projection by MODEL/transform.mat. plda: log-likelihood ratio by MODEL/plda, after mean, LDA and
length normalisation. siamese: the head of the experiment MODEL. The models are written by steps/train_backend.py or a
Kaldi recipe.

--segments FILE scores cosines, or distances, of all pairs of segments; steps/segment_data_dir.py writes FILE.
"""

import argparse
from pathlib import Path

import numpy as np

from rawnext.errors import ArgumentParser, InputError, run_main, warn
from rawnext.files import newest
from rawnext.identity import network_of, one_model, origin, weights_path, write_origin
from rawnext.kaldi.tables import read_enroll_map, read_trials, read_unlabelled, write_scores
from rawnext.scoring.cosine import cosine_scores, length_norm, segment_pair_scores, siamese_scores
from rawnext.scoring.embeddings import Sides, backend_transform, read_segment_sides, read_sides
from rawnext.scoring.kaldi_models import read_plda
from rawnext.scoring.plda import plda_scores

WITH_MODEL = ("cosine_mean", "lda", "plda", "siamese")


def siamese(exp: Path, sides: Sides, scp: str) -> np.ndarray:
    """Scores by the head of the siamese loss in an experiment."""
    from rawnext.training.checkpoint import load_state

    path, state = weights_path(exp), load_state(exp)
    try:
        head = state["losses"]["siamese"]
        weight, bias = head["linear.weight"][0].numpy(), float(head["linear.bias"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError):
        raise InputError(path, None, "has no siamese head; it was not trained with the siamese loss") from None
    if len(weight) != sides.enroll.x.shape[1]:
        raise InputError(scp, None, f"{sides.enroll.x.shape[1]} dimensions, but the siamese head of {exp} has "
                                    f"{len(weight)}")
    return siamese_scores(sides.enroll.x, sides.test.x, sides.enroll_index, sides.test_index, weight, bias)


def backend_model(args: argparse.Namespace) -> dict[Path, str]:
    """The file of a trained back end, and the fingerprint of the model for whose embeddings it was made."""
    if args.backend == "cosine":
        return {}
    if args.backend != "siamese":
        return {args.model / "mean.vec": origin(newest(args.model / "mean.vec"))}
    from rawnext.config import load_config
    from rawnext.training.checkpoint import fingerprint, load_state

    config = args.model / "config.yaml"
    state = load_state(args.model).get("model")
    return {weights_path(args.model): fingerprint(load_config([config]), state) if config.exists() and state else ""}


def plda(folder: Path, sides: Sides, normalize_length: bool) -> np.ndarray:
    """Scores by PLDA of length-normalised embeddings."""
    model = read_plda(folder / "plda")
    if len(model.mean) != sides.enroll.x.shape[1]:
        raise InputError(folder / "plda", None, f"{len(model.mean)} dimensions, but transform.mat gives "
                                                f"{sides.enroll.x.shape[1]}")
    enroll, test = length_norm(sides.enroll.x), length_norm(sides.test.x)
    return plda_scores(model, enroll, test, sides.enroll_index, sides.test_index, sides.enroll.num_utts,
                       normalize_length)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--enroll", required=True, metavar="SCP", help="embeddings of the enroll side")
    parser.add_argument("--test", required=True, metavar="SCP", help="embeddings of the test side; may be the same")
    parser.add_argument("--enroll-map", metavar="FILE", help="trials name models: lines `model utt utt...`")
    parser.add_argument("--backend", choices=("cosine", *WITH_MODEL), default="cosine",
                        help="back end (default: %(default)s)")
    parser.add_argument("--model", type=Path, metavar="DIR", help=f"folder of the model of {', '.join(WITH_MODEL)}")
    parser.add_argument("--normalize-length", action=argparse.BooleanOptionalAction, default=True,
                        help="plda: scale to the length that the model expects, as in ivector-plda-scoring")
    parser.add_argument("--segments", metavar="FILE", help="lines `utt segment segment...`: embeddings are of segments "
                        "and the score is the mean of all pairs of segments of two utterances")
    parser.add_argument("--segment-score", choices=("cosine", "distance"), default="cosine",
                        help="of two segments; distance: minus the Euclidean one of unit vectors (default %(default)s)")
    parser.add_argument("--unlabelled", action="store_true", help="trials are lines `enroll test idx`")
    parser.add_argument("trials", help="lines `enroll test target|nontarget`")
    parser.add_argument("scores", help="file to write")
    args = parser.parse_args()
    backend = args.backend
    if backend in WITH_MODEL and not args.model:
        parser.error(f"--backend {backend} needs --model")
    if args.segments and (args.enroll_map or backend != "cosine"):
        parser.error("--segments is for --backend cosine without --enroll-map")

    enroll_ids, test_ids, _ = (read_unlabelled if args.unlabelled else read_trials)(args.trials)
    transform = None
    if backend not in ("cosine", "siamese"):
        transform = backend_transform(args.model, lda=backend in ("lda", "plda"))
    if args.segments:
        sides = read_segment_sides(args.enroll, args.test, args.segments, args.trials, enroll_ids, test_ids)
    else:
        sides = read_sides(args.enroll, args.test, transform, args.enroll_map, backend.startswith(("cosine", "lda")),
                           args.trials, enroll_ids, test_ids)
    trained = backend_model(args)
    one_model({args.enroll: network_of(sides.model) if backend == "siamese" else sides.model, **trained})
    model = sides.model or next(iter(trained.values()), "")
    if backend == "siamese":
        scores = siamese(args.model, sides, args.enroll)
    elif backend == "plda":
        scores = plda(args.model, sides, args.normalize_length)
    elif args.segments:
        scores = segment_pair_scores(sides.enroll.x, sides.test.x, sides.enroll_index, sides.test_index,
                                     args.segment_score == "distance")
    else:
        scores = cosine_scores(sides.enroll.x, sides.test.x, sides.enroll_index, sides.test_index)
    write_scores(args.scores, enroll_ids, test_ids, scores)
    write_origin(args.scores, model)
    itself = sides.with_itself(read_enroll_map(args.enroll_map) if args.enroll_map else None)
    for which, what in ((itself, "compare an utterance with itself"),
                        (sides.with_a_copy() & ~itself, "have one embedding on both sides, as of a copied recording")):
        if which.any():
            line = int(np.argmax(which))
            warn(args.trials, f"{np.count_nonzero(which):,} of {len(which):,} trials {what}, first in line {line + 1}, "
                              f"{enroll_ids[line]} {test_ids[line]}; the results depend on them")


if __name__ == "__main__":
    run_main(main)
