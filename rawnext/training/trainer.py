# SPDX-License-Identifier: Apache-2.0
"""The training loop: one module that holds model and losses, one DistributedDataParallel around it.

A run is a function of its configuration and data: batches and augmentation are drawn from (seed, epoch, utt), and a
checkpoint holds the rest of the state. So a run that was killed and continued has the losses of an uninterrupted one.
"""

import contextlib
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from rawnext.config import Config, load_config, save_config
from rawnext.data.cuts import CutTable
from rawnext.data.speed import with_copies
from rawnext.dist import (
    barrier,
    broadcast_buffers,
    gather_generators,
    is_main,
    mean_over_processes,
    rank_world,
    restore_generators,
    sync_batchnorm,
)
from rawnext.errors import InputError
from rawnext.files import write_lines
from rawnext.log import progress
from rawnext.stamp import command, commit, sha256
from rawnext.training import checkpoint
from rawnext.training.dataset import EpochDataset, TrainingLoader, fit_batch, report_undrawn, to_device
from rawnext.training.optim import build_optimizer, follow, learning_rate, margin_share
from rawnext.training.precision import amp_type, describe, set_gpu_options
from rawnext.training.preemption import SAVE, STOP, Preempted, StopRequest
from rawnext.training.scalars import Scalars, check_wandb
from rawnext.training.task import build_task
from rawnext.training.teacher import read_teacher

log = logging.getLogger(__name__)

COLUMNS = ("epoch", "step", "loss", "acc", "lr", "eer_dev", "min_dcf_dev", "seconds", "utts_per_s", "data_wait",
           "bad_utts")
SCHEMA = 2  # of checkpoints
# Options of `train` that change the result; the others change its speed, rounding or log, and are recorded for each run
FIXED = ("epochs", "average", "ema", "accumulate", "sync_batchnorm", "margin_from", "margin_full", "teacher_weight")
SUMS = dict.fromkeys(("loss", "acc", "steps", "seconds", "waited", "utts"), 0.0)  # of an epoch so far


