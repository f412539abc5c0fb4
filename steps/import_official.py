#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make an experiment of a checkpoint of the released RawNeXt or ResNeXt code, to extract and score with it.

steps/import_official.py OFFICIAL.pt exp/official

Width, depth and switches are read off the checkpoint; what is not known is refused by name. The gate then mixes as
the released code does (official_gate).
"""

import argparse
from pathlib import Path

from rawnext.tables import InputError, run_main


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a state dict, or a dict with one under model or state_dict")
    parser.add_argument("exp", type=Path, help="experiment folder to make")
    args = parser.parse_args()
    if (args.exp / "model.pt").exists():
        raise InputError(args.exp / "model.pt", None, "is there already; name another folder")

    from rawnext import checkpoint
    from rawnext.config import Config, check, save_config, split_name
    from rawnext.models import MODELS
    from rawnext.models.official import convert, model_options

    state = state_dict(checkpoint.load(args.checkpoint), args.checkpoint)
    try:
        ours = convert(state)
        config = Config(model=model_options(ours))
    except (KeyError, IndexError) as error:
        raise InputError(args.checkpoint, None, f"is not a RawNeXt or ResNeXt of the released code: {error}") from None
    check(config, args.checkpoint)
    model = MODELS.build(*split_name(config.model))
    missing, unknown = model.load_state_dict(ours, strict=False)
    if missing or unknown:
        named = [f"unknown {key}" for key in unknown] + [f"missing {key}" for key in missing]
        raise InputError(args.checkpoint, None, f"{len(named)} keys do not fit: {', '.join(named)}")
    save_config(config, args.exp / "config.yaml")
    checkpoint.save(args.exp / "model.pt", {"model": model.state_dict(), "speakers": [], "epoch": 0, "step": 0})
    num = sum(p.numel() for p in model.parameters())
    print(f"import_official.py: wrote {args.exp}/model.pt ({num:,} parameters) and config.yaml")


def state_dict(content, path: Path) -> dict:
    """The state dict in a checkpoint, whatever it is wrapped in."""
    from torch import Tensor

    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(path, None, "holds no state dict")
    return content


if __name__ == "__main__":
    run_main(main)
