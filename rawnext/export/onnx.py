# SPDX-License-Identifier: Apache-2.0
"""A trained model as an ONNX file, for any number of utterances of any lengths from 0.1 s.

Inputs: wave (B, T) float32, samples in [-1, 1], zero-padded; lengths (B,) int64, samples. Output: embedding (B, D).
Front end, repetition of short utterances and masks are in the file: whoever runs it needs nothing of ours.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path
from rawnext.inference.extract import load_model
from rawnext.models.features import HOP, SAMPLE_RATE, LogMel, repeat_short
from rawnext.models.folded import folded
from rawnext.stamp import sha256, stamp
from rawnext.training import checkpoint

INPUTS, OUTPUT = ("wave", "lengths"), "embedding"
OPSET = 18
SECONDS = (0.1, 0.137, 0.5, 1, 2, 3.7, 10, 30)  # that a written file is checked at, one by one
TOGETHER = 6  # the first of these also as one padded batch
LIMIT = 1e-3  # of the difference from PyTorch, relative to the largest number: more is no rounding


class RealMel(nn.Module):
    """torchaudio's MelSpectrogram by real numbers alone: the window's sines and cosines as filters of a convolution."""

    filters: Tensor
    bands: Tensor

    def __init__(self, mel: Any):
        super().__init__()
        spectrogram = mel.spectrogram
        size, window = spectrogram.n_fft, spectrogram.window.double()
        window = F.pad(window, ((size - len(window)) // 2, (size - len(window) + 1) // 2))
        wave = torch.fft.rfft(torch.eye(size, dtype=torch.float64) * window).T  # (size / 2 + 1, size)
        self.register_buffer("filters", torch.cat([wave.real, wave.imag]).unsqueeze(1).float())
        self.register_buffer("bands", mel.mel_scale.fb.T.unsqueeze(-1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, bands, L)."""
        real, imag = F.conv1d(x.unsqueeze(1), self.filters, stride=HOP).square().chunk(2, dim=1)
        return F.conv1d(real + imag, self.bands)


class Exportable(nn.Module):
    """A model's forward without questions to the numbers: one graph for short and long, full and padded.

    The signals are filled up to a multiple of what the model takes at least; the masks hide that.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = folded(model)
        for module in list(self.model.modules()):
            if isinstance(module, LogMel):
                module.mel = RealMel(module.mel)

    def forward(self, wave: Tensor, lengths: Tensor) -> Tensor:
        x, lengths = self.model.frontend(wave, lengths)
        least = self.model.least_samples
        total = (x.shape[1] + least - 1) // least * least
        return self.model.encode(*repeat_short(x, lengths, least, total))


def export_onnx(exp: PathLike, path: PathLike) -> str:
    """Write the model of an experiment folder as ONNX, with its configuration and what it was made of as metadata.

    Returns: size and check in words.   Raises: InputError: see write_onnx; the experiment's model cannot be read.
    """
    model, _ = load_model(exp, torch.device("cpu"))
    weights = checkpoint.weights_path(exp)
    metadata = {"sample_rate": str(SAMPLE_RATE), "model_sha256": sha256(weights), **stamp(),
                "config": (Path(exp) / "config.yaml").read_text(encoding="utf-8")}
    difference = write_onnx(model, path, metadata)
    return (f"{Path(path).stat().st_size / 2**20:.1f} MiB; its embeddings are PyTorch's up to {difference:.1e} of the "
            f"largest number, at {SECONDS[0]} to {SECONDS[-1]} s")


def write_onnx(model: nn.Module, path: PathLike, metadata: Mapping[str, str]) -> float:
    """Write a model, on the CPU and in evaluation mode, as ONNX if the file agrees with PyTorch.

    Args: metadata: words about the file, to be kept in it.
    Returns: largest difference from PyTorch, relative to the largest number of the embeddings.
    Raises:
        InputError: onnx or onnxruntime is not installed, the path cannot be written, or the model has an operation that
            ONNX has not.
        RuntimeError: the file gives other embeddings than the model.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 (known here, before the work)
    except ImportError as error:
        raise InputError(path, None, f"{error.name} is not installed: pip install 'rawnext[onnx]'") from None
    if not any(True for _ in model.parameters()):
        raise InputError(path, None, "the model is no network: ONNX has not what it sorts by")
    with atomic_path(path) as temporary:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            trace(model, temporary)
        except OnnxExporterError as error:
            raise InputError(path, None, f"the model has what ONNX has not: {str(error).splitlines()[0]}") from None
        file = onnx.load(temporary)
        onnx.helper.set_model_props(file, dict(metadata))
        onnx.save(file, temporary)
        difference = max(differences(model, temporary))
        if not difference < LIMIT:
            raise RuntimeError(f"{path}: embeddings differ from PyTorch's by {difference:.2g}; nothing was written")
    return difference


@torch.no_grad()
def trace(model: nn.Module, path: Path) -> None:
    """Export by tracing; the newer exporter, by symbolic shapes, takes minutes where this takes seconds."""
    example = 0.1 * torch.randn(2, SAMPLE_RATE), torch.tensor([SAMPLE_RATE, SAMPLE_RATE // 2])
    axes = {INPUTS[0]: {0: "batch", 1: "samples"}, INPUTS[1]: {0: "batch"}, OUTPUT: {0: "batch"}}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # on failure it prints all of the graph
        warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter itself
        torch.onnx.export(Exportable(model).eval(), example, str(path), dynamo=False, opset_version=OPSET,
                          input_names=list(INPUTS), output_names=[OUTPUT], dynamic_axes=axes)


class OnnxModel:
    """An ONNX file in ONNX Runtime on the CPU."""

    def __init__(self, path: PathLike, num_threads: int = 1):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, wave: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """(B, T) float32, (B,) int64 -> (B, D)."""
        return self.session.run([OUTPUT], dict(zip(INPUTS, (wave, lengths))))[0]


@torch.inference_mode()
def differences(model: nn.Module, path: Path) -> Iterator[float]:
    """Of the file's embeddings of noise from the model's, relative, at several lengths and in a padded batch."""
    runtime = OnnxModel(path, torch.get_num_threads())
    lengths = [round(seconds * SAMPLE_RATE) for seconds in SECONDS]
    for batch in (*([num] for num in lengths), lengths[:TOGETHER]):
        wave, num = padded(batch)
        found, expected = runtime(wave.numpy(), num.numpy()), model(wave, num).numpy()
        yield float(np.abs(found - expected).max() / np.abs(expected).max())


def padded(lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Noise of these lengths (B,), zero-padded: (B, T)."""
    draw = torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(num, generator=draw) for num in lengths]
    return nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor(lengths)
