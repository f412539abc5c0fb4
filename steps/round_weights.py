#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Round a trained model's matrices to 16 bits, so that `rawnext export --safetensors` takes half the space.

steps/round_weights.py exp/ecapa_tdnn exp/rounded

Each value keeps 11 significant bits. The rounded model is another one, with scores and a calibration of its own.
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, run_main


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("exp", type=Path, help="trained experiment")
    parser.add_argument("rounded", type=Path, help="experiment folder to create")
    args = parser.parse_args()
    if (args.rounded / "model.pt").exists():
        raise InputError(args.rounded / "model.pt", None, "already exists; name another folder")

    import torch

    from rawnext.export.release import save_variant
    from rawnext.inference.extract import load_model

    model, config = load_model(args.exp)
    for name, tensor in model.state_dict().items():
        if tensor.ndim > 1 and tensor.dtype == torch.float32:
            tensor.copy_(tensor.half())
            if not tensor.isfinite().all():
                raise InputError(args.exp, None, f"{name} has values above 65504, the largest in 16 bits")
    save_variant(args.exp, args.rounded, model, config)
    print(f"round_weights.py: wrote {args.rounded}/model.pt")


if __name__ == "__main__":
    run_main(main)
