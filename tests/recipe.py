# SPDX-License-Identifier: Apache-2.0
"""Run a recipe in a folder of its own, so that it writes nothing into the checkout."""

import os
import subprocess
from pathlib import Path

from programs import forking


def place_recipe(root: Path, name: str, folder: Path) -> dict[str, str]:
    """Link egs/NAME/run.sh and all that it uses into `folder`; returns the environment to start it in."""
    folder.mkdir(exist_ok=True)
    for source in (root / "egs" / name).iterdir():
        if source.name in ("run.sh", "pack", "path.sh", "cmd.sh", "conf", "local", "steps", "utils") and not (
                folder / source.name).exists():
            (folder / source.name).symlink_to(source.resolve())
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAWNEXT_COMMAND")}


def run_recipe(root: Path, name: str, folder: Path, *options) -> subprocess.CompletedProcess:
    """Run egs/NAME/run.sh with these options in `folder`."""
    env = forking(place_recipe(root, name, folder))
    return subprocess.run(["./run.sh", *map(str, options)], cwd=folder, env=env, capture_output=True, text=True,
                          timeout=500)
