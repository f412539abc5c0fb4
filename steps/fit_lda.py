#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fit the LDA of the baseline without a network (model mel_stats) to a data directory.

steps/fit_lda.py --config conf/small/mel_lda.yaml --train data/train exp/mel_lda

Writes config.yaml, model.pt and train_info.json as steps/train.py does; later stages are the same.
"""

import shlex
import sys
import time
from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, as_input_error, run_main, warn
from rawnext.kaldi.tables import read_table
from rawnext.log import setup_log


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="conf/small/mel_lda.yaml",
                        help="YAML files, separated by spaces (default %(default)s)")
    parser.add_argument("--set", default="", metavar="KEY=VALUE...", help="options that override the files'")
    parser.add_argument("--train", default="data/train",
                        help="data directory with wav.scp and utt2spk (default %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto",
                        help="auto (default): a GPU if available; cuda: an error if there is none")
    parser.add_argument("--num-threads", type=int, default=0, help="CPU threads (default 0: torch's choice)")
    parser.add_argument("exp", type=Path, help="experiment folder to create")
    args = parser.parse_args()

    import numpy as np
    import torch

    from rawnext.config import save_config, split_name
    from rawnext.data.wav import check_sources, load_wave, read_sources
    from rawnext.dist import choose_device
    from rawnext.models import MODELS
    from rawnext.models.mel_stats import MelStats
    from rawnext.scoring.lda import degrees_of_freedom, fit_lda
    from rawnext.training import checkpoint
    from rawnext.training.info import write_info
    from rawnext.training.system import load_system

    setup_log()
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    device = choose_device(args.device)
    with as_input_error("--set"):
        overrides = shlex.split(args.set)
    config = load_system(args.config.split(), overrides)
    with as_input_error(args.config):
        model = MODELS.build(*split_name(config.model))
    if not isinstance(model, MelStats):
        raise InputError(args.config, None, f"model {config.model['name']} is not mel_stats; train it with "
                                            "steps/train.py")
    model.to(device)
    started = time.time()
    sources = read_sources(args.train)
    check_sources(sources)
    table = Path(args.train) / "utt2spk"
    spk_of = read_table(table, one_word=True)
    if missing := [source.utt for source in sources if source.utt not in spk_of]:
        raise InputError(table, None, f"utterance {missing[0]} of wav.scp is missing")
    speaker = np.array([spk_of[source.utt] for source in sources])
    with torch.inference_mode():
        waves = (torch.from_numpy(load_wave(source))[None].to(device) for source in sources)
        x = [model.statistics(wave, None)[0].cpu().numpy() for wave in waves]
    num, dim = len(set(speaker)), len(x[0])
    if (free := degrees_of_freedom(np.stack(x), speaker)) < dim:
        warn(args.train, f"{len(x)} utterances of {num} speakers are too few for LDA of {dim} dimensions: want "
                         f"{dim + num} different ones; its within-speaker variance is known in {free} directions only")
    try:
        mean, projection = fit_lda(np.stack(x), speaker, model.embedding_dim, shrinkage=0.01)
    except ValueError as error:
        raise InputError(args.train, None, f"{error} (model.embedding_dim: {model.embedding_dim})") from None
    model.mean.copy_(torch.from_numpy(mean))
    model.projection.copy_(torch.from_numpy(projection.copy()))
    (args.exp / "model.pt").unlink(missing_ok=True)  # never with another model's configuration
    save_config(config, args.exp / "config.yaml")
    write_info(args.exp, model, config, num_speakers=num, num_utts=len(sources),
               seconds=round(time.time() - started, 1))
    checkpoint.save(args.exp / "model.pt", {"model": model.state_dict()})
    print(f"fit_lda.py: wrote {args.exp}/model.pt, train_info.json", file=sys.stderr)


if __name__ == "__main__":
    run_main(main)
