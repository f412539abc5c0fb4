#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draw the pictures of the documentation again, from the network's code and from the results' tables.

docs/figures/draw.py                  # into docs/figures, where the pages look for them
docs/figures/draw.py --out /elsewhere
"""

import argparse
from pathlib import Path

from rawnext.errors import run_main

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "egs/speechocean762/RESULTS.md"
SYSTEMS = ("rawnext", "resnext", "rawnet2", "ecapa_tdnn", "next_tdnn", "resnet34", "mel_lda")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the pictures (default: docs/figures)")
    draw_all(parser.parse_args().out)


def draw_all(out: Path) -> None:
    """Write block.svg, network.svg and durations.svg."""
    import torch
    from durations import draw_durations, read_rows
    from model import draw_block, draw_network
    from walk import branch_steps, stages

    from rawnext.models import MODELS
    from rawnext.training.info import COUNTED_SAMPLES

    with torch.device("meta"):     # shapes are all that is asked of it
        model = MODELS.build("rawnext", {})
    seconds = COUNTED_SAMPLES / 16000
    draw_block(branch_steps(model, COUNTED_SAMPLES), seconds).save(out / "block.svg")
    draw_network(stages(model, COUNTED_SAMPLES), seconds).save(out / "network.svg")
    draw_durations(read_rows(RESULTS, "test, trials (native, cosine)"), SYSTEMS).save(out / "durations.svg")


if __name__ == "__main__":
    run_main(main)
