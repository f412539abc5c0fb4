#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the figures of the documentation from the network's code, the results tables and the import rules.

docs/figures/draw.py                  # into docs/figures, where the pages expect them
docs/figures/draw.py --out /elsewhere
"""

import argparse
from pathlib import Path

from rawnext.errors import run_main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "egs/speechocean762/RESULTS.md"
SYSTEMS = ("rawnext", "resnext", "rawnet2", "ecapa_tdnn", "next_tdnn", "resnet34", "mel_lda")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="output folder (default: docs/figures)")
    draw_all(parser.parse_args().out)


def draw_all(out: Path) -> None:
    """Write block.svg, network.svg, durations.svg and packages.svg."""
    import torch
    from durations import draw_durations, read_rows
    from model import draw_block, draw_network
    from packages import draw_packages, read_layers
    from walk import branch_steps, stages

    from rawnext.models import MODELS
    from rawnext.training.info import COUNTED_SAMPLES

    with torch.device("meta"):     # only shapes are needed
        model = MODELS.build("rawnext", {})
    seconds = COUNTED_SAMPLES / 16000
    draw_block(branch_steps(model, COUNTED_SAMPLES), seconds).save(out / "block.svg")
    draw_network(stages(model, COUNTED_SAMPLES), seconds).save(out / "network.svg")
    draw_durations(read_rows(RESULTS, "test, trials (native, cosine)"), SYSTEMS).save(out / "durations.svg")
    draw_packages(read_layers(ROOT / "pyproject.toml")).save(out / "packages.svg")


if __name__ == "__main__":
    run_main(main)
