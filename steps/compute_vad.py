#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write one job's share of the voice activity of a Kaldi data directory: OUT_DIR/vad.JOB.{ark,scp}, vectors of 0 and 1.

steps/compute_vad.py --vad energy --job 1 --num-jobs 4 data/test data/test/vad

One number for each 10 ms, as Kaldi's compute-vad writes for features with snip-edges=false. The options whose names
begin with --vad- are Kaldi's, for --vad energy.
"""

import json
from pathlib import Path

from rawnext.errors import ArgumentParser, run_main
from rawnext.log import setup_log


def main() -> None:
    from rawnext.data.vad import KINDS, SHIFT, Energy, check_kind, speech_frames

    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=int, default=1, help="number of this job, 1 or more (default 1)")
    parser.add_argument("--num-jobs", type=int, default=1, help="number of jobs (default 1)")
    parser.add_argument("--vad", choices=KINDS, default="energy",
                        help="energy: Kaldi's threshold on the energy (default); silero: the network of silero-vad")
    for name, value in Energy()._asdict().items():
        parser.add_argument(f"--vad-{name.replace('_', '-')}", dest=name, type=type(value), default=value,
                            help="option of Kaldi's compute-vad (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each utterance")
    parser.add_argument("--allow-pipes", action="store_true", help="run commands `... |` in wav.scp, if you trust it")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("out_dir", type=Path)
    args = parser.parse_args()
    setup_log()
    from rawnext.data.wav import check_sources, load_waves, read_sources, share_of
    from rawnext.kaldi.ark import write_vectors
    from rawnext.log import progress

    energy = Energy(**{name: getattr(args, name) for name in Energy._fields})
    energy.check()
    check_kind(args.vad)
    sources = share_of(read_sources(args.data_dir, args.allow_pipes), args.job, args.num_jobs, args.data_dir)
    check_sources(sources)
    totals = [0, 0]

    def decisions():
        for utt, wave in progress(load_waves(sources), desc=f"vad.{args.job}", unit="utt", total=len(sources)):
            frames = speech_frames(wave, args.vad, energy)
            totals[:] = totals[0] + len(frames), totals[1] + int(frames.sum())
            if args.json:
                print(json.dumps({"utt": utt, "seconds": len(frames) / 100, "speech": float(frames.sum()) / 100}))
            yield utt, frames

    name = args.out_dir / f"vad.{args.job}"
    write_vectors(f"{name}.ark", f"{name}.scp", decisions(), one_dim=False)
    if not args.json:
        print(f"compute_vad.py: {len(sources)} utterances in {name}.ark, {100 * totals[1] / totals[0]:.1f} % speech of "
              f"{totals[0] * SHIFT / 16000 / 3600:.3f} hours")


if __name__ == "__main__":
    run_main(main)
