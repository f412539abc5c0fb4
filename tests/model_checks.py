# SPDX-License-Identifier: Apache-2.0
"""Checks shared by all models: parity with released code, any length, a batch equals its utterances, counts."""

import json
import zlib

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

# the options of a narrow network of each kind
SMALL = {
    "rawnext": {"channels": [8, 8, 16, 16, 16, 16], "blocks": [2, 2, 2, 2], "cardinality": 8, "embedding_dim": 8},
    "resnext": {"channels": [8, 8, 16, 16, 16, 16], "blocks": [1, 1, 1, 1], "cardinality": 8, "embedding_dim": 8},
    "rawnet2": {"channels": [8] * 6, "blocks": [1] * 6, "embedding_dim": 8},
    "rawnet3": {"channels": 32, "filters": 16, "fused": 32, "attention": 8, "embedding_dim": 8},
    "mr_rawnet": {"filters": 16, "channels": 16, "fused": 32, "attention": 8, "embedding_dim": 8, "blocks": [1, 1, 1]},
    "ecapa_tdnn": {"channels": 32, "fused": 32, "embedding_dim": 8},
    "next_tdnn": {"channels": 32, "blocks": [1, 1, 1], "embedding_dim": 8},
    "resnet34": {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], "embedding_dim": 8},
}


def error(a, b) -> float:
    """Largest difference, relative to the largest value of b."""
    a, b = (torch.as_tensor(np.asarray(v)) if not torch.is_tensor(v) else v.detach() for v in (a, b))
    return float((a - b).abs().max() / b.abs().max())


def state_dict(z) -> dict[str, torch.Tensor]:
    """A fixture's weights under their official keys: stored, or made by the recipe in tests/data/parity/README.md."""
    state = {key[3:]: torch.from_numpy(z[key]) for key in z.files if key.startswith("sd/")}
    meta = json.loads(str(z["meta"]))
    shapes = meta.get("shapes", {})  # the form of RawNet3's and MR-RawNet's files
    for key, (kind, *shape) in meta.get("keys", {key: (meta["kinds"][key], *shapes[key]) for key in shapes}).items():
        if kind == "counter":
            state[key] = torch.tensor(0)
        elif kind != "stored":
            g = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
            value = {"weight": g / np.sqrt(np.prod(shape[1:])), "transposed": g / np.sqrt(shape[0]),
                     "gain": 1 + 0.2 * g, "bias": 0.1 * g, "prelu": 0.25 + 0.1 * g}[kind]
            state[key] = torch.from_numpy(value.astype(np.float32))
    return state


def activation_error(value, z, key: str, frames: int = 20, channels: int = 4) -> float:
    """Error of a module's output against act/<key>, of which the fixture holds this many frames and channels."""
    for axis in range(1, value.ndim):
        value = value.narrow(axis, 0, min(value.shape[axis], frames if axis == value.ndim - 1 else channels))
    assert value.shape == z[f"act/{key}"].shape
    return error(value, z[f"act/{key}"])


def randomise(model, seed: int = 0):
    """Random BatchNorm statistics and 1-dimensional parameters, so that all have an effect; float64, eval mode."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if sum(size > 1 for size in parameter.shape) < 2:
            torch.nn.init.normal_(parameter, float(name.endswith("weight")), 0.3)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model.double().eval()


def check_training_step(z, model, rename, tolerance: float) -> None:
    """One training-mode forward and backward of a float64 model equals the fixture's.

    rename: dict with official keys -> dict with ours.   tolerance: relative, of the embedding,
        the running mean and the norm of each gradient.
    """
    meta = json.loads(str(z["meta"]))
    x = torch.from_numpy(z["train/x"]).double()
    e = model.train().embed(x.squeeze(1)) if x.ndim == 3 else model.train()(x)   # (B, 1, T) is pre-emphasised
    assert error(e, z["train/emb_f64"]) < tolerance
    (e * torch.from_numpy(z["train/v"]).double()).sum().backward()
    (buffer,) = rename({meta["train_bn_after_key"]: None})
    assert error(model.get_buffer(buffer), z["train/bn_after"]) < tolerance
    expected = {name: norm for name, norm in rename(meta["train_grad_norms"]).items() if norm is not None}
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
    assert set(norms) == set(expected)
    largest = max(expected.values())
    for name, norm in norms.items():
        assert abs(norm - expected[name]) < tolerance * max(expected[name], 1e-3 * largest), name


def check_batch_equals_single(model, lengths, more: int = 0) -> None:
    """In evaluation mode, utterances in a padded batch get the embeddings that they get alone, up to rounding.

    more: samples of padding after the longest utterance. The padding's values are large and must not matter.
    """
    waves = [torch.randn(num).double() for num in lengths]
    batch = torch.full((len(waves), max(lengths) + more), 1e3).double()
    for row, wave in zip(batch, waves):
        row[: len(wave)] = wave
    exact = None
    with torch.no_grad():
        for kind, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
            model.to(kind)
            single = torch.cat([model(wave[None].to(kind)) for wave in waves])
            assert single.shape == (len(waves), model.embedding_dim) and torch.isfinite(single).all()
            exact = single if exact is None else exact
            # the deviation over a single frame is nothing but rounding error, which is therefore allowed for
            rounding = error(single.double(), exact)
            assert rounding < 0.01
            assert error(model(batch.to(kind), torch.tensor(lengths)), single) < tolerance + 4 * rounding


def num_parameters(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def gmacs(model, num_samples: int, without: str = "") -> float:
    """Multiplications in 1e9 for one utterance, excluding those of the submodule `without`."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.randn(1, num_samples))
    counts = {name: sum(operations.values()) for name, operations in counter.get_flop_counts().items()}
    return (counts["Global"] - (counts[f"{type(model).__name__}.{without}"] if without else 0)) / 2e9
