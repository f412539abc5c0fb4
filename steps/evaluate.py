#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a score file: EER, minDCF and their intervals, written to SCORES.json with everything they depend on.

steps/evaluate.py --exp exp/x --list O --data-set vox1_test --protocol paper --duration 2 --backend cosine \\
    exp/x/scores/cosine/vox1_test/trials_O_paper_2s data/vox1_test/trials_O

95 % intervals (a bootstrap over speakers, docs/reference/metrics.md) are computed if the utt2spk of both sides exists,
and then also the figures by gender, age, language and whatever tables utt2X and spk2X are next to them
(docs/howto/conditions.md).
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rawnext.errors import ArgumentParser, run_main, warn
from rawnext.files import read_object, write_lines
from rawnext.identity import KEY, network_of, one_model, origin
from rawnext.kaldi.tables import read_scored_trials
from rawnext.pipeline.plan import is_duration
from rawnext.results.conditions import by_condition, conditions_of
from rawnext.results.evaluation import TITLES, check_kinds, evaluation
from rawnext.results.rows import OWN, row_sha256
from rawnext.scoring.metrics import EER_DEFINITION, EER_DEFINITIONS
from rawnext.scoring.trial_speakers import known_speakers, speaker_tables
from rawnext.stamp import sha256, stamp


def duration(text: str) -> str:
    """`full`, or seconds as in `2`."""
    if text == "full":
        return text
    if not is_duration(text):
        raise argparse.ArgumentTypeError(f"expected full or seconds, got {text!r}")
    return f"{float(text):g}"


def summary(row: dict[str, Any]) -> str:
    """The results in one line."""
    between = " [{:.1f}, {:.1f}]".format(*row["eer_interval"]) if "eer_interval" in row else ""
    between += f" ({row['interval_note']})" if "interval_note" in row else ""
    return ", ".join([f"EER {row['eer']:.2f} %{between}",
                      *(f"{title} {row[name]:.3f}" for name, title in TITLES.items() if name in row and name != "eer")])


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--exp", required=True, type=Path, help="experiment, with config.yaml")
    parser.add_argument("--list", required=True, help="name of the trial list")
    parser.add_argument("--data-set", required=True)
    parser.add_argument("--protocol", required=True, choices=["paper", "native"])
    parser.add_argument("--duration", type=duration, default="full", help="duration of the test side: full or seconds")
    parser.add_argument("--crop", metavar="TEXT", help="description of the cut (default: test side, centre)")
    parser.add_argument("--backend", default="cosine", help="back end of the scores: cosine, asnorm, plda, ...")
    parser.add_argument("--enroll", metavar="DIR", help="data directory of the enroll side (default: the trials')")
    parser.add_argument("--utt2spk", type=Path, metavar="FILE",
                        help="speakers (default: utt2spk in the folder of the trials)")
    parser.add_argument("--enroll-utt2spk", type=Path, metavar="FILE", help="speakers of the enroll side, if different")
    parser.add_argument("--eer-definition", choices=EER_DEFINITIONS, default=EER_DEFINITION,
                        help="definition of the EER (default %(default)s)")
    parser.add_argument("--llr", action="store_true",
                        help="scores are log-likelihood ratios: also report actual DCF and Cllr")
    parser.add_argument("--no-conditions", action="store_true", help="no figures by condition")
    parser.add_argument("scores", help="lines `enroll test score`, in any order")
    parser.add_argument("trials", help="lines `enroll test target|nontarget`")
    args = parser.parse_args()
    config = args.exp / "config.yaml"
    config_sha256 = sha256(config)
    train = read_object(args.exp / "train_info.json")
    trials, scores = read_scored_trials(args.scores, args.trials)
    check_kinds(trials.is_target, args.trials)
    tables = speaker_tables(args.trials, args.utt2spk, args.enroll_utt2spk, args.enroll)
    speakers = known_speakers(trials, args.trials, *tables, required=bool(args.utt2spk or args.enroll_utt2spk))
    fingerprint = origin(args.scores)
    one_model({args.scores: network_of(fingerprint), args.exp / "train_info.json": train.get(KEY)})
    conditions = [] if args.no_conditions or speakers is None else conditions_of(
        trials, args.trials, *tables, cut=args.duration != "full")
    figures = evaluation(scores, trials.is_target, args.eer_definition, args.llr, speakers)
    if speakers is not None and conditions:
        figures["conditions"] = by_condition(scores, trials.is_target, speakers, conditions, args.eer_definition,
                                             args.llr)
    row = {
        "list": args.list, "data_set": args.data_set, "trials": args.trials, "trials_sha256": sha256(args.trials),
        "num_trials": len(scores), "num_target": int(trials.is_target.sum()),
        "protocol": args.protocol, "duration": args.duration,
        "crop": "none" if args.duration == "full" else args.crop or "test side, centre",
        "enroll": args.enroll or str(Path(args.trials).parent), "backend": args.backend,
        **figures, **({KEY: fingerprint} if fingerprint else {}), "scores_sha256": sha256(args.scores),
        "config": str(config), "config_sha256": config_sha256, "train": train, **stamp(),
    }
    row[OWN] = row_sha256(row)
    write_lines(f"{args.scores}.json", [json.dumps(row, indent=2, ensure_ascii=False)])
    print(f"{args.scores}: {summary(row)}")
    if "warning" in row:
        warn(args.scores, row["warning"])


if __name__ == "__main__":
    run_main(main)
