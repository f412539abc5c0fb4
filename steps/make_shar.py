#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Copy the audio of a data directory to large tar files (Lhotse Shar), for training from a network file system.

  steps/make_shar.py data/train shar/train

OUT is a data directory whose wav.scp and cuts.jsonl have TAR:OFFSET in place of files: `steps/train.py --train OUT`
draws the same crops as from DATA. OUT/shar is a Shar directory (`lhotse.CutSet.from_shar(in_dir="OUT/shar")`). Samples
are 16-bit, at the rate of the files; an interrupted export continues. If DATA is itself a Shar directory, such as one
of `lhotse shar export`, only the tables are made, for the tar files where they are.
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, run_main
from rawnext.log import setup_log

UTTS = 5000  # a shard of VoxCeleb2 is 0.7 GB of FLAC


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=("flac", "wav"), default="flac", help="wav is read without a decoder and "
                        "takes twice the space (default: flac)")
    parser.add_argument("--shard-utts", type=int, default=UTTS, help="utterances in a tar file; a process keeps "
                        f"256 of them open (default: {UTTS})")
    parser.add_argument("--nj", type=int, default=2, help="parallel processes (default: 2)")
    parser.add_argument("data_dir", metavar="DATA", type=Path, help="data directory with cuts.jsonl, or Shar directory")
    parser.add_argument("out_dir", metavar="OUT", type=Path, help="new data directory")
    args = parser.parse_args()
    if args.shard_utts < 1:
        parser.error("--shard-utts: want at least 1")
    if args.data_dir.resolve() == args.out_dir.resolve():
        parser.error("OUT must not be DATA")
    setup_log()
    from rawnext.data.cuts import INDEX, CutTable
    from rawnext.data.manifest import write_data_dir
    from rawnext.data.shar import is_shar, read_shar, write_shar

    for name in ("cuts.jsonl", INDEX):  # never with the shards of another manifest
        (args.out_dir / name).unlink(missing_ok=True)
    if found := is_shar(args.data_dir):
        folder = args.data_dir
    else:
        folder = args.out_dir / "shar"
        if num_rounded := write_shar(args.data_dir, folder, args.format, args.shard_utts, args.nj):
            print(f"make_shar.py: {num_rounded} utterances are not 16-bit and were rounded, so that their crops differ "
                  "by up to 2^-16")
    utterances, genders = read_shar(folder, args.nj)
    write_data_dir(utterances, args.out_dir, genders)
    if not found and list(CutTable(args.data_dir).utts) != list(CutTable(args.out_dir).utts):
        print(f"make_shar.py: {args.data_dir}/cuts.jsonl is not in Kaldi's order, so that training draws other batches "
              f"from {args.out_dir}")


if __name__ == "__main__":
    run_main(main)
