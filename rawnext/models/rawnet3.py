# SPDX-License-Identifier: Apache-2.0
"""RawNet3: learned sinc filters, Res2 blocks with feature map scaling, attention with global context.

Source: Jung, Kim, Heo, Lee, Kwon, Chung, "Pushing the limits of raw waveform speaker recognition", Interspeech 2022,
and the code released with it. docs/reference/systems/rawnet.md lists the differences.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rawnext.models import MODELS
from rawnext.models.base import SpeakerModel
from rawnext.models.ecapa_tdnn import Res2
from rawnext.models.features import SAMPLE_RATE, reflected_pre_emphasis, without_autocast
from rawnext.models.layers import pointwise
from rawnext.models.masking import max_pool, time_mean, zero_tail
from rawnext.models.pooling import AttentiveStatsPooling
from rawnext.models.rawnet2 import Scaling

LEAST_HZ = 50  # lowest edge and smallest width of a filter's band


class WaveNorm(nn.Module):
    """Pre-emphasis; then mean 0, variance 1 over each utterance's own samples, times a learned gain plus an offset."""

    coefficient = 0.9700000286102295  # 0.97 in float32, as in the released code

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) samples -> (B, T), zero after each utterance's end."""
        x = reflected_pre_emphasis(wave, self.coefficient).unsqueeze(-1)
        x = x - time_mean(x, lengths).unsqueeze(1)
        variance = time_mean(x.square(), lengths).unsqueeze(1)
        x = x / (variance + 1e-4).sqrt() * self.weight + self.bias
        return zero_tail(x, lengths).squeeze(-1)


class SincBank(nn.Module):
    """Band-pass filters with learned edges; logarithm of the magnitudes, minus its mean over time.

    The first half of the filters are cosines, the second half the sines of the same bands.

    Args:
        filters: F, even.   kernel: K, odd, in samples.   stride: S, in samples.   padding: zeros on both sides.
    Raises: ValueError: an odd number of filters.
    Source: Ravanelli, Bengio, "Speaker recognition from raw waveform with SincNet", 2018, with the sines of Pariente et
        al., "Filterbank design for end-to-end speech separation", 2020 (asteroid-filterbanks' ParamSincFB).
    """

    n: Tensor
    window: Tensor

    def __init__(self, filters: int, kernel: int, stride: int, padding: int = 0):
        super().__init__()
        if filters < 2 or filters % 2:
            raise ValueError(f"filters: an even number, got {filters}")
        self.kernel, self.stride, self.padding = kernel, stride, padding
        lowest, highest = (2595 * math.log10(1 + hz / 700) for hz in (30, SAMPLE_RATE / 2 - 2 * LEAST_HZ))
        mel = torch.linspace(lowest, highest, filters // 2 + 1, dtype=torch.float64)
        hz = 700 * (10 ** (mel / 2595) - 1)
        self.low_hz = nn.Parameter(hz[:-1, None].float())
        self.band_hz = nn.Parameter(hz.diff()[:, None].float())
        half = kernel // 2  # the other half mirrors it; rounded to float32, as in the released code
        time = 2 * math.pi * (torch.arange(-half, 0.0) / SAMPLE_RATE)
        window = torch.hamming_window(kernel, periodic=False, dtype=torch.float64)[:half].float()
        self.register_buffer("n", time, persistent=False)
        self.register_buffer("window", window, persistent=False)

    def filters(self) -> Tensor:
        """(F, K)."""
        low = LEAST_HZ + self.low_hz.abs()
        high = (low + LEAST_HZ + self.band_hz.abs()).clamp(LEAST_HZ, SAMPLE_RATE / 2)
        scale = self.window / (self.n / 2)
        cosine = ((high * self.n).sin() - (low * self.n).sin()) * scale
        sine = ((low * self.n).cos() - (high * self.n).cos()) * scale
        width = 2 * (high - low)
        cosines = torch.cat([cosine, width, cosine.flip(1)], dim=1)
        sines = torch.cat([sine, torch.zeros_like(width), -sine.flip(1)], dim=1)
        return torch.cat([cosines / width, sines / width])

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, T) samples, zero after each end -> (B, L, F) and its lengths; L = (T + 2 padding - K) // S + 1."""
        with without_autocast(x.device):  # the logarithm needs float32 near 0
            y = F.conv1d(x.unsqueeze(1), self.filters().unsqueeze(1), stride=self.stride, padding=self.padding)
            y = (y.abs() + 1e-6).log().transpose(1, 2)
            if lengths is not None:
                lengths = (lengths + 2 * self.padding - self.kernel) // self.stride + 1
            return y - time_mean(y, lengths).unsqueeze(1), lengths


class ScaledRes2Block(Res2):
    """Residual block; a max-pool over `pool` frames; feature map scaling."""

    def __init__(self, inputs: int, channels: int, dilation: int, scale: int, pool: int = 1):
        super().__init__(inputs, channels, dilation, scale)
        self.pool = pool
        self.shortcut = nn.Conv1d(inputs, channels, 1, bias=False) if inputs != channels else None
        self.afms = Scaling(channels)

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, L, inputs) -> (B, L // pool, channels) and its lengths."""
        skip = x if self.shortcut is None else pointwise(self.shortcut, x)
        y = self.residual(x, lengths) + skip
        if self.pool > 1:
            y, lengths = max_pool(y, lengths, self.pool)
        return self.afms(y, lengths), lengths


@MODELS.register("rawnet3")
class RawNet3(SpeakerModel):
    """Raw waveform of any length -> speaker embedding.

    Args:
        channels: C.   filters: of the sinc bank.   stride: of the sinc bank, in samples.
        fused: width after the fusion of the three blocks' outputs.   attention: width of the pooling's attention.
        scale: groups of channels in a block; divides channels.
    Raises: ValueError: scale does not divide channels; an odd number of filters.
    """

    def __init__(self, channels: int = 1024, filters: int = 256, fused: int = 1536, attention: int = 128,
                 embedding_dim: int = 256, scale: int = 8, stride: int = 10):
        super().__init__()
        self.embedding_dim = embedding_dim
        self.wave_norm = WaveNorm()
        self.sinc = SincBank(filters, 251, stride)
        self.layer1 = ScaledRes2Block(filters, channels, 2, scale, pool=5)
        self.layer2 = ScaledRes2Block(channels, channels, 3, scale, pool=3)
        self.layer3 = ScaledRes2Block(channels, channels, 4, scale)
        self.layer4 = nn.Conv1d(3 * channels, fused, 1)
        self.pooling = AttentiveStatsPooling(fused, attention, context=True, least=1e-4, most=1e4)
        self.bn5 = nn.BatchNorm1d(2 * fused)
        self.fc6 = nn.Linear(2 * fused, embedding_dim)

    def encode(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x, lengths = self.sinc(self.wave_norm(x, lengths), lengths)
        x1, lengths = self.layer1(x, lengths)
        x2, pooled_lengths = self.layer2(x1, lengths)
        x1, _ = max_pool(x1, lengths, 3)
        x3, _ = self.layer3(x1 + x2, pooled_lengths)
        x = F.relu(pointwise(self.layer4, torch.cat([x1, x2, x3], dim=-1)))
        return self.fc6(self.bn5(self.pooling(x, pooled_lengths)))
