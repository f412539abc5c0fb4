#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn a checkpoint of released code into an experiment.

steps/import_official.py OFFICIAL.pt exp/official
steps/extract.sh data/mine exp/official exp/official/embeddings/mine

Systems: RawNeXt, ResNeXt and the ablations between them, RawNet2, RawNet3, MR-RawNet, NeXt-TDNN, ECAPA-TDNN,
DTDY-ResNet34, plain ResNet34, thin ResNet34 with SE and its larger form H.

The model's options are read off the weights; unknown keys are refused by name. Classifiers and the prefixes `module.`
and `__S__.` are removed. RawNeXt's gate mixes as the released code does (official_gate).
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, run_main


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path,
                        help="state dict, or a dict that holds one under model, model_state_dict or state_dict")
    parser.add_argument("exp", type=Path, help="experiment folder to create")
    args = parser.parse_args()
    if (args.exp / "model.pt").exists():
        raise InputError(args.exp / "model.pt", None, "already exists; name another folder")

    from rawnext.config import Config, save_config
    from rawnext.models.official import recognise
    from rawnext.stamp import sha256
    from rawnext.training import checkpoint
    from rawnext.training.info import write_info

    try:
        options, weights = recognise(state_dict(checkpoint.load(args.checkpoint), args.checkpoint))
    except KeyError as error:
        raise InputError(args.checkpoint, None, f"not a model of released code: {error.args[0]}") from None
    model = build(options, weights, args.checkpoint)
    config = Config(model=options)
    save_config(config, args.exp / "config.yaml")
    write_info(args.exp, model, config, imported_from=args.checkpoint.name, imported_sha256=sha256(args.checkpoint))
    checkpoint.save(args.exp / "model.pt", {"model": model.state_dict(), "speakers": [], "epoch": 0, "step": 0})
    num = sum(p.numel() for p in model.parameters())
    print(f"import_official.py: wrote {args.exp}/model.pt ({options['name']}, {num:,} parameters) and config.yaml")


def build(options: dict, weights: dict, path: Path):
    """The model with these options and weights.   Raises: InputError: they do not fit each other."""
    from rawnext.config import split_name
    from rawnext.models import MODELS

    try:
        model = MODELS.build(*split_name(options))
        missing, unknown = model.load_state_dict(weights, strict=False)
    except (RuntimeError, ValueError) as error:  # another shape; options that do not go together
        raise InputError(path, None, str(error).splitlines()[-1].strip()) from None
    if missing or unknown:
        named = [f"unknown {key}" for key in unknown] + [f"missing {key}" for key in missing]
        raise InputError(path, None, f"{len(named)} keys do not fit: {', '.join(named)}")
    return model


def state_dict(content, path: Path) -> dict:
    """The state dict in a checkpoint, itself or in one of its entries.   Raises: InputError: there is none."""
    from torch import Tensor

    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(path, None, "holds no state dict")
    return content


if __name__ == "__main__":
    run_main(main)
