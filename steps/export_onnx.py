#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write a trained model as an ONNX file that needs nothing of ours to run.

steps/export_onnx.py exp/rawnext exp/rawnext/model.onnx

Inputs: wave (B, T) float32 at 16 kHz in [-1, 1], zero-padded, and lengths (B,) int64, samples, 1,600 or more; output:
embedding (B, D), as --protocol native gives it. The file is checked in ONNX Runtime against PyTorch at lengths of 0.1
to 30 s, alone and in a padded batch, before it appears. Its metadata hold the configuration and what it was made of.
"""

import argparse
from pathlib import Path

from rawnext.tables import run_main


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-threads", type=int, default=1, help="CPU threads of the check (default 1)")
    parser.add_argument("exp_dir", type=Path)
    parser.add_argument("onnx_file", type=Path)
    args = parser.parse_args()
    import torch

    from rawnext.export import write_onnx
    from rawnext.extract import load_model
    from rawnext.stamp import sha256, stamp

    torch.set_num_threads(args.num_threads)
    model, _ = load_model(args.exp_dir, torch.device("cpu"))
    metadata = {"model_sha256": sha256(args.exp_dir / "model.pt"), "sample_rate": "16000", **stamp(),
                "config": (args.exp_dir / "config.yaml").read_text(encoding="utf-8")}
    difference = write_onnx(model, args.onnx_file, metadata)
    print(f"export_onnx.py: {args.onnx_file}: {args.onnx_file.stat().st_size / 2**20:.1f} MiB, embeddings as PyTorch's "
          f"up to {difference:.1e} of the largest number, 0.1 to 30 s")


if __name__ == "__main__":
    run_main(main)