class Trainer:
    """Trains config's system on `table` into the folder `exp`.

    Args:
        banks: recordings for augmentation, by the names of augment.needed_banks.
        num_workers: data workers of this process.   device: the device of this process.
        validate: model -> {"eer_dev": ..., "min_dcf_dev": ...} in the main process and {} in the others; called by all
            of them after each epoch.
        init: folder of a trained experiment to start from; empty: new weights.
        teacher: scp of another network's embeddings to learn from; empty: none.
    Raises: InputError: batch.speakers cannot be divided among the processes; see build_task, read_teacher and
            check_wandb.
    """

    def __init__(self, config: Config, table: CutTable, banks: Mapping[str, CutTable], exp: Path, device: torch.device,
                 num_workers: int = 0, validate=None, init: str = "", teacher: str = ""):
        self.rank, self.world = rank_world()
        if (num := config.batch.speakers) % (self.world * config.train.accumulate):
            raise InputError("batch.speakers", None, f"{num} is not a multiple of {self.world} processes"
                             + f" x train.accumulate {config.train.accumulate}" * (config.train.accumulate > 1))
        config = fit_batch(table, config, self.world * config.train.accumulate)
        self.config, self.table, self.banks, self.exp, self.device = config, table, banks, exp, device
        self.num_workers, self.validate, self.init = num_workers, validate, init
        self.speakers = with_copies([str(s) for s in table.speakers], config.batch.speeds)
        self.teacher_path = teacher
        self.teacher = read_teacher(teacher, table, config) if teacher else None
        self.data = {"train": sha256(table.path), **{name: sha256(bank.path) for name, bank in banks.items()},
                     **({"teacher": self.teacher.sha256} if self.teacher else {})}
        check_wandb(config.train.wandb)
        report_undrawn(table, config)
        sync = config.train.sync_batchnorm
        torch.manual_seed(config.seed)
        self.task = build_task(config, len(self.speakers), self.teacher.dim if self.teacher else 0).to(device)
        self.loader = TrainingLoader(partial(EpochDataset, table, config, banks, rank=self.rank, world=self.world,
                                             teacher=self.teacher), num_workers, device.type == "cuda",
                                     config.train.timeout_minutes)
        set_gpu_options(config, device)
        if (parts := config.train.accumulate) > 1 and is_main():
            log.info("train.accumulate %d: BatchNorm statistics are those of a part, %d utterances", parts,
                     config.batch.speakers * config.batch.utts // parts // (1 if sync else self.world))
        if sync and self.world > 1:
            sync_batchnorm(self.task, device)
        self.optimizer = build_optimizer(self.task, config.optim)
        self.amp = amp_type(config.train.amp, device)
        has_average = config.train.average or config.train.ema  # of the weights and BatchNorm statistics
        self.averaged = AveragedModel(self.task.model, use_buffers=True) if has_average else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp == torch.float16)
        # concerns the stride of dimensions of size 1, which does not matter
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        # synchronised BatchNorms have the same buffers in all processes; nothing else has buffers that change
        self.parallel: Any = self.task if self.world == 1 else DistributedDataParallel(
            self.task, broadcast_buffers=not sync)
        self.epoch = self.step_in_epoch = self.step = self.drawn = self.num_bad = 0
        self.new_counts = [0, 0]  # drawn and bad in this process, not yet summed over the processes
        self.history: list[dict[str, Any]] = []
        self.runs: list[dict[str, str]] = []  # the first, and each that computed with something else
        self.sums = dict(SUMS)
        self.scalars: Scalars
        self.saved_at = time.monotonic()
        self.stop: StopRequest
        self.saver: checkpoint.Saver

    def run(self) -> bool:
        """Train to the end, from the newest checkpoint if there is one, else from `init`.

        Returns: False if the training was complete already.
        Raises: Preempted: on SIGTERM, after the state was saved.   InputError: see restore, gather and account.
        """
        if (state := checkpoint.load_newest(self.exp / "checkpoints")) is not None:
            self.restore(state)
        elif self.init:
            self.task.initialise(self.init, self.speakers)
        if self.is_finished():
            log.info("%s: already trained to its last epoch %d", self.exp / "model.pt", self.epoch)
            if is_main():
                self.check_config(self.exp / "config.yaml")
            return False
        if is_main():
            if state is None:
                self.set_aside()
            save_config(self.config, self.exp / "config.yaml")  # not before `restore` has accepted it
            self.scalars = Scalars(self.exp, self.config, self.step)
        self.note_run()
        folder, keep = self.exp / "checkpoints", self.config.train.keep
        with StopRequest(self.device) as self.stop, checkpoint.Saver(folder, keep) as self.saver:
            try:
                while self.epoch < self.config.train.epochs:
                    self.run_epoch()
            except Preempted:
                self.saver.wait()
                log.warning("stopped by SIGTERM: saved epoch=%d step=%d", self.epoch + 1, self.step_in_epoch)
                raise
            finally:
                self.loader.close()
        model = self.final_model()
        if is_main():
            student = self.task.student.state_dict() if self.task.student is not None else None
            checkpoint.save(self.exp / "model.pt", {
                "model": model.state_dict(), "losses": self.task.heads(), "student": student, "speakers": self.speakers,
                "epoch": self.epoch, "step": self.step})
            log.info("wrote %s", self.exp / "model.pt")
        return True

    def check_config(self, path: Path) -> None:
        """Write config.yaml of a finished training if it is missing.   Raises: InputError: it was edited since."""
        if not path.exists():
            save_config(self.config, path)
        elif changed := differences(fixed_options(load_config([path])), fixed_options(self.config)):
            raise InputError(path, None, f"has {changed}, with which this model was trained; delete it to have it "
                                         "written again")

    def note_run(self) -> None:
        """Add to `runs` what this run computes with, if an earlier one computed with something else."""
        what = f"{describe(self.config, self.device)} commit={commit()}"
        if self.epoch < self.config.train.epochs and not (self.runs and self.runs[-1]["what"].endswith(f": {what}")):
            self.runs.append({"what": f"from step {self.step}: {what}", "command": command()})

    def origin(self) -> dict[str, Any]:
        """For train_info.json: the command of the first run, what each run computed with, SHA-256 of the data."""
        first = {"command": self.runs[0]["command"]} if self.runs else {}  # of an early version: not known
        return {**first, "runs": [run["what"] for run in self.runs], "data": self.data}

    def set_aside(self) -> None:
        """Rename what an earlier training left to NAME.old, so that it is not taken for the result of this one."""
        for name in ("model.pt", "train_info.json", "train.tsv", "config.yaml"):
            self.rename_old(self.exp / name)

    def rename_old(self, path: Path) -> None:
        if path.exists():
            os.replace(path, f"{path}.old")

    def trained(self) -> nn.Module:
        """The model of the last step, or the average."""
        return self.task.model if self.averaged is None else self.averaged.module

    def final_model(self) -> nn.Module:
        """The model of the last step, or the average, whose results on the validation set are logged.

        Every process must call it.
        """
        if self.averaged is None:
            return self.trained()
        kind = f"moving average, decay {self.config.train.ema}" if self.config.train.ema else (
            f"mean of the last epochs ({self.config.train.average})")
        if self.validate and (row := self.validation(self.averaged.module)):
            last = self.history[-1]
            log.info("eer_dev=%.4g min_dcf_dev=%.4g at the last step; eer_dev=%.4g min_dcf_dev=%.4g of the %s",
                     last["eer_dev"], last["min_dcf_dev"], row["eer_dev"], row["min_dcf_dev"], kind)
        log.info("model.pt has the average of weights: %s", kind)
        return self.trained()

    def is_finished(self) -> bool:
        """Does model.pt hold the last step of this training? Another model is renamed to model.pt.old."""
        path = self.exp / "model.pt"
        if self.epoch < self.config.train.epochs or not path.exists():
            return False
        try:
            if same_tensors(checkpoint.load(path).get("model"), self.trained().state_dict()):
                return True
            log.warning("%s is not the result of this training; it becomes model.pt.old, and is written again", path)
        except InputError as error:
            log.warning("%s; training will write it again", error)
        if is_main():
            self.rename_old(path)
        return False

    def run_epoch(self) -> None:
        num_steps = self.loader.num_steps(self.epoch)
        if not num_steps:
            raise InputError(self.table.path, None,
                             f"the speakers with {self.config.batch.utts} utterances or more do not fill a batch of "
                             f"{self.config.batch.speakers}; lower batch.speakers, or set batch.repeat: true")
        self.parallel.train()
        bar = progress(total=num_steps, initial=self.step_in_epoch, desc=f"epoch {self.epoch + 1}", unit="step")
        clock = time.monotonic()
        for batch in self.loader.batches(self.epoch, self.step_in_epoch):
            waited = time.monotonic() - clock
            self.run_step(batch, num_steps)
            self.account(batch, waited, time.monotonic() - clock)
            bar.update()
            is_last = self.step_in_epoch == num_steps
            if self.step % self.config.train.log_every == 0 or is_last:
                self.log_step(num_steps)
            asked = self.stop.poll(self.save_is_due())
            every = self.config.train.save_every
            if asked == STOP or ((asked == SAVE or (every and self.step % every == 0)) and not is_last):
                self.gather()
                self.save()
            if asked == STOP:
                self.saver.wait()
                barrier()  # the first process to exit ends the others: wait until the state is saved
                raise Preempted
            clock = time.monotonic()
        bar.close()
        self.end_epoch()

    def run_step(self, batch: dict[str, Any], steps_per_epoch: int) -> None:
        self.set_rates(steps_per_epoch)
        inputs = to_device(batch, self.device)
        self.optimizer.zero_grad(set_to_none=True)
        num = self.config.train.accumulate
        for part, part_inputs in enumerate(zip(*(x.chunk(num) for x in inputs)), 1):
            # gradients are added up over the processes after the last part
            with contextlib.nullcontext() if part == num or self.world == 1 else self.parallel.no_sync():
                with torch.autocast(self.device.type, self.amp) if self.amp else contextlib.nullcontext():
                    loss, acc = self.parallel(*part_inputs)
                self.scaler.scale(loss / num).backward()
            self.sums["loss"] += loss.detach().double() / num  # on the device until it is logged: no synchronisation
            self.sums["acc"] += acc.detach().double() / num
        if self.config.optim.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.task.parameters(), self.config.optim.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.averaged is not None and self.config.train.ema:
            # the first step sets it; AveragedModel's own update would read that number from the GPU at each step
            follow(self.averaged.module, self.task.model, self.config.train.ema if self.step else 0)
        self.step += 1
        self.step_in_epoch += 1

    def set_rates(self, steps_per_epoch: int) -> None:
        epochs_done = self.epoch + self.step_in_epoch / steps_per_epoch
        lr = learning_rate(self.step, epochs_done, self.config.train.epochs, self.config.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.task.set_margin(margin_share(epochs_done, self.config.train))

    def account(self, batch: dict[str, Any], waited: float, seconds: float) -> None:
        """Add a step to the sums.   Raises: InputError: too many utterances could not be read."""
        self.sums["steps"] += 1
        self.sums["seconds"] += seconds
        self.sums["waited"] += waited
        self.sums["utts"] += len(batch["label"])
        for why in batch["bad"]:
            log.warning("bad audio, replaced: %s", why)
        self.new_counts = [self.new_counts[0] + len(batch["label"]), self.new_counts[1] + len(batch["bad"])]
        drawn, bad = self.drawn + self.new_counts[0], self.num_bad + self.new_counts[1]
        limit = self.config.train.max_bad_fraction
        if bad > max(limit * drawn, 10 if limit else 0):  # ten in the first steps do not stop a run
            raise InputError(self.table.path, None,
                             f"{bad} of {drawn} utterances drawn could not be read, more than "
                             f"train.max_bad_fraction {limit}; the last: {(batch['bad'] or ['-'])[-1]}")

    def gather(self) -> None:
        """Combine loss, accuracy and counts over the processes; every process must call it.

        Raises: InputError: the loss is not finite; no checkpoint is written after such a step.
        """
        values = [float(self.sums["loss"]), float(self.sums["acc"]), *map(float, self.new_counts)]
        loss, acc, drawn, bad = mean_over_processes(values, self.device)
        if not math.isfinite(loss):
            raise InputError(self.exp, None, f"the loss is {loss} at step {self.step}: lower optim.lr, or set "
                                             "optim.clip_norm; the last checkpoint is kept")
        self.sums["loss"], self.sums["acc"], self.new_counts = loss, acc, [0, 0]
        self.drawn, self.num_bad = self.drawn + round(drawn * self.world), self.num_bad + round(bad * self.world)

    def log_step(self, steps_per_epoch: int) -> None:
        row = self.means()
        if not is_main():
            return
        log.info("epoch=%d step=%d/%d loss=%.4f acc=%.3f lr=%.2e utts_per_s=%.1f data_wait=%.3f bad=%d", self.epoch + 1,
                 self.step_in_epoch, steps_per_epoch, row["loss"], row["acc"], row["lr"], row["utts_per_s"],
                 row["data_wait"], self.num_bad)
        self.scalars.add({name: row[name] for name in ("loss", "acc", "utts_per_s", "data_wait", "lr")}, self.step)

    def means(self) -> dict[str, float]:
        """The epoch so far: loss and accuracy of all processes, times of this one, and the learning rate."""
        self.gather()
        s = self.sums
        return {"loss": s["loss"] / s["steps"], "acc": s["acc"] / s["steps"], "seconds": s["seconds"],
                "utts_per_s": self.world * s["utts"] / s["seconds"], "data_wait": s["waited"] / s["seconds"],
                "lr": self.optimizer.param_groups[0]["lr"]}

    def end_epoch(self) -> None:
        row: dict[str, Any] = {**self.means(), "epoch": self.epoch + 1, "step": self.step, "bad_utts": self.num_bad}
        if self.validate:
            self.save()  # a run that is stopped during validation loses no step
            row.update(found := self.validation(self.task.model))
            if found:
                log.info("epoch=%d eer_dev=%.4g min_dcf_dev=%.4g", self.epoch + 1, row["eer_dev"], row["min_dcf_dev"])
                self.scalars.add({"eer_dev": row["eer_dev"]}, self.step)
        self.epoch, self.step_in_epoch, self.sums = self.epoch + 1, 0, dict(SUMS)
        if self.averaged is not None and self.config.train.epochs - self.epoch < self.config.train.average:
            self.averaged.update_parameters(self.task.model)
        self.history.append(row)
        if is_main():
            write_lines(self.exp / "train.tsv", ["\t".join(COLUMNS), *map(format_row, self.history)])
        self.save()

    def validation(self, model: nn.Module) -> dict[str, float]:
        """The results of `validate`, with the buffers of the main process in all of them."""
        broadcast_buffers(model.eval())
        cudnn = torch.backends.cudnn
        benchmark, cudnn.benchmark = cudnn.benchmark, False  # each batch has its own shape
        with self.stop.immediate():
            found = self.validate(model)
        cudnn.benchmark = benchmark
        return found

    def save_is_due(self) -> bool:
        """In the main process: have save_minutes passed since the last checkpoint?"""
        if not is_main() or time.monotonic() < self.saved_at + 60 * self.config.train.save_minutes:
            return False
        self.saved_at = time.monotonic()  # with several processes, the request is granted after the next step
        return True

    def save(self) -> None:
        """Begin to save a checkpoint; every process must call it."""
        generators = gather_generators(self.device)
        if is_main():
            self.saver.save(self.step, self.state() | {"generators": generators})
            self.saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, except torch's generators."""
        return {"schema": SCHEMA, "task": self.task.state_dict(), "optimizer": self.optimizer.state_dict(),
                "average": self.averaged.state_dict() if self.averaged is not None else {},
                "scaler": self.scaler.state_dict(), "epoch": self.epoch, "step": self.step,
                "step_in_epoch": self.step_in_epoch, "drawn": self.drawn, "num_bad": self.num_bad,
                "sums": self.sums, "history": self.history,
                "speakers": self.speakers, "init": self.init, "teacher": self.teacher_path,
                "num_utts": len(self.table), "data": self.data, "runs": self.runs,
                "config": json.dumps(fixed_options(self.config))}

    def restore(self, state: dict[str, Any]) -> None:
        """Load a checkpoint's state.

        Raises: InputError: it belongs to another configuration or other data, or was written by a later version.
        """
        if (schema := state.get("schema", 1)) > SCHEMA:
            raise InputError(self.exp, None, f"has checkpoints of a later version (schema {schema}; this one reads up "
                                             f"to {SCHEMA})")
        saved = with_new_defaults(json.loads(state["config"]), self.config)
        if changed := differences(saved, fixed_options(self.config)):
            raise InputError(self.exp, None, f"has checkpoints with {changed}: choose another experiment name, or "
                                             "delete its checkpoints to start again")
        known = state.get("data", {})
        if state["speakers"] != self.speakers or state["num_utts"] != len(self.table) or (
                known.get("train", self.data["train"]) != self.data["train"]):
            raise InputError(self.exp, None, f"has checkpoints of other training data than {self.table.path}")
        if others := [name for name in known if known[name] != self.data.get(name, known[name])]:
            raise InputError(self.exp, None, f"has checkpoints of other data for {others[0]}")
        if state.get("teacher", "") != self.teacher_path:
            other = state.get("teacher") or "no teacher"
            raise InputError(self.exp, None, f"has checkpoints with {other} as --teacher")
        init = state.get("init", "")
        if self.init:
            log.info("--init %s is ignored: this run continues; it was started from %s", self.init,
                     init or "new weights")
        self.init = init
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["average"])
        # before schema 2, the state of one process: its CPU's, then those of all GPUs that it saw
        restore_generators(state["generators"] if schema > 1 else state["random"][0][None], self.device)
        for name in ("epoch", "step", "step_in_epoch", "drawn", "num_bad", "sums", "history"):
            setattr(self, name, state[name])
        self.runs = state.get("runs", [])
        log.info("at epoch=%d step=%d", self.epoch + 1, self.step_in_epoch)


