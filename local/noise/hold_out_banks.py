#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Move half of the noises and rooms of DATA to OUT, for a noisy test set that training never hears.

  local/noise/hold_out_banks.py data data/noisy_banks

Takes every second file of DATA/musan_noise and every second room of DATA/rirs. A room is the id up to its last hyphen;
if all responses are of one room, every second response is taken.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rawnext.data.manifest import Utterance, check_bad, scan_audio, write_data_dir
from rawnext.errors import InputError, run_main
from rawnext.kaldi.tables import read_table
from rawnext.log import setup_log


def every_second(utterances: Sequence[Utterance], by_room: bool) -> set[str]:
    """The ids to hold out.   utterances: sorted by id."""
    rooms = sorted({u.utt.rpartition("-")[0] for u in utterances})
    if by_room and len(rooms) > 1:
        held = set(rooms[1::2])
        return {u.utt for u in utterances if u.utt.rpartition("-")[0] in held}
    return {u.utt for u in utterances[1::2]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the data directories musan_noise and rirs")
    parser.add_argument("out", type=Path, metavar="OUT")
    args = parser.parse_args()
    setup_log()
    for name in ("musan_noise", "rirs"):
        scp = args.data / name / "wav.scp"
        files = [(utt, utt, path) for utt, path in sorted(read_table(scp).items())]
        utterances, bad = scan_audio(files, 1)
        check_bad(bad, len(files), args.out / f"bad_audio_{name}.tsv")
        held = every_second(utterances, name == "rirs")
        if not held:
            raise InputError(scp, None, "one file cannot be divided between training and test")
        write_data_dir([u for u in utterances if u.utt in held], args.out / name)
        write_data_dir([u for u in utterances if u.utt not in held], args.data / name)


if __name__ == "__main__":
    run_main(main)
