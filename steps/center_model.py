#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a trained model subtract a mean embedding: the new model's embeddings are those of the old one minus the mean.

steps/center_model.py exp/ecapa_tdnn exp/ecapa_tdnn/embeddings/cohort_native/spk_embedding.scp exp/centred

The mean is subtracted from the bias of the last layer. The new model has scores and a calibration of its own. It has no
classifier: to go on training, start from the old one.
"""

from pathlib import Path
from typing import Any

from rawnext.errors import ArgumentParser, InputError, run_main


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("exp", type=Path, help="trained experiment")
    parser.add_argument("embeddings", help="scp of its embeddings, best one per training speaker, of which the mean is "
                                           "subtracted")
    parser.add_argument("centred", type=Path, help="experiment folder to create")
    args = parser.parse_args()
    if (args.centred / "model.pt").exists():
        raise InputError(args.centred / "model.pt", None, "already exists; name another folder")

    import torch

    from rawnext.export.release import save_variant
    from rawnext.identity import one_model
    from rawnext.inference.extract import load_model
    from rawnext.scoring.embeddings import read_side
    from rawnext.training.checkpoint import fingerprint

    model, config = load_model(args.exp)
    side = read_side(args.embeddings)
    one_model({args.exp / "model.pt": fingerprint(config, model.state_dict()), args.embeddings: side.model})
    if side.x.shape[1] != model.embedding_dim:
        raise InputError(args.embeddings, None, f"{side.x.shape[1]} dimensions, but those of {args.exp} have "
                                                f"{model.embedding_dim}")
    mean = torch.from_numpy(side.x.mean(axis=0))
    if not subtract(mean, model):
        raise InputError(args.exp, None, f"model {config.model['name']} does not end in a layer with a bias")
    save_variant(args.exp, args.centred, model, config, heads=False)
    print(f"center_model.py: wrote {args.centred}/model.pt")


def subtract(mean: Any, model: Any) -> bool:
    """Subtract (D,) from the embeddings of a model.   Returns: False if its last layer has no bias for it."""
    import torch

    layers = [layer for layer in model.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.BatchNorm1d))]
    if not layers or layers[-1].bias is None or layers[-1].bias.shape != mean.shape:
        return False
    noise = torch.randn(1, 16000)
    with torch.inference_mode():
        expected = model(noise) - mean
        layers[-1].bias.sub_(mean)
        return bool((expected - model(noise)).abs().max() < 1e-4 * (expected.abs().max() + mean.abs().max()))


if __name__ == "__main__":
    run_main(main)
