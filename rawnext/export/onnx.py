# SPDX-License-Identifier: Apache-2.0
"""A trained model as an ONNX file, for batches of any size and utterances of any length from 0.1 s.

Inputs: wave (B, T) float32, samples in [-1, 1], zero-padded; lengths (B,) int64, in samples. Output: embedding (B, D).
The file includes the front end, the repetition of short utterances and the masks, so it runs without this package.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.onnx.errors import OnnxExporterError

from rawnext.config import config_text, to_publish
from rawnext.errors import InputError
from rawnext.files import PathLike, atomic_path
from rawnext.identity import weights_path
from rawnext.inference.extract import load_model
from rawnext.models.features import FFT, HOP, SAMPLE_RATE, LogMel, repeat_short
from rawnext.models.folded import folded
from rawnext.stamp import sha256, stamp

INPUTS, OUTPUT = ("wave", "lengths"), "embedding"
OPSET = 18
SECONDS = (0.1, 0.137, 0.5, 1, 2, 3.7, 10, 30)  # durations at which a written file is checked
BATCH_SIZE = 6  # number of the first durations that are also checked as a padded batch
MAX_DIFFERENCE = 1e-3  # from PyTorch, relative to the largest value; a larger one is not due to rounding
MAX_DIFFERENCE_INT8 = 0.5  # of noise; speech differs less


class RealMel(nn.Module):
    """MelSpectrogram in real arithmetic: a convolution with windowed sines and cosines."""

    filters: Tensor
    bands: Tensor

    def __init__(self, mel: Any):
        super().__init__()
        size, window = FFT, mel.spectrogram.window.double()
        window = F.pad(window, ((size - len(window)) // 2, (size - len(window) + 1) // 2))
        wave = torch.fft.rfft(torch.eye(size, dtype=torch.float64) * window).T  # (size / 2 + 1, size)
        self.register_buffer("filters", torch.cat([wave.real, wave.imag]).unsqueeze(1).float())
        self.register_buffer("bands", mel.mel_scale.fb.T.unsqueeze(-1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) -> (B, bands, L)."""
        real, imag = F.conv1d(x.unsqueeze(1), self.filters, stride=HOP).square().chunk(2, dim=1)
        return F.conv1d(real + imag, self.bands)


