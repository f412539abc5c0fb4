# SPDX-License-Identifier: Apache-2.0
"""What stands between a waveform and a network."""

import contextlib

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16000
HOP = 160  # samples from one frame to the next
FFT = 512


class PreEmphasis(nn.Module):
    """First-order high-pass filter `y[t] = x[t + 1] - a x[t]`; the output is one sample shorter.

    Args:
        coefficient: a, between 0 and 1.
    Source: the released RawNeXt code; 59,050 samples of speech give the network's 59,049 = 3^10.
    """

    def __init__(self, coefficient: float = 0.97):
        super().__init__()
        self.coefficient = coefficient

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, T) samples in [-1, 1] -> (B, T - 1), and the lengths that go with it."""
        y = wave[..., 1:] - self.coefficient * wave[..., :-1]
        return y, None if lengths is None else lengths - 1


class AsIs(nn.Module):
    """The waveform itself, for networks that compute features of their own."""

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return wave, lengths


class LogMel(nn.Module):
    """Log mel energies: a Hamming window of 25 ms every 10 ms, 512 points, HTK's mel scale, no gradient.

    A frame stands on every 160th sample; the signal is reflected at both of its own ends, wherever these lie in a
    padded batch.

    Args:
        bands: mel bands between `low_hz` and `high_hz`.
        pre_emphasis: of the waveform, y[t] = x[t] - a x[t - 1] with x[-1] = x[1]; 0: none.
        norm: what is taken off each band over an utterance's frames: its mean; with "variance" the deviation is divided
            out too (biased, 1e-5 added to the variance); "none".
    """

    def __init__(self, bands: int = 80, low_hz: float = 0.0, high_hz: float = 8000.0, pre_emphasis: float = 0.0,
                 norm: str = "mean"):
        super().__init__()
        from torchaudio.transforms import MelSpectrogram

        if norm not in ("mean", "variance", "none"):
            raise ValueError(f"norm: mean, variance or none, got {norm!r}")
        self.bands, self.pre_emphasis, self.norm = bands, pre_emphasis, norm
        self.mel = MelSpectrogram(SAMPLE_RATE, FFT, 400, HOP, low_hz, high_hz, n_mels=bands, center=False,
                                  window_fn=torch.hamming_window)

    @torch.no_grad()
    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, T) samples, zero-padded, (B,) lengths or None -> (B, L, bands) and its lengths; L = T // 160 + 1."""
        with full_precision(wave.device.type):
            x = self.mel(reflect(self.emphasise(wave), lengths, FFT // 2)).clamp(min=0).add(1e-6).log().transpose(1, 2)
        return self.normalise(x, frames := None if lengths is None else lengths // HOP + 1), frames

    def emphasise(self, wave: Tensor) -> Tensor:
        if not self.pre_emphasis:
            return wave
        return wave - self.pre_emphasis * torch.cat([wave[:, 1:2], wave[:, :-1]], dim=1)

    def normalise(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if self.norm == "none":
            return x
        num = x.shape[1] if lengths is None else lengths[:, None, None]
        own = torch.ones_like(x[..., :1]) if lengths is None else \
            (torch.arange(x.shape[1], device=x.device) < lengths[:, None]).unsqueeze(-1).to(x.dtype)
        x = (x - (own * x).sum(1, keepdim=True) / num) * own
        if self.norm == "variance":
            x = x / (x.square().sum(1, keepdim=True) / num + 1e-5).sqrt()
        return x


def full_precision(device: str) -> contextlib.AbstractContextManager:
    """No autocast on this type of device; `meta`, where only shapes run, knows none."""
    return contextlib.nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


class SpecAugment(nn.Module):
    """In training, zeroes one band of frequencies and one stretch of time, the same ones for the whole batch.

    Args:
        freq, time: the masks are 0 to freq - 1 bands and 0 to time - 1 frames wide.
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
    """(B, T) with `num` samples mirrored before each utterance's first and behind its own last one, T > num.

    (B, T + 2 num); what follows a short utterance's mirrored end is no part of it.
    """
    if lengths is None:
        return nn.functional.pad(x.unsqueeze(1), (num, num), mode="reflect").squeeze(1)
    time = torch.arange(-num, x.shape[-1] + num, device=x.device).abs()
    last = lengths[:, None] - 1
    return x.gather(1, torch.where(time > last, 2 * last - time, time).clamp(0, x.shape[-1] - 1))


def tile_short(x: Tensor, lengths: Tensor | None, least: int) -> tuple[Tensor, Tensor | None]:
    """Repeat each utterance that is shorter than `least` samples until it has just so many.

    Args:
        x: (B, T), zero-padded.   lengths: (B,) samples, or None when all have T.
    """
    if lengths is None:
        num = x.shape[-1]
        return (x if num >= least else x.repeat(1, -(-least // num))[:, :least]), None
    if int(lengths.min()) >= least:
        return x, lengths
    return repeat_short(x, lengths, least, max(x.shape[-1], least))


def repeat_short(x: Tensor, lengths: Tensor, least: int, total: int) -> tuple[Tensor, Tensor]:
    """`tile_short` without a question to the numbers, into (B, total): total is T or more, and least or more."""
    time = torch.arange(total, device=x.device)
    source = torch.where(lengths[:, None] < least, time % lengths[:, None], time.clamp(max=x.shape[-1] - 1))
    return x.gather(1, source), lengths.clamp(min=least)
