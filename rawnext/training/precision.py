# SPDX-License-Identifier: Apache-2.0
"""What a training computes with: autocast's data type, TF32, cuDNN's choice of algorithms."""

import torch

from rawnext.config import Config
from rawnext.dist import rank_world
from rawnext.stamp import hardware


def set_gpu_options(config: Config, device: torch.device) -> None:
    """Set TF32 and cuDNN's choice of algorithms for this process, if it trains on a GPU."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.train.tf32
        torch.backends.cudnn.benchmark = config.train.benchmark and not config.crop.start_samples


def describe(config: Config, device: torch.device) -> str:
    """What a run computes with, for the first line of its log."""
    gpu = device.type == "cuda"
    precision = str(amp_type(config.train.amp, device) or torch.float32).removeprefix("torch.")
    return (f"device={torch.cuda.get_device_name(device) if gpu else f'CPU, {hardware()}'} "
            f"processes={rank_world()[1]} precision={precision} tf32={'on' if gpu and config.train.tf32 else 'off'} "
            f"torch={torch.__version__} cuda={torch.version.cuda or 'none'} threads={torch.get_num_threads()} "
            f"compiled={config.train.compiled} augment_on={config.train.augment_on}")


def amp_type(name: str, device: torch.device) -> torch.dtype | None:
    """Data type of autocast for option train.amp on a device; None: float32 throughout."""
    if name == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
