#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the data directories of speechocean762: DATA/train, DATA/dev (held-out training speakers) and DATA/test.

  local/speechocean762/prepare_speechocean762.py /corpora/speechocean762 data --dev-speakers 12

Reads {train,test}/{wav.scp,utt2spk,spk2gender} of the corpus; utt ids become SPK-UTT, as Kaldi's sorting requires.
"""

import argparse
from pathlib import Path

from rawnext.data.manifest import Utterance, check_bad, hold_out_speakers, scan_audio, write_data_dir
from rawnext.errors import InputError, run_main
from rawnext.kaldi.tables import read_table
from rawnext.log import setup_log


def scan_set(corpus: Path, name: str, list_path: Path, num_jobs: int) -> list[Utterance]:
    """The utterances of the training or test set."""
    scp = corpus / name / "wav.scp"
    spk_of = read_table(corpus / name / "utt2spk", one_word=True)
    files = []
    for line, (utt, path) in enumerate(read_table(scp).items(), 1):
        if utt not in spk_of:
            raise InputError(scp, line, f"{utt} is not in utt2spk")
        files.append((f"{spk_of[utt]}-{utt}", spk_of[utt], str(corpus / path)))
    utterances, bad = scan_audio(files, num_jobs)
    check_bad(bad, len(files), list_path)
    return utterances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder with train, test and WAVE")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--dev-speakers", type=int, default=12,
                        help="training speakers held out for validation (default: 12)")
    parser.add_argument("--seed", type=int, default=1, help="seed of their choice (default: 1)")
    parser.add_argument("--nj", type=int, default=2, help="parallel processes (default: 2)")
    args = parser.parse_args()
    setup_log()
    for name in ("train", "test"):
        if not (args.corpus / name / "wav.scp").is_file():
            raise InputError(args.corpus, None, f"no {name}/wav.scp; speechocean762 is at "
                                                "https://www.openslr.org/101/")
    genders = {spk: gender for name in ("train", "test")
               for spk, gender in read_table(args.corpus / name / "spk2gender", one_word=True).items()}
    bad = args.data / "bad_audio.tsv"
    sets = {"test": scan_set(args.corpus, "test", bad, args.nj)}
    train = scan_set(args.corpus, "train", bad, args.nj)
    sets["train"], sets["dev"] = hold_out_speakers(train, args.dev_speakers, args.seed)
    for name, utterances in sets.items():
        write_data_dir(utterances, args.data / name, genders)


if __name__ == "__main__":
    run_main(main)
