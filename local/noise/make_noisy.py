#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a noisy copy of a data directory: each utterance with reverberation, then with noise at 0 to 15 dB SNR.

  local/noise/make_noisy.py data/test data data/test_noisy

Utt ids are kept, so the trials of DATA_DIR stay valid (enroll clean, test noisy). Room responses and noises come from
BANKS/rirs and BANKS/musan_noise, drawn for each utterance from the seed and its id. Writes FLAC to OUT_DIR/audio.
"""

import random
from pathlib import Path

import numpy as np
import soundfile

from rawnext.data.cuts import SAMPLE_RATE, CutTable
from rawnext.data.manifest import scan_audio, write_data_dir
from rawnext.data.wav import check_sources, load_wave, read_sources
from rawnext.errors import ArgumentParser, run_main
from rawnext.files import atomic_path
from rawnext.kaldi.tables import read_conditions, read_table
from rawnext.log import progress, setup_log
from rawnext.training.augment import OPERATIONS


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="seed of the draws (default: 1)")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("banks", type=Path, help="folder with the data directories rirs and musan_noise")
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    setup_log()
    sources = read_sources(args.data_dir)
    check_sources(sources)
    spk_of = read_table(args.data_dir / "utt2spk", one_word=True)
    banks = {name: CutTable(args.banks / name) for name in ("rirs", "musan_noise")}
    files = []
    for source in progress(sources, total=len(sources)):
        rng = random.Random(f"{args.seed}-{source.utt}")
        wave = load_wave(source)
        for name in ("reverb", "noise"):
            wave = OPERATIONS[name](wave, rng, banks)
        path = args.out_dir / "audio" / f"{source.utt}.flac"
        with atomic_path(path) as temporary:
            soundfile.write(temporary, wave / max(1.0, np.abs(wave).max()), SAMPLE_RATE, format="FLAC")
        files.append((source.utt, spk_of[source.utt], str(path)))
    write_data_dir(scan_audio(files, 1)[0], args.out_dir, read_table(args.data_dir / "spk2gender", optional=True),
                   read_conditions(args.data_dir))


if __name__ == "__main__":
    run_main(main)
