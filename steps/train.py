#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train a system, one process per GPU (or on the CPU), from the newest checkpoint of an earlier run if there is one.

steps/torchrun.py --standalone --nproc-per-node 4 steps/train.py --config conf/rawnext.yaml --train data/train \\
    --dev data/dev --banks data exp/rawnext

Exit status: 0 success; 1 an error; 75 stopped by SIGTERM with its state saved, run it again.
"""

import argparse
import contextlib
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from rawnext.errors import EXIT_AGAIN, EXIT_FAULT, ArgumentParser, InputError, as_input_error, run_main
from rawnext.files import read_object
from rawnext.identity import KEY
from rawnext.log import setup_log


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="", help="YAML files, separated by spaces; later ones take precedence")
    parser.add_argument("--set", default="", metavar="KEY=VALUE...", help="overriding options: 'optim.lr=5e-4 seed=2'")
    parser.add_argument("--init", default="", metavar="EXP", help="trained experiment to start from (`pretrained`: the "
                        "model of the package): its model (a model in --config must be the same), and its losses' "
                        "weights if losses and speakers are the same; ignored if this experiment has checkpoints")
    parser.add_argument("--teacher", default="", metavar="SCP", help="embeddings of another network, by utt or "
                        "speaker, that this one learns to predict, with weight train.teacher_weight")
    parser.add_argument("--check", action="store_true", help="check the configuration, build the model, and stop")
    parser.add_argument("--train", default="data/train", help="data directory with cuts.jsonl")
    parser.add_argument("--dev", default="", help="data directory of held-out speakers, with trials; empty: none")
    parser.add_argument("--banks", default="data", help="folder with musan_noise, musan_music, musan_speech, rirs")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="cuda: a GPU for each "
                        "process, or an error; auto (default): GPUs if there are any")
    parser.add_argument("--num-workers", type=int, default=2, help="data workers per process (default 2)")
    parser.add_argument("--num-threads", type=int, default=0, help="CPU threads per process; 0: torch's default")
    parser.add_argument("exp", type=Path, help="experiment folder")
    return parser.parse_args()


def main() -> None:
    args = parse()
    import torch

    from rawnext.config import model_folder
    from rawnext.data.cuts import CutTable
    from rawnext.data.manifest import check_tables
    from rawnext.dist import choose_device, cleanup, init_process_group, is_main
    from rawnext.training.augment import needed_banks
    from rawnext.training.checkpoint import fingerprint, load_weights
    from rawnext.training.info import write_info
    from rawnext.training.lock import lock_folder
    from rawnext.training.precision import describe
    from rawnext.training.preemption import Preempted
    from rawnext.training.system import load_system
    from rawnext.training.task import build_task
    from rawnext.training.trainer import Trainer

    setup_log()
    args.init = args.init and str(model_folder(args.init))
    with as_input_error("--set"):
        overrides = shlex.split(args.set)
    config = load_system(args.config.split(), overrides, args.init)
    if args.check:
        task = build_task(config, config.batch.speakers)
        if args.init:
            load_weights(task.model, args.init)
        return
    if args.init and Path(args.init).resolve() == args.exp.resolve():
        raise InputError(args.init, None, "training cannot start from its own folder; give another one")
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    device = choose_device(args.device)
    init_process_group(device, config.train.timeout_minutes)
    if is_main():
        logging.info(describe(config, device))
    table = CutTable(args.train)
    check_tables(table, args.train)
    banks = {name: CutTable(Path(args.banks) / name) for name in sorted(needed_banks(config.augment))}
    with contextlib.ExitStack() as closing:
        if is_main():
            closing.enter_context(lock_folder(args.exp / "checkpoints"))
        validate = None
        if args.dev:
            validate = Validator(args.dev, config.extract, args.num_workers, config.train.timeout_minutes)
            closing.callback(validate.close)
        started = time.time()
        trainer = Trainer(config, table, banks, args.exp, device, args.num_workers, validate, args.init,
                          args.teacher)
        try:
            trained = trainer.run()
        except Preempted:
            sys.exit(EXIT_AGAIN)
        info, model = args.exp / "train_info.json", fingerprint(config, trainer.trained().state_dict())
        if is_main() and (trained or not info.exists() or read_object(info).get(KEY, model) != model):
            write_info(args.exp, trainer.trained(), config, **trainer.origin(), seed=config.seed, epochs=trainer.epoch,
                       steps=trainer.step, seconds=round(sum(row["seconds"] for row in trainer.history)),
                       last_run_seconds=round(time.time() - started), processes=trainer.world,
                       num_threads=torch.get_num_threads(), init=trainer.init,
                       num_speakers=len(table.speakers), num_utts=len(table), bad_utts=trainer.num_bad)
            print(f"train.py: wrote {args.exp}/model.pt, train_info.json", file=sys.stderr)
    cleanup()


class Waves:
    """The waveforms of sources, as items of a data set; an error is returned, so that a worker keeps its type."""

    def __init__(self, sources):
        self.sources = sources

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, item: int):
        import torch

        from rawnext.data.wav import load_wave

        source = self.sources[item]
        try:
            return source.utt, torch.from_numpy(load_wave(source))
        except InputError as error:
            return source.utt, error


class Validator:
    """A function model -> {"eer_dev": %, "min_dcf_dev": minDCF at P_target 0.05} on a data directory's trials.

    Every process must call it. Each embeds a share of the utterances; the main one scores the trials, and the others
    return {}.

    The data workers start here and stay until `close`. Started later, during training, they could hang with Python
    3.11: one of gloo's threads may hold the interpreter's lock of thread states during the fork.
    """

    def __init__(self, dev: str, config, num_workers: int, timeout_minutes: float = 0):
        from rawnext.data.wav import check_sources, read_sources
        from rawnext.dist import is_main, rank_world
        from rawnext.kaldi.tables import indices_of, read_trials
        from rawnext.training.dataset import epoch_loader

        self.config, self.sources = config, read_sources(dev)
        if is_main():
            check_sources(self.sources)
        row_of = {source.utt: row for row, source in enumerate(self.sources)}
        path = Path(dev) / "trials"
        self.trials = read_trials(path)
        self.enroll, self.test = (indices_of(side, row_of, path, f"{dev}/wav.scp") for side in self.trials[:2])
        rank, world = rank_world()
        self.own = range(rank, len(self.sources), world)
        waves: Any = Waves([self.sources[row] for row in self.own])
        self.loader = epoch_loader(waves, num_workers, items=range(len(waves)), timeout_minutes=timeout_minutes)
        if num_workers:
            iter(self.loader)

    def waves(self):
        for utt, wave in self.loader:
            if isinstance(wave, InputError):
                raise wave
            yield utt, wave.numpy()

    def __call__(self, model) -> dict[str, float]:
        import torch

        from rawnext.dist import is_main, sum_over_processes
        from rawnext.inference.extract import device_of, embed_all
        from rawnext.scoring.cosine import cosine_scores
        from rawnext.scoring.metrics import eer, min_dcf

        embeddings = torch.zeros(len(self.sources), model.embedding_dim)
        for row, (_, vector) in zip(self.own, embed_all(model, self.waves(), "native", self.config)):
            embeddings[row] = torch.from_numpy(vector)
        x = sum_over_processes(embeddings.to(device_of(model))).cpu().numpy()
        if not is_main():
            return {}
        scores = cosine_scores(x, x, self.enroll, self.test)
        sides = scores[self.trials.is_target], scores[~self.trials.is_target]
        return {"eer_dev": 100 * eer(*sides), "min_dcf_dev": min_dcf(*sides, p_target=0.05)}

    def close(self) -> None:
        """End the data workers, which ignore SIGTERM: without it, this process would wait for them at its end."""
        del self.loader


if __name__ == "__main__":
    run_main(main, fault_code=EXIT_FAULT if "TORCHELASTIC_RUN_ID" in os.environ else 1)
