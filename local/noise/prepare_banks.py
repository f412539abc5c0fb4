#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the data directories musan_noise, musan_music, musan_speech and rirs of MUSAN and RIRS_NOISES for augmentation.

  local/noise/prepare_banks.py --musan /corpora/musan --rirs /corpora/RIRS_NOISES data
  local/noise/prepare_banks.py --synthesise --held-out data/noisy_banks data

Each file is its own speaker. The room responses are RIRS_NOISES's simulated ones, as for the published systems.
--synthesise replaces the corpus that is not given: by synthesise_banks.py, and by DATA/train for babble. --held-out
moves every second noise and every second room to a folder for a noisy test set that training never hears. A room is the
id up to its last hyphen; if all responses are of one room, every second response is taken.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from synthesise_banks import synthesise

from rawnext.data.manifest import Utterance, check_bad, scan_audio, write_data_dir
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.log import setup_log


def find_musan(root: Path) -> dict[str, list[tuple[str, Path]]]:
    """Bank -> (id, path) of each file."""
    found = {f"musan_{kind}": [(path.stem, path) for path in sorted(root.glob(f"{kind}/*/*.wav"))]
             for kind in ("noise", "music", "speech")}
    for bank, files in found.items():
        if not files:
            kind = bank.removeprefix("musan_")
            raise InputError(root, None, f"no {kind}/*/*.wav; MUSAN is at https://www.openslr.org/17/")
    return found


def find_rirs(root: Path) -> list[tuple[str, Path]]:
    """(id, path): simulated_rirs/smallroom/Room001/Room001-00001.wav is smallroom-Room001-00001."""
    paths = sorted(root.glob("simulated_rirs/*/*/*.wav"))
    if not paths:
        raise InputError(root, None, "no simulated_rirs/*/*/*.wav; RIRS_NOISES is at https://www.openslr.org/28/")
    places = [(path, path.parent.parent.name, path.parent.name) for path in paths]
    return [(f"{size}-{path.stem}" if path.stem.startswith(room) else f"{size}-{room}-{path.stem}", path)
            for path, size, room in places]


def every_second(utterances: Sequence[Utterance], by_room: bool) -> set[Utterance]:
    """The utterances to hold out.   utterances: sorted by id."""
    rooms = sorted({u.utt.rpartition("-")[0] for u in utterances})
    if by_room and len(rooms) > 1:
        held = set(rooms[1::2])
        return {u for u in utterances if u.utt.rpartition("-")[0] in held}
    return set(utterances[1::2])


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--musan", default="", help="folder with noise/*/*.wav, music/*/*.wav and speech/*/*.wav")
    parser.add_argument("--rirs", default="", help="RIRS_NOISES")
    parser.add_argument("--synthesise", action="store_true", help="replace those that are not given")
    parser.add_argument("--held-out", type=Path, metavar="OUT", help="folder for half of the noises and rooms")
    parser.add_argument("--nj", type=int, default=4, help="parallel processes (default: 4)")
    parser.add_argument("data", type=Path, metavar="DATA", help="output folder; with --synthesise it has train")
    args = parser.parse_args()
    setup_log()
    files = find_musan(Path(args.musan)) if args.musan else {}
    if args.rirs:
        files["rirs"] = find_rirs(Path(args.rirs))
    banks: dict[str, list[Utterance]] = {}
    if args.synthesise and not (args.musan and args.rirs):
        banks = synthesise(args.data)
        if not args.musan:
            shutil.copytree(args.data / "train", args.data / "musan_speech", dirs_exist_ok=True)
    for name, found in files.items():
        banks[name], bad = scan_audio(((utt, utt, str(path)) for utt, path in found), args.nj)
        check_bad(bad, len(found), args.data / f"bad_audio_{name}.tsv")
    for name, utterances in banks.items():
        if args.held_out and name in ("musan_noise", "rirs"):
            held = every_second(sorted(utterances), name == "rirs")
            if not held:
                raise InputError(args.data / name, None, "one file cannot be divided between training and test")
            write_data_dir(held, args.held_out / name)
            utterances = [u for u in utterances if u not in held]
        write_data_dir(utterances, args.data / name)


if __name__ == "__main__":
    run_main(main)
