#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time of a training step of several systems, alternately in one run, so that other load affects all of them.

bench/step_time.py conf/small/rawnext.yaml conf/small/resnext.yaml

Prints parameters, GMACs per utterance and CPU seconds per step (forward, backward, optimiser), the minimum over the
rounds, in one thread, on random waveforms of the configuration's batch and crop, without reading or augmentation.
"""

import time

from rawnext.errors import ArgumentParser, run_main

SPEAKERS = 113  # classes of the losses, as in egs/speechocean762


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each system (default 5)")
    parser.add_argument("config", nargs="+", help="YAML files, one per system")
    args = parser.parse_args()

    import torch

    from bench.training import Step
    from rawnext.config import load_config
    from rawnext.stamp import stamp
    from rawnext.training.info import COUNTED_SAMPLES, gmacs

    torch.set_num_threads(1)
    systems: list[tuple[str, Step, list[float]]] = []
    for path in args.config:
        config = load_config([path])
        systems.append((path, Step(config, config.batch.speakers * config.batch.utts, speakers=SPEAKERS), []))
    for _ in range(args.rounds):
        for _, step, times in systems:
            began = time.process_time()
            step()
            times.append(time.process_time() - began)
    print(f"{stamp()['hardware']}, 1 thread, torch {torch.__version__}, commit {stamp()['commit']}")
    print(f"| system | parameters | GMACs of {COUNTED_SAMPLES / 16000:.2f} s | batch | CPU s per step |")
    print("| --- | ---: | ---: | --- | ---: |")
    for path, step, times in systems:
        model = step.task.get_submodule("model")
        num = sum(p.numel() for p in model.parameters())
        shape = " x ".join(map(str, step.wave.shape))
        print(f"| {path} | {num:,} | {gmacs(model):.3f} | {shape} | {min(times):.2f} |")


if __name__ == "__main__":
    run_main(main)
