# SPDX-License-Identifier: Apache-2.0
"""From waveforms to network inputs: level, pre-emphasis, log mel energies, SpecAugment, repeated short utterances."""

import contextlib
import math

import torch
from torch import Tensor, nn

from rawnext.models.masking import tail_mask, zero_tail

SAMPLE_RATE = 16000
HOP = 160  # samples from one frame to the next
FFT = 512


def set_level(wave: Tensor, lengths: Tensor | None, level: float) -> Tensor:
    """Scale each utterance to a root mean square of `level` over its own samples; silence stays silence.

    The network then gets the same input from a loud and a quiet recording of one signal.

    Args:
        wave: (B, T) samples, zero-padded.   lengths: (B,) samples, or None if all have T.
    Returns: (B, T).
    """
    power = wave.square()
    if lengths is not None:  # the values of the padding are not trusted
        power = power.masked_fill(tail_mask(wave.shape[-1], lengths), 0)
    num = wave.shape[-1] if lengths is None else lengths[:, None]
    rms = (power.sum(-1, keepdim=True) / num).sqrt()
    return wave * (level / rms.clamp(min=1e-6))


def pre_emphasis(wave: Tensor, lengths: Tensor | None = None,
                 coefficient: float = 0.97) -> tuple[Tensor, Tensor | None]:
    """First-order high-pass filter `y[t] = x[t + 1] - a x[t]`, one sample shorter than its input.

    Args:
        wave: (B, T) samples in [-1, 1].   lengths: (B,) samples, or None if all have T.   coefficient: a, in 0...1.
    Returns: (B, T - 1) and its lengths.
    Source: the released RawNeXt code; 59,050 samples of speech give the network's 59,049 = 3^10.
    """
    return wave[..., 1:] - coefficient * wave[..., :-1], None if lengths is None else lengths - 1


def reflected_pre_emphasis(wave: Tensor, coefficient: float) -> Tensor:
    """`y[t] = x[t] - a x[t - 1]` with x[-1] = x[1]: (B, T) -> (B, T)."""
    return wave - coefficient * torch.cat([wave[:, 1:2], wave[:, :-1]], dim=1)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Context for operations that need full precision."""
    if device.type == "meta":  # computes shapes only; autocast does not know it
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


class MelSpectrogram(nn.Module):
    """Energies in bands of the HTK mel scale: a 25 ms Hamming window every 10 ms, 512-point FFT, no padding.

    Its values, and the names of its buffers in saved weights, are those of torchaudio's class of this name. That is not
    used because torchaudio's wheel pins one torch build, so that this package cannot depend on it.
    """

    def __init__(self, bands: int, low_hz: float, high_hz: float):
        super().__init__()
        self.spectrogram, self.mel_scale = nn.Module(), nn.Module()
        self.spectrogram.register_buffer("window", torch.hamming_window(400))
        self.mel_scale.register_buffer("fb", mel_filters(bands, low_hz, high_hz))

    def forward(self, wave: Tensor) -> Tensor:
        """(B, T) -> (B, bands, L), L = (T - 512) // 160 + 1."""
        window: Tensor = self.spectrogram.window  # type: ignore[assignment]
        filters: Tensor = self.mel_scale.fb  # type: ignore[assignment]
        spectrum = torch.stft(wave, FFT, HOP, len(window), window, center=False, return_complex=True)
        return torch.matmul(spectrum.abs().square().transpose(1, 2), filters).transpose(1, 2)