def fixed_options(config: Config) -> dict[str, Any]:
    """Options that must not change between a checkpoint and its continuation, because they change its result."""
    c = config
    return {"model": c.model, "losses": c.losses, "augment": c.augment, "seed": c.seed, "batch": vars(c.batch),
            "crop": vars(c.crop), "optim": vars(c.optim), **{name: getattr(c.train, name) for name in FIXED}}


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """`optim.lr 0.1, not 0.2; ...` of two sets of fixed options; empty if they are equal."""
    a, b = (flat(json.loads(json.dumps(options))) for options in (one, other))
    changed = [f"{key} {a.get(key, 'none')}, not {b.get(key, 'none')}" for key in {**a, **b}
               if a.get(key) != b.get(key)]
    return "; ".join(changed[:3]) + " ..." * (len(changed) > 3)


def with_new_defaults(saved: dict[str, Any], current: Config) -> dict[str, Any]:
    """The fixed options of a checkpoint; those that did not exist when it was written had what is now the default.
    Of train's options that were not stored, the present value is taken."""
    config = Config()
    sections = {name: vars(getattr(config, name)) | saved[name] for name in ("batch", "crop", "optim")}
    return {name: getattr(current.train, name) for name in FIXED} | {"average": 0, "ema": 0} | saved | sections


def flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 0.1}, "epochs": 3} -> {"optim.lr": 0.1, "train.epochs": 3}"""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = f"train.{key}" if key in FIXED and not prefix else prefix + key
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def same_tensors(one: Any, other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two state dicts have the same names and values."""
    return isinstance(one, dict) and one.keys() == other.keys() and all(
        isinstance(x, torch.Tensor) and torch.equal(x, other[name].cpu()) for name, x in one.items())


def format_row(row: dict[str, Any]) -> str:
    """A line of train.tsv; values that were not measured are empty cells."""
    return "\t".join("" if (v := row.get(c)) is None else f"{v:.6g}" for c in COLUMNS)
