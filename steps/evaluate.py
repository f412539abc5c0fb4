#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""EER and minDCF of a score file, written beside it as SCORES.json with all that the figures depend on.

steps/evaluate.py --exp exp/x --list O --data-set vox1_test --protocol paper --duration 2 --backend cosine \\
    exp/x/scores/cosine/vox1_test/trials_O_paper_2s data/vox1_test/trials_O
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rawnext.backend.metrics import eer, min_dcf
from rawnext.stamp import sha256, stamp
from rawnext.tables import InputError, read_scored_trials, run_main, write_lines


def duration(text: str) -> str:
    """`full`, or seconds as in `2`."""
    if text == "full":
        return text
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"want full or seconds, got {text!r}")
    return f"{seconds:g}"


def read_train_info(path: Path) -> dict[str, Any]:
    """What training wrote down about itself (parameters, GMACs, epochs, seconds, ...), or nothing."""
    if not path.exists():
        return {}
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(path, None, "is not JSON") from None
    if not isinstance(info, dict):
        raise InputError(path, None, "want a JSON object")
    return info


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", required=True, type=Path, help="experiment, with config.yaml")
    parser.add_argument("--list", required=True, help="name of the trial list")
    parser.add_argument("--data-set", required=True)
    parser.add_argument("--protocol", required=True, choices=["paper", "native"])
    parser.add_argument("--duration", type=duration, default="full", help="of the test side: full or seconds")
    parser.add_argument("--backend", default="cosine", help="what made the scores: cosine, asnorm, plda...")
    parser.add_argument("--enroll", metavar="DIR", help="data directory of the enroll side (default: that of the trials)")
    parser.add_argument("scores", help="lines `enroll test score`, in any order")
    parser.add_argument("trials", help="lines `enroll test target|nontarget`")
    args = parser.parse_args()

    config = args.exp / "config.yaml"
    config_sha256 = sha256(config)
    train = read_train_info(args.exp / "train_info.json")
    trials, scores = read_scored_trials(args.scores, args.trials)
    target, nontarget = scores[trials.is_target], scores[~trials.is_target]
    for name, side in (("target", target), ("nontarget", nontarget)):
        if not side.size:
            raise InputError(args.trials, None, f"has no {name} trial")
    row = {
        "list": args.list, "data_set": args.data_set, "trials": args.trials, "trials_sha256": sha256(args.trials),
        "num_trials": len(scores), "num_target": len(target), "protocol": args.protocol, "duration": args.duration,
        "crop": "none" if args.duration == "full" else "test side, centre",
        "enroll": args.enroll or str(Path(args.trials).parent), "backend": args.backend,
        "eer": 100 * eer(target, nontarget), "min_dcf_01": min_dcf(target, nontarget, 0.01),
        "min_dcf_05": min_dcf(target, nontarget, 0.05), "config": str(config), "config_sha256": config_sha256,
        "train": train, **stamp(),
    }
    write_lines(f"{args.scores}.json", [json.dumps(row, indent=2, ensure_ascii=False)])
    print(f"{args.scores}: EER {row['eer']:.2f} %, minDCF(0.01) {row['min_dcf_01']:.3f}, "
          f"minDCF(0.05) {row['min_dcf_05']:.3f}")


if __name__ == "__main__":
    run_main(main)
