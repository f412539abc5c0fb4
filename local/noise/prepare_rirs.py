#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a data directory of the room impulse responses of RIRS_NOISES; each file is its own speaker.

  local/noise/prepare_rirs.py /corpora/RIRS_NOISES data

Uses the simulated responses, as the systems of this recipe do in training; --real adds the measured ones.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from rawnext.data.manifest import check_bad, scan_audio, write_data_dir
from rawnext.errors import InputError, run_main
from rawnext.files import read_lines
from rawnext.log import setup_log

REAL = "real_rirs_isotropic_noises"


def simulated(root: Path) -> Iterator[tuple[str, Path]]:
    """(id, path): simulated_rirs/smallroom/Room001/Room001-00001.wav is smallroom-Room001-00001."""
    paths = sorted(root.glob("simulated_rirs/*/*/*.wav"))
    if not paths:
        raise InputError(root, None, "no simulated_rirs/*/*/*.wav; RIRS_NOISES is at https://www.openslr.org/28/")
    for path in paths:
        room, size = path.parent.name, path.parent.parent.name
        yield f"{size}-{path.stem}" if path.stem.startswith(room) else f"{size}-{room}-{path.stem}", path


def real(root: Path) -> Iterator[tuple[str, Path]]:
    """(id, path) from Kaldi's list, whose lines end in RIRS_NOISES/<relative path>."""
    table = root / REAL / "rir_list"
    for number, line in read_lines(table):
        path = root.joinpath(*Path(line.split()[-1]).parts[1:])
        if not path.is_file():
            raise InputError(table, number, f"no such file {path}")
        yield f"real-{path.stem}", path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nj", type=int, default=4, help="parallel processes (default: 4)")
    parser.add_argument("--real", action="store_true", help=f"add the measured responses of {REAL}/rir_list")
    parser.add_argument("rirs", type=Path, help="RIRS_NOISES")
    parser.add_argument("data", type=Path, help="output folder of rirs")
    options = parser.parse_args()
    setup_log()
    files = [*simulated(options.rirs), *(real(options.rirs) if options.real else ())]
    utterances, bad = scan_audio(((utt, utt, str(path)) for utt, path in files), options.nj)
    check_bad(bad, len(files), options.data / "bad_audio_rirs.tsv")
    write_data_dir(utterances, options.data / "rirs")


if __name__ == "__main__":
    run_main(main)
