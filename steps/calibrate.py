#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Calibrate scores to log-likelihood ratios (natural logarithm) on held-out trials.

steps/calibrate.py fit --backend cosine --protocol native --data data/dev --trials data/dev/trials \\
    --out exp/x/calibration/cosine/native exp/x/scores/cosine/dev/trials_native:full:full \\
    exp/x/scores/cosine/dev/trials_native_2s:full:2

steps/calibrate.py apply --backend cosine --protocol native --model exp/x/calibration/cosine/native/model.json \\
    --enroll-data data/vox1 --test-data data/vox1 exp/x/scores/cosine/vox1/trials_O_native_2s:full:2 \\
    exp/x/scores/cosine+cal/vox1/trials_O_native_2s

A score file is given with the seconds to which its enroll and test side were cut and, for the measures norm and
cohort_mean, the folders of their embeddings, with the tables of steps/quality.py. Score files of several systems on the
same trials, separated by commas (A,B:full:full), are fused: each gets a weight, in this order. fit pools its score
files and writes OUT/model.json and the thresholds of each prior and duration, OUT/thresholds.{tsv,md}. See
docs/howto/calibration.md.
"""

import argparse
from pathlib import Path

import numpy as np

from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main, warn
from rawnext.files import replaced_together
from rawnext.identity import KEY, one_model, origin, origin_of_embeddings, write_origin
from rawnext.kaldi.tables import Trials, read_scored_trials, read_scores, read_table, read_trials, write_scores
from rawnext.scoring.calibration import MEASURES, PRIOR, fit_calibration, operating_points
from rawnext.scoring.calibration_files import ScoreFile, read_model, save_model, score_file, trial_measures, weaknesses
from rawnext.scoring.decision import COHORT_PATH
from rawnext.scoring.embeddings import read_cohort
from rawnext.scoring.metrics import cllr, min_cllr
from rawnext.scoring.thresholds import write_thresholds
from rawnext.stamp import sha256, stamp

PRIORS = (0.5, 0.1, 0.05, 0.01, 0.001)  # in the table of thresholds


def score_argument(text: str) -> ScoreFile:
    try:
        return score_file(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def model_of(files: list[ScoreFile]) -> str:
    """The fingerprint of the model whose scores these are, and whose embeddings are in the folders named with them.

    Of fused systems with different models, all fingerprints with + between them; empty if one is not known.
    """
    if len(files[0].paths) > 1:
        each = [one_model({path: origin(path) for path in paths}) for paths in zip(*(file.paths for file in files))]
        return each[0] if len(set(each)) == 1 else "+".join(each) if all(each) else ""
    folders = {f"{folder}/embedding.scp" for file in files for folder in (file.enroll_dir, file.test_dir) if folder}
    known = {scp: origin_of_embeddings(scp) for scp in sorted(folders) if Path(scp).exists()}
    return one_model({**{file.path: origin(file.path) for file in files}, **known})


def read_pool(args: argparse.Namespace, names: list[str]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(scores (N, K), is_target (N,), measures (N, M)) of each score file."""
    pool, trials = [], read_trials(args.trials)
    for file in args.scores:
        if len(file.paths) != len(args.scores[0].paths):
            raise InputError(file.path, None, f"{len(file.paths)} systems, but {args.scores[0].path} has "
                                              f"{len(args.scores[0].paths)}")
        scores = np.column_stack([read_scored_trials(path, args.trials, trials)[1] for path in file.paths])
        measures = trial_measures(names, file, trials.enroll, trials.test, args.data, args.data, args.enroll_map)
        pool.append((scores, trials.is_target, measures))
    return pool


def fitted_on(args: argparse.Namespace, is_target: np.ndarray) -> dict:
    """Description of the trials on which a model is fitted."""
    utt2spk = args.data / "utt2spk"
    speakers = {"num_speakers": len(set(read_table(utt2spk, one_word=True).values()))} if utt2spk.exists() else {}
    return {"trials": args.trials, "trials_sha256": sha256(args.trials), "num_trials": len(is_target),
            "num_target": int(is_target.sum()), **speakers, "score_files": [str(file) for file in args.scores],
            "scores_sha256": [sha256(path) for file in args.scores for path in file.paths]}


