# SPDX-License-Identifier: Apache-2.0
"""The training loop: one module that holds model and losses, one DistributedDataParallel around it.

A run is a function of its configuration and data: batches and augmentation are drawn from (seed, epoch, utt), and a
checkpoint holds the rest. So a run that was killed continues to the losses of one that was not.
"""

import contextlib
import json
import logging
import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rawnext.config import Config
from rawnext.data.cuts import CutTable
from rawnext.dist import barrier, is_main, mean_over_processes, rank_world, sync_batchnorm
from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.log import progress
from rawnext.training import checkpoint
from rawnext.training.dataset import EpochDataset, epoch_loader, to_device
from rawnext.training.optim import build_optimizer, learning_rate, margin_share
from rawnext.training.preemption import Preempted, StopRequest
from rawnext.training.task import build_task

log = logging.getLogger(__name__)

COLUMNS = ("epoch", "step", "loss", "acc", "lr", "eer_dev", "min_dcf_dev", "seconds", "utts_per_s", "data_wait",
           "bad_utts")


class Trainer:
    """Trains config's system on `table` into the folder `exp`.

    Args:
        banks: noise and room recordings, by the names that the augmentation asks for.
        validate: called with the model after each epoch on the main process; its dict joins the epoch's row.
        num_workers: data workers of this process.   device: of this process.
        init: folder of the trained experiment to start from; empty: from new weights.
    """

    def __init__(self, config: Config, table: CutTable, banks: Mapping[str, CutTable], exp: Path, device: torch.device,
                 num_workers: int = 0, validate=None, init: str = ""):
        self.config, self.table, self.banks, self.exp, self.device = config, table, banks, exp, device
        self.num_workers, self.validate, self.init = num_workers, validate, init
        self.rank, self.world = rank_world()
        self.speakers = [str(s) for s in table.speakers]
        torch.manual_seed(config.seed)
        self.task = build_task(config, len(table.speakers)).to(device)
        if config.train.sync_batchnorm and self.world > 1:
            sync_batchnorm(self.task)
        self.optimizer = build_optimizer(self.task, config.optim)
        self.amp = amp_type(config.train.amp, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp == torch.float16)
        # about the stride of dimensions of size 1, which is no matter
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self.parallel = DistributedDataParallel(self.task) if self.world > 1 else self.task
        self.epoch = self.step_in_epoch = self.step = self.drawn = self.num_bad = 0
        self.fresh = [0, 0]  # drawn and bad on this process since the processes last compared
        self.history: list[dict[str, Any]] = []
        self.sums = new_sums()
        self.writer: Any = None
        self.stop: StopRequest

    def run(self) -> bool:
        """Train to the end, from the newest checkpoint if there is one, else from `init`.

        Returns: whether anything was left to do.
        Raises: Preempted: SIGTERM came; the steps done are saved.
        """
        if (state := checkpoint.load_newest(self.exp / "checkpoints")) is not None:
            self.restore(state)
        elif self.init:
            self.task.initialise(self.init, self.speakers)
        if self.is_finished():
            log.info("%s: trained before, to its last epoch %d", self.exp / "model.pt", self.epoch)
            return False
        self.writer = open_tensorboard(self.exp, self.step) if is_main() else None
        with StopRequest(self.device) as self.stop:
            try:
                while self.epoch < self.config.train.epochs:
                    self.run_epoch()
            except Preempted:
                log.warning("asked to end by SIGTERM: saved epoch=%d step=%d", self.epoch + 1, self.step_in_epoch)
                raise
        if is_main():
            checkpoint.save(self.exp / "model.pt", {
                "model": self.task.model.state_dict(), "losses": self.task.heads(), "speakers": self.speakers,
                "epoch": self.epoch, "step": self.step})
            log.info("wrote %s", self.exp / "model.pt")
        return True

    def is_finished(self) -> bool:
        """Is model.pt the end of this very training?"""
        if self.epoch < self.config.train.epochs or not (self.exp / "model.pt").exists():
            return False
        try:
            return checkpoint.load(self.exp / "model.pt")["step"] == self.step
        except InputError as error:
            log.warning("%s; it is written again", error)
            return False

    def run_epoch(self) -> None:
        data = EpochDataset(self.table, self.config, self.banks, self.epoch, self.rank, self.world, self.step_in_epoch)
        if not data.num_steps:
            raise InputError(self.table.path, None,
                             f"{len(self.table.speakers)} speakers with {self.config.batch.utts} utterances or more do "
                             f"not fill a batch of {self.config.batch.speakers}; lower batch.speakers")
        self.parallel.train()
        bar = progress(total=data.num_steps, initial=self.step_in_epoch, desc=f"epoch {self.epoch + 1}", unit="step")
        clock = time.monotonic()
        for batch in epoch_loader(data, self.num_workers):
            waited = time.monotonic() - clock
            self.run_step(batch, data.num_steps)
            self.account(batch, waited, time.monotonic() - clock)
            bar.update()
            last = self.step_in_epoch == data.num_steps
            if self.step % self.config.train.log_every == 0 or last:
                self.log_step(data.num_steps)
            if (asked := self.stop.heard()) or (self.step % self.config.train.save_every == 0 and not last):
                self.gather()
                self.save()
            if asked:
                barrier()  # nobody ends, and so ends the others, before all is saved
                raise Preempted
            clock = time.monotonic()
        bar.close()
        self.end_epoch()

    def run_step(self, batch: dict[str, Any], steps_per_epoch: int) -> None:
        self.set_rates(steps_per_epoch)
        wave, label = to_device(batch, self.device)
        with torch.autocast(self.device.type, self.amp) if self.amp else contextlib.nullcontext():
            loss, acc = self.parallel(wave, label)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.config.optim.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.parameters(), self.config.optim.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.sums["loss"] += loss.detach().double()  # stays on the device: nothing waits for it before it is logged
        self.sums["acc"] += acc.detach().double()
        self.step += 1
        self.step_in_epoch += 1

    def set_rates(self, steps_per_epoch: int) -> None:
        epochs_done = self.epoch + self.step_in_epoch / steps_per_epoch
        lr = learning_rate(self.step, epochs_done, self.config.train.epochs, self.config.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.task.set_margin(margin_share(epochs_done, self.config.train))

    def lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def account(self, batch: dict[str, Any], waited: float, seconds: float) -> None:
        """Count the step; stop the run when too much of the data is bad."""
        self.sums["steps"] += 1
        self.sums["seconds"] += seconds
        self.sums["waited"] += waited
        self.sums["utts"] += len(batch["label"])
        for why in batch["bad"]:
            log.warning("bad audio, replaced: %s", why)
        self.fresh = [self.fresh[0] + len(batch["label"]), self.fresh[1] + len(batch["bad"])]
        drawn, bad = self.drawn + self.fresh[0], self.num_bad + self.fresh[1]
        limit = self.config.train.max_bad_fraction
        if bad > max(limit * drawn, 10 if limit else 0):  # ten in the first steps do not end a run
            raise InputError(self.table.path, None,
                             f"{bad} of {drawn} utterances drawn could not be read, more than "
                             f"train.max_bad_fraction {limit}; the last: {(batch['bad'] or ['-'])[-1]}")

    def gather(self) -> None:
        """Make loss, accuracy and the count of bad utterances those of all processes, which must all call this.

        Raises: InputError: the loss is no number; so no checkpoint is written behind such a step.
        """
        values = [float(self.sums["loss"]), float(self.sums["acc"]), *map(float, self.fresh)]
        loss, acc, drawn, bad = mean_over_processes(values, self.device)
        if not math.isfinite(loss):
            raise InputError(self.exp, None, f"the loss is {loss} at step {self.step}: lower optim.lr, or set "
                                             "optim.clip_norm; the checkpoint before is kept")
        self.sums["loss"], self.sums["acc"], self.fresh = loss, acc, [0, 0]
        self.drawn, self.num_bad = self.drawn + round(drawn * self.world), self.num_bad + round(bad * self.world)

    def log_step(self, steps_per_epoch: int) -> None:
        row = self.means()
        if not is_main():
            return
        log.info("epoch=%d step=%d/%d loss=%.4f acc=%.3f lr=%.2e utts_per_s=%.1f data_wait=%.3f bad=%d", self.epoch + 1,
                 self.step_in_epoch, steps_per_epoch, row["loss"], row["acc"], self.lr(), row["utts_per_s"],
                 row["data_wait"], self.num_bad)
        for name in ("loss", "acc", "utts_per_s", "data_wait"):
            self.writer.add_scalar(name, row[name], self.step)
        self.writer.add_scalar("lr", self.lr(), self.step)

    def means(self) -> dict[str, float]:
        """What the epoch has been so far: loss and accuracy are means over the processes, times this process's."""
        self.gather()
        s = self.sums
        return {"loss": s["loss"] / s["steps"], "acc": s["acc"] / s["steps"], "seconds": s["seconds"],
                "utts_per_s": self.world * s["utts"] / s["seconds"], "data_wait": s["waited"] / s["seconds"]}

    def end_epoch(self) -> None:
        row: dict[str, Any] = {**self.means(), "epoch": self.epoch + 1, "step": self.step, "lr": self.lr(),
                               "bad_utts": self.num_bad}
        if self.validate and is_main():
            self.save()  # a run that ends while it validates has lost no step
            with self.stop.leaving_at_once():
                row.update(self.validation())
        self.epoch, self.step_in_epoch, self.sums = self.epoch + 1, 0, new_sums()
        self.history.append(row)
        if is_main():
            write_lines(self.exp / "train.tsv", ["\t".join(COLUMNS), *map(format_row, self.history)])
        self.save()

    def validation(self) -> dict[str, float]:
        self.task.eval()
        found = self.validate(self.task.model)
        log.info("epoch=%d %s", self.epoch + 1, " ".join(f"{k}={found[k]:.4g}" for k in ("eer_dev", "min_dcf_dev")))
        self.writer.add_scalar("eer_dev", found["eer_dev"], self.step)
        return found

    def save(self) -> None:
        if is_main():
            checkpoint.save_step(self.exp / "checkpoints", self.step, self.state(), self.config.train.keep)

    def state(self) -> dict[str, Any]:
        """All that the run's future depends on."""
        return {"task": self.task.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(), "epoch": self.epoch, "step": self.step,
                "step_in_epoch": self.step_in_epoch, "drawn": self.drawn, "num_bad": self.num_bad,
                "sums": self.sums, "history": self.history,
                "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
                "speakers": self.speakers, "init": self.init,
                "num_utts": len(self.table), "config": json.dumps(self.plan())}

    def plan(self) -> dict[str, Any]:
        """What must not change between a checkpoint and its continuation."""
        c = self.config
        return {"model": c.model, "losses": c.losses, "augment": c.augment, "seed": c.seed, "batch": vars(c.batch),
                "crop": vars(c.crop), "optim": vars(c.optim), "epochs": c.train.epochs}

    def restore(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's state.

        Raises: InputError: it belongs to another configuration or to other data.
        """
        if (then := json.loads(state["config"])) != (now := json.loads(json.dumps(self.plan()))):
            changed = [key for key in now if now[key] != then[key]]
            raise InputError(self.exp, None, f"has checkpoints with another {', '.join(changed)}; take another "
                                             "experiment name, or delete its checkpoints to start again")
        if state["speakers"] != self.speakers or state["num_utts"] != len(self.table):
            raise InputError(self.exp, None, f"has checkpoints of other training data than {self.table.path}")
        began = state.get("init", "")
        if self.init:
            log.info("--init %s is ignored: this training continues, which began from %s", self.init,
                     began or "new weights")
        self.init = began
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"][0])
        if len(state["random"]) == 1 + torch.cuda.device_count():  # else it continues on other hardware
            torch.cuda.set_rng_state_all(state["random"][1:])
        for name in ("epoch", "step", "step_in_epoch", "drawn", "num_bad", "sums", "history"):
            setattr(self, name, state[name])
        log.info("at epoch=%d step=%d", self.epoch + 1, self.step_in_epoch)


def new_sums() -> dict[str, Any]:
    return dict.fromkeys(("loss", "acc", "steps", "seconds", "waited", "utts"), 0.0)


def format_row(row: dict[str, Any]) -> str:
    """A row of train.tsv; an empty cell for what was not measured."""
    return "\t".join("" if (v := row.get(c)) is None else f"{v:.6g}" for c in COLUMNS)


def amp_type(name: str, device: torch.device) -> torch.dtype | None:
    """Type of the mixed precision that a configuration asks for on a device."""
    if name == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def open_tensorboard(exp: Path, step: int):
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(exp / "tensorboard"), purge_step=step)
