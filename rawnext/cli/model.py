# SPDX-License-Identifier: Apache-2.0
"""`rawnext info` and `rawnext export`: describe a trained model, and export it."""

import argparse
from pathlib import Path

from rawnext.cli.options import add_command, add_json, model_folder
from rawnext.cli.output import print_facts
from rawnext.errors import InputError

EXPORT = """Export a trained model for other programs.

rawnext export exp/rawnext --onnx rawnext.onnx
rawnext export exp/rawnext --safetensors release --licence cc-by-4.0 --training-data "VoxCeleb2 dev"

--safetensors writes a folder: model.safetensors, config.yaml, train_info.json and calibration if present, and
README.md, a model card for Hugging Face. Paths of this machine are left out, and without --results the names of trial
lists too. Every command accepts this folder as MODEL.

--onnx (pip install 'rawnext[onnx]') writes a file that runs without this package. Inputs: wave (B, T) float32 at 16 kHz
in [-1, 1], zero-padded, and lengths (B,) int64 in samples, at least 1,600. Output: embedding (B, D), equal to that of
`rawnext embed`. The file is written only if ONNX Runtime reproduces PyTorch's embeddings at 0.1 to 30 s. With --int8
the matrices have 8 bits, and the embeddings differ a little."""


def add_to(commands: argparse._SubParsersAction) -> None:
    parser = add_command(commands, "info", info, "describe a model",
                         "Print size, configuration, training and calibrations of a model.")
    parser.add_argument("model", metavar="MODEL")
    add_json(parser)
    parser = add_command(commands, "export", export, "export a model to ONNX or safetensors", EXPORT)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--onnx", metavar="FILE", type=Path, help="file to write")
    parser.add_argument("--int8", action="store_true", help="8 bits for the matrices of --onnx: a smaller file, less "
                        "accurate")
    parser.add_argument("--safetensors", metavar="DIR", type=Path, help="folder to write")
    parser.add_argument("--licence", "--license", default="unknown", metavar="NAME",
                        help="licence of the weights, as named by Hugging Face: apache-2.0, cc-by-4.0, other")
    parser.add_argument("--training-data", default="", metavar="TEXT", help="description of the training data")
    parser.add_argument("--results", action="store_true", help="put the results into the model card")


def info(args: argparse.Namespace) -> None:
    from rawnext.export.release import describe
    from rawnext.inference.extract import load_model

    folder = model_folder(args)
    print_facts(describe(folder, *load_model(folder)), args.json)


def export(args: argparse.Namespace) -> None:
    if not (args.onnx or args.safetensors):
        raise InputError("rawnext export", None, "needs --onnx FILE, --safetensors DIR, or both")
    if args.int8 and not args.onnx:
        raise InputError("--int8", None, "needs --onnx FILE")
    folder = model_folder(args)
    if args.safetensors:
        from rawnext.export.release import export_safetensors

        export_safetensors(folder, args.safetensors, args.licence, args.training_data, args.results)
        print(f"wrote {args.safetensors}/model.safetensors, config.yaml and README.md")
    if args.onnx:
        from rawnext.export.onnx import export_onnx

        print(f"wrote {args.onnx}: {export_onnx(folder, args.onnx, args.int8)}")
