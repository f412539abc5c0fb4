# SPDX-License-Identifier: Apache-2.0
"""The origin of a result, written with it: code, command, machine and time."""

import datetime
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from rawnext.files import PathLike, readable

ROOT = Path(__file__).resolve().parents[1]


def sha256(path: PathLike) -> str:
    """Hexadecimal SHA-256 of a file.   Raises: InputError: it cannot be read."""
    digest = hashlib.sha256()
    with readable(path), open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def commit(root: Path = ROOT) -> str:
    """Short commit of the code, with `-dirty` if tracked files were changed; `unknown` outside a checkout."""
    if not (root / ".git").exists():  # otherwise git would use a repository further up
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def hardware() -> str:
    """GPUs and processor of this machine, like `NVIDIA A100-SXM4-80GB, AMD EPYC 9654 (16 cores)`."""
    def first(path: Path, key: str) -> str | None:
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        return next((value.strip() for name, _, value in (line.partition(":") for line in lines)
                     if name.strip() == key), None)

    gpus = [first(path, "Model") for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    processor = first(Path("/proc/cpuinfo"), "model name") or os.uname().machine
    return ", ".join([*(gpu for gpu in gpus if gpu), f"{processor} ({len(os.sched_getaffinity(0))} cores)"])


def command() -> str:
    """The environment variable RAWNEXT_COMMAND, or else this program's command line."""
    return os.environ.get("RAWNEXT_COMMAND") or shlex.join(sys.argv)


def stamp() -> dict[str, str]:
    """Commit, command, hardware and date (UTC)."""
    return {"commit": commit(),
            "command": command(),
            "hardware": hardware(),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
