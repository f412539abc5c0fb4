# SPDX-License-Identifier: Apache-2.0
"""`rawnext info` and `rawnext export`: what a trained model is, and how it travels."""

import argparse
from pathlib import Path

from rawnext.cli.options import add_json, print_json
from rawnext.errors import InputError

EXPORT = """Write a trained model for other programs.

rawnext export exp/rawnext --onnx rawnext.onnx
rawnext export exp/rawnext --safetensors release --licence cc-by-4.0 --training-data "VoxCeleb2 dev"

--safetensors writes a folder: model.safetensors, config.yaml, train_info.json and calibration where there are such, and
README.md, a model card as Hugging Face wants it. Every command takes this folder as a MODEL.

--onnx (pip install 'rawnext[onnx]') writes a file that needs nothing of ours to run. Inputs: wave (B, T) float32 at
16 kHz in [-1, 1], zero-padded, and lengths (B,) int64, samples, 1,600 or more; output: embedding (B, D), that of
`rawnext embed`. It appears when ONNX Runtime has given PyTorch's embeddings at 0.1 to 30 s, alone and padded."""


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("info", help="size, configuration, training and calibrations of a model",
                                 description="Size, configuration, training and calibrations of a model.")
    parser.add_argument("model", metavar="MODEL", type=Path)
    add_json(parser)
    parser.set_defaults(run=info)
    parser = commands.add_parser("export", help="to ONNX or safetensors", description=EXPORT,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", type=Path)
    parser.add_argument("--onnx", metavar="FILE", type=Path, help="file to write")
    parser.add_argument("--safetensors", metavar="DIR", type=Path, help="folder to write")
    parser.add_argument("--licence", "--license", default="unknown", metavar="NAME",
                        help="of the weights, yours to state, as Hugging Face names it: apache-2.0, cc-by-4.0, other")
    parser.add_argument("--training-data", default="", metavar="TEXT", help="what the model was trained on, in words")
    parser.set_defaults(run=export)


def info(args: argparse.Namespace) -> None:
    from rawnext.export.release import describe, read_trained

    facts = describe(read_trained(args.model))
    if args.json:
        print_json(**facts)
        return
    for key, value in facts.items():
        nested = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if nested is None:
            print(f"{key}: {value}")
        else:
            print(f"{key}:{'' if value else ' none'}")
            for name, part in nested:
                print(f"  {'-' if isinstance(value, list) else f'{name}:'} {part}")


def export(args: argparse.Namespace) -> None:
    if not (args.onnx or args.safetensors):
        raise InputError("rawnext export", None, "say what to write: --onnx FILE, --safetensors DIR, or both")
    if args.safetensors:
        from rawnext.export.release import export_safetensors

        export_safetensors(args.model, args.safetensors, args.licence, args.training_data)
        print(f"wrote {args.safetensors}/model.safetensors, config.yaml and README.md")
    if args.onnx:
        from rawnext.export.onnx import export_onnx

        print(f"wrote {args.onnx}: {export_onnx(args.model, args.onnx)}")
