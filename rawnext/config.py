# SPDX-License-Identifier: Apache-2.0
"""Every default of training and evaluation with its unit; YAML files and `--set` change them.

The defaults of a model or a loss are those of its constructor; rawnext/training/system.py checks their names.
"""

import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import AliasEvent, SafeLoader, YAMLError, parse

from rawnext.errors import InputError
from rawnext.files import PathLike, readable, write_lines
from rawnext.registry import nearest

YAML_BYTES = 1 << 20
MOST_ALIASES = 20
MOST_NESTED = 50  # brackets; PyYAML's time grows with the cube of their number, 4 s for 3,000
PRETRAINED = Path(__file__).resolve().parent / "pretrained"  # the model that comes with the package
ADDRESS = ("hf:", "https://", "http://")  # beginnings of a model's name that are not a path


@dataclass
class Batch:
    speakers: int = 160  # per step, over all processes; no speaker twice
    utts: int = 2  # per speaker
    max_utts_per_speaker: int = 500  # drawn in an epoch
    min_utts_per_speaker: int = 0  # drawn in an epoch, with repeat; equal to the maximum, all speakers count alike
    repeat: bool = False  # draw an utterance again, with another crop, if a speaker has fewer than utts or the minimum
    speeds: list[float] = field(default_factory=list)  # copies of all speakers at these speeds, as new speakers


@dataclass
class Crop:
    samples: int = 59050  # of every training utterance; pre-emphasis takes one, and 59,049 = 3^10
    short_from: int = 16000  # all but a speaker's first utterance are cut to short_from...samples and tiled; 0: off
    start_samples: int = 0  # crop in the first epoch, growing to `samples`; 0: no growth
    grow_epochs: float = 0  # duration of the growth


@dataclass
class Optim:
    name: str = "adam"  # adam, adamw, radam or sgd
    amsgrad: bool = True  # adam and adamw divide by the largest second moment so far; radam has no such variant
    momentum: float = 0.9  # of sgd, by Nesterov's rule
    lr: float = 1e-3
    schedule: str = "cosine"  # cosine or exponential over the whole run, cyclical, or step
    final_lr: float = 1e-7  # end of cosine and exponential at the last step; base of the cycles; floor of the steps
    cycle_steps: int = 65000  # from base to peak, and the same number back
    step_epochs: int = 10  # the rate is multiplied by step_factor every step_epochs epochs
    step_factor: float = 0.1  # see step_epochs; above 0, at most 1
    warmup_steps: int = 0  # linear, from 0
    weight_decay: float = 1e-4  # of tensors with two or more dimensions; BatchNorm and biases have none
    decay_all: bool = False  # weight decay on every parameter, BatchNorm and biases too
    clip_norm: float = 0  # of the gradient; 0: no clipping


@dataclass
class Train:
    epochs: int = 80
    amp: str = "auto"  # auto: bf16 on a GPU that supports it, otherwise fp16, none on a CPU; none; bf16; fp16
    tf32: bool = True  # on a GPU, products and convolutions in float32 round their factors to 10 bits
    benchmark: bool = True  # on a GPU, cuDNN times its algorithms for each shape of batch; off if crops grow
    compiled: bool = False  # torch.compile the model; takes minutes at the start, no gain on a CPU
    accumulate: int = 1  # parts of a batch, one after the other to save memory; each has its own BatchNorm statistics
    augment_on: str = "workers"  # or device: reverberation and all later operations run there, to whole batches
    sync_batchnorm: bool = True  # BatchNorm statistics over all processes, as in the paper, whatever their number
    margin_from: float = 0  # epoch until which a margin loss has margin 0
    margin_full: float = 0  # epoch from which it has its full margin; linear in between
    log_every: int = 50  # steps
    wandb: str = ""  # project of Weights & Biases that gets the curves of tensorboard too; empty: none
    save_minutes: float = 10  # between checkpoints; there is one at each epoch's end too
    save_every: int = 0  # steps between checkpoints, in addition; 0: none
    keep: int = 3  # newest checkpoints
    timeout_minutes: float = 60  # after which a process that waits for another or a data worker fails; > a validation
    max_bad_fraction: float = 1e-3  # of the drawn utterances that were unreadable and replaced
    average: int = 0  # model.pt has the mean weights of the ends of this many last epochs; 0: those of the last step
    ema: float = 0  # model.pt has a moving average of the weights with this decay per step, such as 0.999; 0: none
    teacher_weight: float = 1.0  # of the loss 1 - cosine to the embeddings of train.py's --teacher


@dataclass
class Extract:
    samples: int = 59049  # of a segment in the paper's protocol
    segments: int = 10  # of a whole utterance
    short_segments: int = 3  # of an utterance cut to a duration


@dataclass
class Config:
    """One system: model, losses, and how it is trained and tested."""

    model: dict[str, Any] = field(default_factory=lambda: {"name": "rawnext"})
    losses: list[dict[str, Any]] = field(default_factory=lambda: [{"name": "softmax"}])  # each may have a weight
    augment: list[dict[str, Any]] = field(default_factory=list)  # cases {ops: [...], weight: n}; none: clean
    paper: str = ""  # row of conf/paper.tsv to compare with
    seed: int = 1234
    batch: Batch = field(default_factory=Batch)
    crop: Crop = field(default_factory=Crop)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    extract: Extract = field(default_factory=Extract)