def mel_filters(bands: int, low_hz: float, high_hz: float) -> Tensor:
    """(257, bands): triangles of height 1 whose corners are equally spaced on the HTK mel scale."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    corners = 700 * (10 ** (torch.linspace(low, high, bands + 2) / 2595) - 1)
    width = corners.diff()
    slopes = corners - torch.linspace(0, SAMPLE_RATE // 2, FFT // 2 + 1)[:, None]
    return torch.minimum(-slopes[:, :-2] / width[:-1], slopes[:, 2:] / width[1:]).clamp(min=0)


class LogMel(nn.Module):
    """Log mel energies: a 25 ms Hamming window every 10 ms, 512-point FFT, HTK mel scale, no gradient.

    Frames are centred on every 160th sample. Each utterance is reflected at its own ends, also in a padded batch.

    Args:
        bands: mel bands between `low_hz` and `high_hz`.
        pre_emphasis: a in y[t] = x[t] - a x[t - 1], x[-1] = x[1], applied to the waveform; 0: none.
        norm: normalisation of each band over an utterance's frames. "mean" subtracts the mean; "variance" also divides
            by the standard deviation (biased, 1e-5 added to the variance); "none".
    Raises: ValueError: another norm, or bands that the FFT cannot have.
    """

    def __init__(self, bands: int = 80, low_hz: float = 0.0, high_hz: float = 8000.0, pre_emphasis: float = 0.0,
                 norm: str = "mean"):
        super().__init__()
        if norm not in ("mean", "variance", "none"):
            raise ValueError(f"norm: mean, variance or none, got {norm!r}")
        if not 1 <= bands <= FFT // 2:
            raise ValueError(f"bands: 1 to {FFT // 2}, got {bands}")
        self.bands, self.low_hz, self.high_hz = bands, low_hz, high_hz
        self.pre_emphasis, self.norm = pre_emphasis, norm
        with torch.device("cpu"):  # for these values, a model on the meta device would load torch's compiler
            self.mel = MelSpectrogram(bands, low_hz, high_hz)

    @torch.no_grad()
    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, T) samples, zero-padded, and (B,) lengths or None -> (B, L, bands) and its lengths; L = T // 160 + 1."""
        if self.pre_emphasis:
            wave = reflected_pre_emphasis(wave, self.pre_emphasis)
        with without_autocast(wave.device):
            x = self.mel(reflect(wave, lengths, FFT // 2)).clamp(min=0).add(1e-6).log().transpose(1, 2)
        return self.normalise(x, frames := None if lengths is None else lengths // HOP + 1), frames

    def normalise(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, L, bands) -> (B, L, bands), zero after each utterance's end unless `norm` is none."""
        if self.norm == "none":
            return x
        num = x.shape[1] if lengths is None else lengths[:, None, None]
        x = zero_tail(x - zero_tail(x, lengths).sum(1, keepdim=True) / num, lengths)
        if self.norm == "variance":
            x = x / (x.square().sum(1, keepdim=True) / num + 1e-5).sqrt()
        return x


class SpecAugment(nn.Module):
    """In training, zeroes one band of frequencies and one span of frames, the same for the whole batch.

    Args:
        freq, time: exclusive upper limits of the masks' widths, in bands and frames.
    Source: Park et al., "SpecAugment", 2019, without warping.
    """

    def __init__(self, freq: int = 8, time: int = 10):
        super().__init__()
        self.freq, self.time = freq, time

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, bands) -> (B, L, bands)."""
        if not self.training:
            return x
        keep = torch.ones_like(x[:1])
        for axis, limit in ((2, self.freq), (1, self.time)):
            size = x.shape[axis]
            width = min(int(torch.rand(()) * limit), size)
            start = int(torch.rand(()) * (size - width))
            keep.narrow(axis, start, width).zero_()
        return x * keep


def reflect(x: Tensor, lengths: Tensor | None, num: int) -> Tensor:
    """Mirror `num` samples before each utterance's first sample and after its last: (B, T) -> (B, T + 2 num), T > num.

    In a padded batch, values after an utterance's mirrored end are arbitrary.
    """
    if lengths is None:
        return nn.functional.pad(x.unsqueeze(1), (num, num), mode="reflect").squeeze(1)
    time = torch.arange(-num, x.shape[-1] + num, device=x.device).abs()
    last = lengths[:, None] - 1
    return x.gather(1, torch.where(time > last, 2 * last - time, time).clamp(0, x.shape[-1] - 1))


def tile_short(x: Tensor, lengths: Tensor | None, min_samples: int) -> tuple[Tensor, Tensor | None]:
    """Repeat each utterance shorter than `min_samples` up to exactly that length.

    Args:
        x: (B, T), zero-padded.   lengths: (B,) samples, or None if all have T.
    """
    if lengths is None:
        num = x.shape[-1]
        return (x if num >= min_samples else x.repeat(1, -(-min_samples // num))[:, :min_samples]), None
    if int(lengths.min()) >= min_samples:
        return x, lengths
    return repeat_short(x, lengths, min_samples, max(x.shape[-1], min_samples))


def repeat_short(x: Tensor, lengths: Tensor, min_samples: int, total: int) -> tuple[Tensor, Tensor]:
    """`tile_short` without data-dependent branches, for tracing: (B, T) -> (B, total), total >= T and min_samples."""
    time = torch.arange(total, device=x.device)
    source = torch.where(lengths[:, None] < min_samples, time % lengths[:, None], time.clamp(max=x.shape[-1] - 1))
    return x.gather(1, source), lengths.clamp(min=min_samples)
