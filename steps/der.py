#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Diarization error rate of an RTTM file, for each recording and in total.

steps/der.py --collar 0.25 data/meetings/ref.rttm exp/meetings.rttm

As NIST's md-eval.pl: the share of the reference's speech that is missed, false alarms, and time of wrong speakers.
Recordings that the reference does not name are an error; those that only it names are missed.
"""

import json
from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, run_main


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--collar", type=float, default=0, metavar="S",
                        help="do not score S seconds before and after each start and end of the reference (default: 0)")
    parser.add_argument("--ignore-overlap", action="store_true", help="score only the time of one speaker or none")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each recording, and the total")
    parser.add_argument("reference", type=Path, metavar="REF.RTTM")
    parser.add_argument("hypothesis", type=Path, metavar="HYP.RTTM")
    args = parser.parse_args()
    from rawnext.kaldi.rttm import read_rttm
    from rawnext.scoring.der import Errors, diarization_errors

    if not 0 <= args.collar < 60:
        raise InputError("--collar", None, "want 0 to 60 seconds")
    reference, hypothesis = read_rttm(args.reference), read_rttm(args.hypothesis)
    if unknown := [name for name in hypothesis if name not in reference]:
        raise InputError(args.hypothesis, None, f"{unknown[0]} is not in {args.reference}")
    rows = {name: diarization_errors(turns, hypothesis.get(name, []), args.collar, args.ignore_overlap)
            for name, turns in reference.items()}
    total = Errors(*map(sum, zip(*rows.values())))
    if total.total == 0:
        raise InputError(args.reference, None, "has no speech that is scored")
    if not args.json:
        print("recording DER % missed % false alarm % confusion % speech s")
    for name, errors in {**rows, "TOTAL": total}.items():
        parts = errors.missed, errors.false_alarm, errors.confusion
        rates = [100 * part / errors.total if errors.total else 0.0 for part in (sum(parts), *parts)]
        if args.json:
            keys = "der", "missed", "false_alarm", "confusion"
            print(json.dumps({"recording": name, **{key: round(rate, 4) for key, rate in zip(keys, rates)},
                              "seconds": round(errors.total, 3)}))
        else:
            print(name, *(f"{rate:.2f}" for rate in rates), f"{errors.total:.1f}")


if __name__ == "__main__":
    run_main(main)