def fit(args: argparse.Namespace) -> None:
    names = args.measures.split()
    if unknown := [name for name in names if name not in MEASURES]:
        raise InputError("--measures", None, f"unknown {unknown[0]!r}; known: {', '.join(MEASURES)}")
    if args.cohort and not any(MEASURES[name].quantity == "cohort_mean" for name in names):
        raise InputError("--cohort", None, "no measure needs it; --measures may have cohort_mean_lower and "
                                           "cohort_mean_higher")
    pool = read_pool(args, names)
    fingerprint = model_of(args.scores)
    scores, is_target, measures = (np.concatenate(parts) for parts in zip(*pool))
    with as_input_error(args.trials):
        calibration = fit_calibration(scores, is_target, measures, args.prior)
    llr = calibration.llr(scores, measures)
    by = scores if calibration.num_scores == 1 else llr
    list_of = fitted_on(args, pool[0][1]) | {"separable": bool(by[is_target].min() > by[~is_target].max())}
    model, cohort = args.out / "model.json", {}
    if args.cohort:
        members = read_cohort(args.cohort, args.scores[0].path, fingerprint)
    tables = [(file, operating_points(calibration, *part, PRIORS)) for file, part in zip(args.scores, pool)]
    speakers = f" of {list_of['num_speakers']} speakers" if "num_speakers" in list_of else ""
    where = f"{args.trials} ({list_of['num_trials']:,} trials{speakers})"
    with replaced_together(args.out) as folder:
        if args.cohort:
            temporary = folder / COHORT_PATH.name
            np.save(temporary, members.astype(np.float32))
            cohort = {"cohort_sha256": sha256(temporary)}
        save_model(folder / model.name, calibration, names, {
            "backend": args.backend, "protocol": args.protocol, KEY: fingerprint, "prior": args.prior,
            "fitted_on": list_of, **cohort, **stamp()})
        write_thresholds(folder, tables, args.backend, args.protocol, where)
    files_of_systems = args.scores[0].paths if calibration.num_scores > 1 else ["score"]
    print(f"{model}: LLR = {calibration.offset:.4g}"
          + "".join(f" {weight:+.4g} {name}" for name, weight in zip([*files_of_systems, *names], calibration.weights))
          + f"; Cllr {cllr(llr[is_target], llr[~is_target]):.3f}, "
            f"at least {min_cllr(llr[is_target], llr[~is_target]):.3f}, on {where}")
    if calibration.weights[:calibration.num_scores].max() <= 0:
        warn(model, f"{args.trials}: target trials do not score higher than nontarget trials (slope "
                    f"{calibration.weights[0]:.3g}), so the LLRs are useless; are they distances, or labels swapped?")
    for why in weaknesses(read_model(model)[2]):
        warn(model, f"{why} ({args.trials})")


def apply(args: argparse.Namespace) -> None:
    calibration, names, model = read_model(args.model)
    for key, given in (("backend", args.backend), ("protocol", args.protocol)):
        if model.get(key) != given:
            raise InputError(args.model, None, f"was fitted for {key} {model.get(key)!r}, not {given!r}")
    if calibration.weights[:calibration.num_scores].max() <= 0:
        warn(args.model, f"the slope is {calibration.weights[0]:.3g}: a higher score does not give a higher LLR; "
                         f"{args.out} is useless")
    file: ScoreFile = args.scores
    if len(file.paths) != calibration.num_scores:
        raise InputError(args.model, None, f"was fitted on {calibration.num_scores} systems, but {file.path} has "
                                           f"{len(file.paths)}")
    fingerprint = one_model({args.model: model.get(KEY), file.path: model_of([file])})
    enroll, test, scores = read_scores(file.paths[0])
    pairs = Trials(enroll, test, np.empty(0, bool))
    scores = np.column_stack([scores, *(read_scored_trials(path, file.paths[0], pairs)[1] for path in file.paths[1:])])
    measures = trial_measures(names, file, enroll, test, args.enroll_data, args.test_data, args.enroll_map)
    write_scores(args.out, enroll, test, calibration.llr(scores, measures))
    write_origin(args.out, "" if "+" in fingerprint else fingerprint)
    if outside := int(calibration.outside(names, measures).sum()):
        print(f"{args.out}: {outside:,} of {len(scores):,} trials are shorter or longer than those that the "
              "calibration was fitted on; their durations are clipped")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="fit|apply")
    common = ArgumentParser(add_help=False)
    common.add_argument("--backend", required=True, help="back end of the scores; a model is for one of them")
    common.add_argument("--protocol", required=True, help="protocol of the embeddings; a model is for one of them")
    common.add_argument("--enroll-map", metavar="FILE", help="trials name models: lines `model utt utt...`")

    action = actions.add_parser("fit", parents=[common], help="fit a calibration on held-out trials")
    action.set_defaults(run=fit)
    action.add_argument("--data", required=True, type=Path, help="data directory of the trials, with utt2dur")
    action.add_argument("--trials", required=True, help="lines `enroll test target|nontarget`")
    action.add_argument("--prior", type=float, default=PRIOR,
                        help="target prior of the objective (default %(default)s)")
    action.add_argument("--measures", default="inverse_duration",
                        help=f"measures in addition to the score: {', '.join(MEASURES)}; empty: none "
                             "(default %(default)s)")
    action.add_argument("--cohort", metavar="SCP|NPY",
                        help="embeddings from which steps/quality.py computed the measures cohort_mean_...; written to "
                             f"DIR/{COHORT_PATH.name}, so that `rawnext` can compute them for single files")
    action.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder")
    action.add_argument("scores", nargs="+", type=score_argument, metavar="SCORES:ENROLL:TEST",
                        help="scores of those trials; each side `full`, or the seconds to which it was cut")

    action = actions.add_parser("apply", parents=[common], help="turn scores into LLRs")
    action.set_defaults(run=apply)
    action.add_argument("--model", required=True, type=Path, metavar="JSON", help="model.json written by fit")
    action.add_argument("--enroll-data", required=True, type=Path, help="data directory with utt2dur, enroll side")
    action.add_argument("--test-data", required=True, type=Path,
                        help="data directory of the test side; may be the same")
    action.add_argument("scores", type=score_argument, metavar="SCORES:ENROLL:TEST", help="as in fit")
    action.add_argument("out", help="file to write, lines `enroll test LLR`")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    run_main(main)
