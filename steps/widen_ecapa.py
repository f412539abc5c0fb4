#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Widen a trained ECAPA-TDNN: the new model gives the same scores, and training goes on from there.

steps/widen_ecapa.py --channels 384 --fused 480 --embedding-dim 192 exp/ecapa_tdnn exp/wide
steps/train.py --init exp/wide ...

Added channels are copies of trained ones. Each weight of the next layer is split at random between a channel and its
copies, so that training changes each in its own way. Added dimensions of the embedding start at 0.
Source: Chen, Goodfellow, Shlens, "Net2Net: accelerating learning via knowledge transfer", ICLR 2016, Net2WiderNet.
"""

from pathlib import Path

from rawnext.errors import ArgumentParser, InputError, run_main


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, required=True, help="as in the model's configuration, as the next two")
    parser.add_argument("--fused", type=int, required=True)
    parser.add_argument("--embedding-dim", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("exp", type=Path, help="trained experiment")
    parser.add_argument("wide", type=Path, help="experiment folder to create")
    args = parser.parse_args()
    if (args.wide / "model.pt").exists():
        raise InputError(args.wide / "model.pt", None, "already exists; name another folder")

    import torch

    from rawnext.config import load_config, save_config
    from rawnext.models import MODELS
    from rawnext.training import checkpoint
    from rawnext.training.info import write_info

    config = load_config([args.exp / "config.yaml"])
    if config.model["name"] != "ecapa_tdnn":
        raise InputError(args.exp / "config.yaml", None, f"want model ecapa_tdnn, got {config.model['name']}")
    state = checkpoint.load_state(args.exp)
    new = {"channels": args.channels, "fused": args.fused, "embedding_dim": args.embedding_dim}
    config.model = {**config.model, **new}
    options = {key: value for key, value in config.model.items() if key != "name"}
    torch.manual_seed(args.seed)
    try:
        model = MODELS.build("ecapa_tdnn", options)
        weights = widen(state["model"], model.state_dict(), scale=options.get("scale", 8))
    except ValueError as error:
        raise InputError(args.wide, None, str(error)) from None
    model.load_state_dict(weights)
    save_config(config, args.wide / "config.yaml")
    write_info(args.wide, model, config, widened_from=str(args.exp))
    heads = {name: widen_head(head, args.embedding_dim) for name, head in state.get("losses", {}).items()}
    if state.get("student"):
        state["student"] = widen_head(state["student"], args.embedding_dim)
    checkpoint.save(args.wide / "model.pt", {**state, "model": weights, "losses": heads, "epoch": 0, "step": 0})
    num = sum(p.numel() for p in model.parameters())
    print(f"widen_ecapa.py: wrote {args.wide}/model.pt ({num:,} parameters)")


def widen(old: dict, new: dict, scale: int) -> dict:
    """The weights of a narrow model in the shapes of `new`, the state of a wider one with random weights.

    Args: scale: groups of channels in a block, each of which is widened by itself.
    Raises: ValueError: a layer is not wider than before, or more than twice as wide.
    """
    import torch

    channels = copies(old["conv1.bias"].numel(), new["conv1.bias"].numel(), scale)
    group = copies(old["layer1.bns.0.bias"].numel(), new["layer1.bns.0.bias"].numel())
    fused = copies(old["layer4.bias"].numel(), new["layer4.bias"].numel())
    num_old, num_new = old["fc6.bias"].numel(), new["fc6.bias"].numel()
    if num_new < num_old:
        raise ValueError(f"the embedding has {num_old} dimensions; it cannot become {num_new}")
    both, three = repeat(fused, 2), repeat(fused, 3)
    # The layers by the start of their names: which channels they write, and which they read.
    layers = {"conv1": (channels, None), "bn1": (channels, None), "layer4": (fused, repeat(channels, 3)),
              "pooling.attention.0": (None, three), "pooling.attention.4": (fused, None), "bn5": (both, None),
              "fc6": (None, both)}
    for number in (1, 2, 3):
        block = f"layer{number}."
        for name in ("conv1", "conv3"):
            layers[block + name] = channels, channels
        for name in ("bn1", "bn3", "se.2"):
            layers[block + name] = channels, None
        for name in old:
            if name.startswith((block + "convs.", block + "bns.")):
                layers[name.rsplit(".", 1)[0]] = group, group
        layers[block + "se.0"] = None, channels
    result = {}
    for name, weight in old.items():
        written, read = layers.get(name.rsplit(".", 1)[0], (None, None))
        if written is not None and weight.ndim:
            weight = weight[written]
        if read is not None and weight.ndim > 1:
            weight = weight[:, read] * shares(read, weight.shape)
        result[name] = weight
    for name in ("fc6.weight", "fc6.bias", "bn6.weight", "bn6.bias", "bn6.running_mean", "bn6.running_var"):
        added = new[name][num_old:]
        result[name] = torch.cat([result[name], torch.zeros_like(added) if name == "bn6.weight" else added])
    return result


def copies(old: int, new: int, groups: int = 1):
    """For each of `new` channels, in equal groups, the old one that it copies."""
    import torch

    if not old <= new <= 2 * old:
        raise ValueError(f"a layer of {old} channels can be widened to {old}...{2 * old}, not to {new}")
    if old % groups or new % groups:
        raise ValueError(f"{old} and {new} channels cannot be divided into {groups} groups")
    old, new = old // groups, new // groups
    return torch.cat([start * old + torch.arange(new) % old for start in range(groups)])


def repeat(index, times: int):
    """The index of `times` stacked inputs of the same channels."""
    import torch

    return torch.cat([index + number * (int(index.max()) + 1) for number in range(times)])


def shares(read, shape):
    """(outputs, new inputs, ...) random shares, which sum to 1 over an input and its copies."""
    import torch

    share = torch.rand(shape[0], len(read), *(1 for _ in shape[2:])) + 0.1
    sums = torch.zeros(shape[0], int(read.max()) + 1, *share.shape[2:]).index_add_(1, read, share)
    return share / sums[:, read]


def widen_head(head: dict, dim: int) -> dict:
    """The state of a classifier with small random weights for the added dimensions of the embedding."""
    import torch

    return {name: torch.cat([weight, 0.01 * torch.randn(len(weight), dim - weight.shape[1])], dim=1)
            if weight.ndim == 2 else weight for name, weight in head.items()}


if __name__ == "__main__":
    run_main(main)