class Exportable(nn.Module):
    """A model's forward without branches that depend on the input: one graph for all lengths, with and without padding.

    Signals are padded to a multiple of the model's least_samples; the masks exclude the padding.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model: Any = folded(model)
        for module in list(self.model.modules()):
            if isinstance(module, LogMel):
                module.mel = RealMel(module.mel)  # type: ignore[assignment]

    def forward(self, wave: Tensor, lengths: Tensor) -> Tensor:
        x, lengths = self.model.frontend(wave, lengths)
        least = self.model.least_samples
        total = (x.shape[1] + least - 1) // least * least
        return self.model.encode(*repeat_short(x, lengths, least, total))


def export_onnx(exp: PathLike, path: PathLike, int8: bool = False) -> str:
    """Write the model of an experiment folder as ONNX, with its configuration and origin as metadata.

    Args: int8: see write_onnx.
    Returns: a description of the file's size and accuracy.
    Raises: InputError: see write_onnx; or the experiment's model cannot be read.
    """
    model, config = load_model(exp)
    weights = weights_path(exp)
    # the first four have the names and meanings that sherpa-onnx gives them
    metadata = {"framework": "rawnext", "sample_rate": str(SAMPLE_RATE), "output_dim": str(model.embedding_dim),
                "normalize_samples": "1", "input": "waveform", "weights": "int8" if int8 else "float32",
                "model_sha256": sha256(weights), **stamp(),
                "config": config_text(to_publish(config))}
    difference = write_onnx(model, path, metadata, int8)
    return (f"{Path(path).stat().st_size / 2**20:.1f} MiB; embeddings differ from PyTorch's by at most "
            f"{difference:.1e} of the largest value, at {SECONDS[0]} to {SECONDS[-1]} s")


def write_onnx(model: nn.Module, path: PathLike, metadata: Mapping[str, str], int8: bool = False) -> float:
    """Write a model, on the CPU and in evaluation mode, as ONNX if the file agrees with PyTorch.

    Args:
        metadata: keys and values to store in the file.
        int8: the constant matrices of products have 8 bits, one scale for each column, and their inputs are rounded to
            8 bits when it runs. Convolutions stay in float32: rounded, they cost accuracy and gain no speed.
    Returns: the largest difference from PyTorch, relative to the largest value of the embeddings.
    Raises:
        InputError: onnx or onnxruntime is not installed, the path cannot be written, or the model has an operation that
            ONNX lacks.
        RuntimeError: the file's embeddings differ from the model's.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 (a missing package is reported before the work)
    except ImportError as error:
        raise InputError(path, None, f"{error.name} is not installed: pip install 'rawnext[onnx]'") from None
    if not os.fspath(path).isprintable():
        raise InputError(path, None, "the exporter needs a name that is UTF-8 text")
    if not any(True for _ in model.parameters()):
        raise InputError(path, None, "the model is not a network; ONNX lacks the sorting that it needs")
    with atomic_path(path) as temporary:
        try:
            trace(model, temporary)
        except OnnxExporterError as error:
            raise InputError(path, None, f"ONNX lacks an operation: {str(error).splitlines()[0]}") from None
        if int8:
            quantise(temporary)
        file = onnx.load(temporary)
        onnx.helper.set_model_props(file, dict(metadata))
        onnx.save(file, temporary)
        difference = max(differences(model, temporary))
        if not difference < (MAX_DIFFERENCE_INT8 if int8 else MAX_DIFFERENCE):
            raise RuntimeError(f"{path}: embeddings differ from PyTorch's by {difference:.2g}; nothing was written")
    return difference


@torch.no_grad()
def trace(model: nn.Module, path: Path) -> None:
    """Export by tracing, in seconds; the newer exporter with symbolic shapes takes minutes."""
    example = 0.1 * torch.randn(2, SAMPLE_RATE), torch.tensor([SAMPLE_RATE, SAMPLE_RATE // 2])
    axes = {INPUTS[0]: {0: "batch", 1: "samples"}, INPUTS[1]: {0: "batch"}, OUTPUT: {0: "batch"}}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # after an error it prints the graph
        warnings.simplefilter("ignore", DeprecationWarning)  # from the exporter itself
        torch.onnx.export(Exportable(model).eval(), example, str(path), dynamo=False, opset_version=OPSET,
                          input_names=list(INPUTS), output_names=[OUTPUT], dynamic_axes=axes)


def quantise(path: Path) -> None:
    """Replace the float32 matrices of an ONNX file by int8: see write_onnx."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file = onnx.load(path)
    onnx.helper.set_model_props(file, {"onnx.quant.pre_process": "onnxruntime.quant"})  # asks for no advice
    quantize_dynamic(file, path, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                     weight_type=QuantType.QInt8)


def runtime(path: PathLike, num_threads: int = 1) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function that runs an ONNX file by ONNX Runtime on the CPU: (B, T) float32, (B,) int64 -> (B, D)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda wave, lengths: session.run([OUTPUT], dict(zip(INPUTS, (wave, lengths))))[0]


@torch.inference_mode()
def differences(model: nn.Module, path: Path) -> Iterator[float]:
    """Relative differences of the file's embeddings of noise from the model's: each duration, then a padded batch."""
    run = runtime(path, torch.get_num_threads())
    lengths = [round(seconds * SAMPLE_RATE) for seconds in SECONDS]
    for batch in (*([num] for num in lengths), lengths[:BATCH_SIZE]):
        draw = torch.Generator().manual_seed(0)
        wave = pad_sequence([0.1 * torch.randn(num, generator=draw) for num in batch], batch_first=True)
        found, expected = run(wave.numpy(), np.array(batch)), model(wave, torch.tensor(batch)).numpy()
        yield float(np.abs(found - expected).max() / np.abs(expected).max())
