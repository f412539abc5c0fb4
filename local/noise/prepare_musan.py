#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make data directories of MUSAN's noise, music and speech for augmentation; each file is its own speaker.

  local/noise/prepare_musan.py /corpora/musan data
"""

import argparse
from pathlib import Path

from rawnext.data.manifest import check_bad, scan_audio, write_data_dir
from rawnext.errors import InputError, run_main
from rawnext.log import setup_log

KINDS = ("noise", "music", "speech")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nj", type=int, default=4, help="parallel processes (default: 4)")
    parser.add_argument("musan", type=Path, help="folder with noise/*/*.wav, music/*/*.wav and speech/*/*.wav")
    parser.add_argument("data", type=Path, help="output folder of musan_noise, musan_music and musan_speech")
    options = parser.parse_args()
    setup_log()
    found = {kind: sorted(options.musan.glob(f"{kind}/*/*.wav")) for kind in KINDS}
    for kind, paths in found.items():
        if not paths:
            raise InputError(options.musan, None, f"no {kind}/*/*.wav; MUSAN is at https://www.openslr.org/17/")
    for kind, paths in found.items():
        utterances, bad = scan_audio(((path.stem, path.stem, str(path)) for path in paths), options.nj)
        check_bad(bad, len(paths), options.data / f"bad_audio_musan_{kind}.tsv")
        write_data_dir(utterances, options.data / f"musan_{kind}")


if __name__ == "__main__":
    run_main(main)
