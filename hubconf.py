# SPDX-License-Identifier: Apache-2.0
"""Models for torch.hub, which reads this file in a checkout or on GitHub."""

dependencies = ["torch", "numpy", "omegaconf", "safetensors", "soundfile", "tqdm"]


def rawnext(model: str = "pretrained", **options):
    """A rawnext.Extractor: waveforms of any length to embeddings.

    Args:
        model: `pretrained`, the model of the package; a folder; or an address (rawnext/download.py).
        options: device, longest_s, warn, vad, as in Extractor.from_pretrained.
    """
    from rawnext import Extractor

    return Extractor.from_pretrained(model, **options)


def rawnext_network(model: str = "pretrained"):
    """The network itself, a torch module in evaluation mode on the CPU.

    Its forward takes wave (B, T) at 16 kHz, zero-padded, and lengths (B,) in samples or None, and returns (B, D).
    Args: model: see rawnext.
    """
    from rawnext.config import model_folder
    from rawnext.inference.extract import load_model

    return load_model(model_folder(model))[0]
