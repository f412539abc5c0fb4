#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train mean, LDA and PLDA on embeddings of known speakers; writes OUT_DIR/{mean.vec,transform.mat,plda}.

steps/train_backend.py exp/x/embeddings/cohort_native/embedding.scp exp/x/cohort/utt2spk exp/x/backend/native

The steps are those of Kaldi's recipes: subtract the mean, train and apply LDA, scale to length sqrt(dim), train PLDA.
The files have Kaldi's formats. With too few vectors for their dimension, LDA starts from as many principal components
as they suffice for, with a warning.

--adapt SCP adapts them to another domain by its embeddings, whose speakers need not be known:

steps/train_backend.py --adapt exp/x/embeddings/calls_native/embedding.scp --adaptation plda \\
    exp/x/embeddings/cohort_native/embedding.scp exp/x/cohort/utt2spk exp/x/backend/calls
"""

from pathlib import Path

import numpy as np

from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main, warn
from rawnext.files import replaced_together
from rawnext.identity import one_model, write_origin
from rawnext.kaldi.tables import read_table
from rawnext.scoring.adaptation import BETWEEN_SCALE, WITHIN_SCALE, adapt_plda, coral
from rawnext.scoring.cosine import length_norm
from rawnext.scoring.embeddings import backend_transform, read_side
from rawnext.scoring.kaldi_models import write_arrays, write_plda
from rawnext.scoring.lda import PER_DIM, degrees_of_freedom, fit_lda, principal_directions
from rawnext.scoring.plda import fit_plda, smooth


def reduce(path: str, x: np.ndarray, speaker: np.ndarray, kept: int) -> np.ndarray:
    """(D, kept) principal directions of (N, D) vectors, with a warning.   Raises: InputError: kept is 0."""
    num, few = len(set(speaker)), (f"{len(x)} vectors of {len(set(speaker))} speakers are too few for LDA and PLDA of "
                                   f"{x.shape[1]} dimensions")
    want = f"want {PER_DIM * x.shape[1] + num} different vectors of these speakers (in recipes: --cohort-utts)"
    if np.unique(speaker, return_counts=True)[1].max() < 2:
        raise InputError(path, None, "LDA needs a speaker with two vectors; each has one")
    if not kept:
        raise InputError(path, None, f"{few}; {want}, or score by cosine")
    warn(path, f"{few}: reduced to their {kept} principal components, and scores will be worse than cosines; {want}")
    return principal_directions(x, kept)


def adapted(x: np.ndarray, target: np.ndarray, by_coral: bool, path: str) -> np.ndarray:
    """(N, D) training vectors moved to the mean of the (M, D) target's, and by CORAL to their covariance.

    Raises: InputError: path, the target's file, has vectors of another dimension, or too few for CORAL.
    """
    if target.shape[1] != x.shape[1]:
        raise InputError(path, None, f"{target.shape[1]} dimensions, but the training embeddings have {x.shape[1]}")
    if len(target) < PER_DIM * x.shape[1]:
        warn(path, f"{len(target)} embeddings are few for the covariance of {x.shape[1]} dimensions, and adaptation "
                   f"may make scores worse; want {PER_DIM * x.shape[1]}")
    try:
        return coral(x, target) if by_coral else x - x.mean(axis=0) + target.mean(axis=0)
    except ValueError as error:
        raise InputError(path, None, f"{error}; --adaptation plda needs fewer") from None


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--lda-dim", type=int, default=200,
                        help="LDA's dimension, at most that of the embeddings and speakers - 1 (default %(default)s)")
    parser.add_argument("--total-covariance-factor", type=float, default=0.0,
                        help="LDA's share of the total covariance in the whitened one (default %(default)s)")
    parser.add_argument("--smoothing", type=float, default=0.0,
                        help="PLDA's smoothing: share of the between-speaker covariance added to the within-speaker "
                             "one (default %(default)s)")
    parser.add_argument("--adapt", metavar="SCP", help="embeddings of another domain to adapt to; without speakers")
    parser.add_argument("--adaptation", choices=("coral", "plda"), default="coral",
                        help="coral: of the training embeddings, for LDA and PLDA; plda: of PLDA alone, as "
                             "ivector-adapt-plda (default %(default)s)")
    parser.add_argument("--within-covar-scale", type=float, default=WITHIN_SCALE, metavar="S",
                        help="--adaptation plda: share of the additional variance that is within speakers (default "
                             "%(default)s)")
    parser.add_argument("--between-covar-scale", type=float, default=BETWEEN_SCALE, metavar="S",
                        help="and between speakers (default %(default)s)")
    parser.add_argument("embeddings", help="embedding.scp")
    parser.add_argument("utt2spk")
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    for name, value in (("total-covariance-factor", args.total_covariance_factor), ("smoothing", args.smoothing),
                        ("within-covar-scale", args.within_covar_scale),
                        ("between-covar-scale", args.between_covar_scale)):
        if not 0 <= value <= 1:
            parser.error(f"--{name} must be between 0 and 1")

    spk_of = read_table(args.utt2spk, one_word=True)
    utts, x, _, model = read_side(args.embeddings)
    if missing := [utt for utt in utts if utt not in spk_of]:
        raise InputError(args.utt2spk, None, f"{missing[0]} of {args.embeddings} is missing")
    speaker = np.array([spk_of[utt] for utt in utts])
    free = degrees_of_freedom(x, speaker)
    target = read_side(args.adapt) if args.adapt else None
    if target:
        model = one_model({args.embeddings: model, args.adapt: target.model})
        x = adapted(x, target.x, args.adaptation == "coral", args.adapt).astype(np.float32)
    mean = x.mean(axis=0, dtype=np.float64)
    with as_input_error(args.utt2spk):
        kept = min(x.shape[1], max(2, free // PER_DIM) if free >= PER_DIM else 0)
        base = np.eye(x.shape[1]) if kept == x.shape[1] else reduce(args.utt2spk, x, speaker, kept)
        dim = min(args.lda_dim, kept, len(set(speaker)) - 1)
        if dim < 2:
            raise ValueError(f"LDA of {len(set(speaker))} speakers to {dim} dimension leaves only a sign; want 3 or "
                             "more speakers and --lda-dim 2 or more")
        offset, projection = fit_lda((x - mean) @ base, speaker, dim, args.total_covariance_factor)
        offset, projection = base @ offset, base @ projection
        transform = np.column_stack([projection.T, -projection.T @ offset])
        with replaced_together(args.out_dir) as folder:
            write_arrays(folder / "mean.vec", [mean.astype(np.float32)])
            write_origin(folder / "mean.vec", model)
            write_arrays(folder / "transform.mat", [transform.astype(np.float32)])
            project = backend_transform(folder, lda=True)  # as in Kaldi: from the files
            plda = smooth(fit_plda(length_norm(project(x)), speaker), args.smoothing)
            if target and args.adaptation == "plda":
                plda = adapt_plda(plda, length_norm(project(target.x)), args.within_covar_scale,
                                  args.between_covar_scale)
            write_plda(folder / "plda", plda)
    print(f"train_backend.py: {len(x)} embeddings of {len(set(speaker))} speakers, LDA from {x.shape[1]} to {dim} "
          f"dimensions, PLDA, {f'adapted by {args.adaptation} to {len(target.x)} embeddings, ' if target else ''}"
          f"in {args.out_dir}")


if __name__ == "__main__":
    run_main(main)