def load_config(paths: Sequence[PathLike], overrides: Sequence[str] = (), init: PathLike = "") -> Config:
    """Merge YAML files from left to right, then `key=value` overrides, over the defaults.

    Args:
        init: folder of a trained experiment, whose model is the default one; empty: none.
    Raises: InputError: a missing file, invalid YAML, an unknown key (the nearest known one is suggested), a value
        of the wrong type or out of range.
    """
    merged: Any = OmegaConf.structured(Config)
    if init:
        file = Path(init) / "config.yaml"
        merged = merge(merged, OmegaConf.masked_copy(read_yaml(file), "model"), file)
    for path in paths:
        merged = merge(merged, read_yaml(path), path)
    for override in sorted(overrides, key=lambda text: not text.startswith("model.name=")):  # drops other options
        merged = merge(merged, read_override(override), "--set")
    source = ", ".join(map(str, paths)) or "--set"
    try:
        config: Config = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except OmegaConfBaseException as error:  # of ${...}
        raise InputError(source, None, str(error).splitlines()[0]) from None
    check(config, source)
    return config


def model_folder(name: PathLike) -> Path:
    """A model's folder; the name `pretrained` is the model of the package, if there is no such folder.

    An address, such as hf:OWNER/NAME or https://HOST/ARCHIVE#sha256=HEX, is downloaded (rawnext/download.py).
    Raises: InputError: it cannot be downloaded.
    """
    if str(name).startswith(ADDRESS):
        from rawnext.download import download

        return download(str(name))
    return PRETRAINED if str(name) == "pretrained" and not Path(name).exists() else Path(name)


def read_yaml(path: PathLike):
    """The content of a YAML file.

    Raises: InputError: missing, over 1 MB, not YAML, over MOST_NESTED, or more than MOST_ALIASES aliases: a few dozen
        nested ones expand to more values than fit in memory.
    """
    with readable(path), open(path, "rb") as file:
        data = file.read(YAML_BYTES + 1)
    if len(data) > YAML_BYTES:
        raise InputError(path, None, "over 1 MB: not a configuration")
    try:
        text = data.decode("utf-8")
        check_nesting(text)
        if sum(isinstance(event, AliasEvent) for event in parse(text, Loader=SafeLoader)) > MOST_ALIASES:
            raise InputError(path, None, f"more than {MOST_ALIASES} aliases")
        content = OmegaConf.load(io.StringIO(text))
    except OSError:  # OmegaConf's, for a number
        content = None
    except (YAMLError, ValueError, RecursionError, OmegaConfBaseException) as error:  # ValueError: not UTF-8
        mark = getattr(error, "problem_mark", None)
        raise InputError(path, mark.line + 1 if mark else None, "not YAML") from None
    if not OmegaConf.is_dict(content):
        raise InputError(path, None, "want `key: value` lines")
    return content


def check_nesting(text: str) -> None:
    """Raise ValueError if brackets are nested too deeply."""
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[][{}]", text))
    if max(itertools.accumulate(steps), default=0) > MOST_NESTED:
        raise ValueError("too many nested brackets")


def read_override(text: str):
    """Parse `key=value`."""
    if "=" not in text:
        raise InputError("--set", None, f"want key=value, got {text!r}")
    try:
        check_nesting(text)
        return OmegaConf.from_dotlist([text])
    except (YAMLError, ValueError, IndexError, TypeError, RecursionError, OmegaConfBaseException):
        raise InputError("--set", None, f"want key=value, where value is YAML, got {text!r}") from None


def merge(base, update, path: PathLike):
    # `model` and the lists are replaced as a whole: one model's options do not apply to another
    try:
        for key in ("model", "losses", "augment"):
            if key in update and (key != "model" or (OmegaConf.is_dict(update[key]) and "name" in update[key])):
                OmegaConf.update(base, key, {} if key == "model" else [], merge=False)
        return OmegaConf.unsafe_merge(base, update)  # changes `base`, as above: copying it takes 10 ms
    except OmegaConfBaseException as error:
        key = str(error.full_key)
        place = known_keys(key.rpartition(".")[0])
        last = key.rpartition(".")[2]
        if place is not None and last not in place:
            why = f"unknown key {key!r}{nearest(last, place)}"
        else:
            why = f"{key}: {str(error).splitlines()[0]}"
        raise InputError(path, line_of(path, last), why) from None


def known_keys(section: str) -> set[str] | None:
    """Names of a section's fields, or None if there is no such section."""
    kind: Any = Config
    for part in filter(None, section.split(".")):
        kind = {f.name: f.type for f in fields(kind)}.get(part)
        if not is_dataclass(kind):
            return None
    return {f.name for f in fields(kind)}


def line_of(path: PathLike, key: str) -> int | None:
    """The line on which a YAML file first names a key."""
    if not Path(path).is_file():
        return None
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next((i for i, line in enumerate(lines, 1) if re.search(rf"\b{re.escape(key)}\s*:", line)), None)


