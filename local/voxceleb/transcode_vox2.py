#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Transcode VoxCeleb2's m4a to 16 kHz mono FLAC with ffmpeg; one of N jobs, which takes every N-th speaker.

  local/voxceleb/transcode_vox2.py --job 1 --num-jobs 16 /corpora/VoxCeleb2 data/vox2_flac

Writes OUT_DIR/id00012/<video>/00001.flac. Finished files are skipped, so run a killed job again. Files that ffmpeg
cannot decode are listed in OUT_DIR/undecodable.JOB.tsv (path, reason). Files in wav or flac format are used in place.
"""

import logging
import shutil
import subprocess
from pathlib import Path

from layout import find_audio, speaker_folders

from rawnext.data.manifest import check_bad
from rawnext.errors import ArgumentParser, InputError, run_main
from rawnext.files import atomic_path
from rawnext.log import progress, setup_log

log = logging.getLogger(__name__)


class Undecodable(Exception):
    """ffmpeg cannot decode a file to its end."""


def transcode(source: str, target: Path) -> None:
    """Write target, complete or not at all.

    Raises: Undecodable: with ffmpeg's reason.   InputError: the file is not the cause (full disk, killed).
    """
    for left in target.parent.glob(f".{target.name}.*.tmp"):  # left by a killed job
        left.unlink()
    with atomic_path(target) as temporary:
        # without -xerror a truncated file gives a shorter FLAC and exit code 0
        command = ["ffmpeg", "-nostdin", "-v", "error", "-xerror", "-y", "-threads", "1", "-i", source,
                   "-map", "0:a:0", "-ac", "1", "-ar", "16000", "-sample_fmt", "s16", "-map_metadata", "-1",
                   "-f", "flac", str(temporary)]
        run = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        reason = "; ".join(dict.fromkeys(run.stderr.split("\n"))).strip("; ") or f"ffmpeg's exit code {run.returncode}"
        if run.returncode < 0 or "No space left" in reason:
            raise InputError(target, None, reason)
        if run.returncode > 0:
            raise Undecodable(reason)


def transcode_all(audio: dict[str, str], out_dir: Path) -> list[tuple[str, str]]:
    """Transcode unfinished files; returns (path, reason) of undecodable ones."""
    bad = []
    for source in progress(audio.values()):
        target = out_dir.joinpath(*Path(source).parts[-3:]).with_suffix(".flac")
        if target.exists():
            continue
        try:
            transcode(source, target)
        except Undecodable as reason:
            bad.append((source, str(reason)))
            log.warning("%s: %s", source, reason)
    return bad


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--job", type=int, default=1, help="number of this job, from 1 (default: 1)")
    parser.add_argument("--num-jobs", type=int, default=1, help="number of jobs (default: 1)")
    parser.add_argument("--max-bad-fraction", type=float, default=0.001,
                        help="maximum share of undecodable files (default: 0.001)")
    parser.add_argument("vox2_root", help="VoxCeleb2")
    parser.add_argument("out_dir", type=Path)
    options = parser.parse_args()
    if not 1 <= options.job <= options.num_jobs:
        parser.error(f"--job {options.job} is not in 1 ... {options.num_jobs}")
    setup_log()
    folders = list(speaker_folders(options.vox2_root).items())[options.job - 1::options.num_jobs]
    audio = {utt: path for utt, path in find_audio(dict(folders)).items() if path.endswith(".m4a")}
    if not audio:
        log.info("%s: no m4a to transcode; wav and flac are read in place", options.vox2_root)
        return
    if not shutil.which("ffmpeg"):
        raise InputError("ffmpeg", None, "not found; VoxCeleb2's m4a needs it (apt-get install ffmpeg)")
    bad = transcode_all(audio, options.out_dir)
    log.info("%d m4a files are FLAC in %s", len(audio) - len(bad), options.out_dir)
    check_bad(bad, len(audio), options.out_dir / f"undecodable.{options.job}.tsv", options.max_bad_fraction)


if __name__ == "__main__":
    run_main(main)
