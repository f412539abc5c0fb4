# SPDX-License-Identifier: Apache-2.0
"""Waiting time of a user: --help of every program, and the first step of a training."""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from bench.input_pipeline import write_corpora
from bench.timing import in_turns

ROOT = Path(__file__).resolve().parents[1]
SPEAKERS = 4  # in a batch, two utterances each; a step of the full model takes 2 to 3 s on a CPU
ROUNDS = 3


def programs() -> list[Path]:
    """Every program that answers --help."""
    found = [path for folder in ("steps", "local", "local/*", "utils", "bench", "egs/*")
             for path in ROOT.glob(f"{folder}/*")
             if path.is_file() and not path.is_symlink() and os.access(path, os.X_OK)]
    return sorted(path for path in found if "--help" in path.read_text() or ".parse_args(" in path.read_text())


def first_step_seconds(folder: str) -> float:
    """From the start of steps/train.py to the log line of the first step: full RawNeXt, noise, RIRs, data workers."""
    began = time.perf_counter()
    words = [sys.executable, f"{ROOT}/steps/train.py", "--config", f"{ROOT}/conf/augment.yaml", "--set",
             f"batch.speakers={SPEAKERS} train.log_every=1", "--train", f"{folder}/train", "--banks", folder,
             f"{folder}/exp{began}"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr is not None
        for line in training.stderr:
            if " step=1/" in line:
                seconds = time.perf_counter() - began
                training.kill()
                return seconds
    raise RuntimeError(f"no first step: exit status {training.returncode}")


def notes() -> list[str]:
    quiet = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL, cwd=ROOT / "egs/mini")
    times = {path: min(in_turns([partial(quiet, [path, "--help"])], ROUNDS)[0]) for path in programs()}
    slowest = max(times, key=lambda program: times[program])
    with tempfile.TemporaryDirectory() as folder:
        write_corpora(Path(folder))
        first = min(first_step_seconds(folder) for _ in range(ROUNDS))
    return [f"--help of {len(times)} programs: {times[slowest]:.2f} s at most ({slowest.relative_to(ROOT)})",
            f"first step of a training: {first:.1f} s after its start (full RawNeXt, {2 * SPEAKERS} utts, 2 workers)"]