def check(config: Config, path: PathLike) -> None:
    """Raise InputError for values of the right type that make no sense, before anything runs."""

    def want(good: bool, why: str) -> None:
        if not good:
            raise InputError(path, None, why)

    batch, crop, optim, train = config.batch, config.crop, config.optim, config.train
    want(batch.speakers >= 2, f"batch.speakers: at least 2, got {batch.speakers}")
    want(batch.utts >= 1, f"batch.utts: at least 1, got {batch.utts}")
    want(0 <= batch.min_utts_per_speaker <= batch.max_utts_per_speaker,
         f"batch.min_utts_per_speaker: 0...max_utts_per_speaker, got {batch.min_utts_per_speaker}")
    want(batch.repeat or not batch.min_utts_per_speaker, "batch.min_utts_per_speaker: needs batch.repeat: true")
    want(all(0.5 <= x <= 2 and x != 1 for x in batch.speeds) and len(set(batch.speeds)) == len(batch.speeds),
         f"batch.speeds: different numbers of 0.5...2 other than 1, got {batch.speeds}")
    want(0 <= train.average <= train.epochs, f"train.average: 0...train.epochs, got {train.average}")
    want(0 <= train.ema < 1, f"train.ema: from 0, below 1, got {train.ema}")
    want(not (train.average and train.ema), "train.average and train.ema: one of them must be 0")
    want(train.teacher_weight > 0, f"train.teacher_weight: above 0, got {train.teacher_weight}")
    want(crop.samples >= 1600, f"crop.samples: at least 1600 (0.1 s), got {crop.samples}")
    want(0 <= crop.short_from < crop.samples, f"crop.short_from: 0...{crop.samples - 1}, got {crop.short_from}")
    want(crop.start_samples == 0 or crop.short_from < crop.start_samples <= crop.samples,
         f"crop.start_samples: between short_from and samples, got {crop.start_samples}")
    want(optim.name in ("adam", "adamw", "radam", "sgd"),
         f"optim.name: adam, adamw, radam or sgd, got {optim.name!r}")
    want(0 <= optim.momentum < 1, f"optim.momentum: from 0, below 1, got {optim.momentum}")
    want(optim.schedule in ("cosine", "exponential", "cyclical", "step"),
         f"optim.schedule: cosine, exponential, cyclical or step, got {optim.schedule!r}")
    want(optim.schedule != "exponential" or optim.final_lr > 0, "optim.final_lr: above 0 for the exponential schedule")
    want(optim.cycle_steps >= 1, f"optim.cycle_steps: at least 1, got {optim.cycle_steps}")
    want(optim.step_epochs >= 1, f"optim.step_epochs: at least 1, got {optim.step_epochs}")
    want(0 < optim.step_factor <= 1, f"optim.step_factor: above 0, at most 1, got {optim.step_factor}")
    want(0 < optim.lr < 1e9, f"optim.lr: above 0, got {optim.lr}")
    want(0 <= optim.final_lr <= optim.lr, f"optim.final_lr: between 0 and optim.lr, got {optim.final_lr}")
    want(train.epochs >= 1, f"train.epochs: at least 1, got {train.epochs}")
    want(train.save_every >= 0 and train.log_every >= 1, "train.save_every: at least 0; train.log_every: at least 1")
    want(0 < train.save_minutes < 1e6, f"train.save_minutes: above 0, got {train.save_minutes}")
    want(0 < train.timeout_minutes < 1e6, f"train.timeout_minutes: above 0, got {train.timeout_minutes}")
    want(train.accumulate >= 1 and batch.speakers % train.accumulate == 0,
         f"train.accumulate: at least 1 and a divisor of batch.speakers {batch.speakers}, got {train.accumulate}")
    want(not (train.compiled and crop.start_samples),
         "train.compiled: not with growing crops (crop.start_samples), because every new length is compiled again")
    want(train.keep >= 2, f"train.keep: at least 2 (one may be damaged), got {train.keep}")
    want(train.amp in ("auto", "none", "bf16", "fp16"), f"train.amp: auto, none, bf16 or fp16, got {train.amp!r}")
    want(train.augment_on in ("workers", "device"), f"train.augment_on: workers or device, got {train.augment_on!r}")
    want(train.margin_from <= train.margin_full, "train.margin_from: must not be after train.margin_full")
    want(0 <= train.max_bad_fraction <= 1, f"train.max_bad_fraction: 0...1, got {train.max_bad_fraction}")
    want(len(config.losses) > 0, "losses: at least one")


def split_name(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """{name: x, ...options} -> (x, options)."""
    options = dict(part)
    if not isinstance(name := options.pop("name", None), str):
        raise ValueError(f"{part}: has no name")
    return name, options


def config_text(config: Config) -> str:
    """The complete, merged configuration as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def save_config(config: Config, path: PathLike) -> None:
    write_lines(path, config_text(config).rstrip().split("\n"))


def to_publish(config: Config) -> Config:
    """The configuration without the name of its owner's project."""
    return replace(config, train=replace(config.train, wandb=""))
