# SPDX-License-Identifier: Apache-2.0
"""RawNet3 and MR-RawNet in a second, independent form: channels first, for waveforms of equal length.

w: a state dict of rawnext's model, in float64.
"""

import numpy as np
import torch
import torch.nn.functional as F


def sinc(x, w, name, kernel, stride, padding):
    """(B, 1, T) -> (B, F, L): each filter is the difference of two windowed low-passes, by np.sinc and by cosines."""
    low, band = (w[f"{name}.{key}_hz"].numpy().ravel() for key in ("low", "band"))
    low = 50 + np.abs(low)
    high = np.clip(low + 50 + np.abs(band), 50, 8000)
    half = kernel // 2
    k = np.arange(-half, half + 1)
    t = np.concatenate([part := (2 * np.pi * (np.arange(-half, 0, dtype=np.float32) / np.float32(16000))).astype(
        np.float32).astype(np.float64), [0], -part[::-1]]) / (2 * np.pi)   # the released code rounds it to float32
    window = np.hamming(kernel).astype(np.float32).astype(np.float64)
    window[half] = 1
    cosines, sines = [], []
    for f1, f2 in zip(low, high):
        cosines.append((2 * f2 * np.sinc(2 * f2 * t) - 2 * f1 * np.sinc(2 * f1 * t)) * window / (2 * (f2 - f1)))
        with np.errstate(invalid="ignore"):
            odd = (np.cos(2 * np.pi * f1 * t) - np.cos(2 * np.pi * f2 * t)) / (np.pi * t)
        sines.append(np.where(k == 0, 0, odd) * window / (2 * (f2 - f1)))
    filters = torch.from_numpy(np.stack(cosines + sines)).unsqueeze(1)
    y = (F.conv1d(x, filters, stride=stride, padding=padding).abs() + 1e-6).log()
    return y - y.mean(2, keepdim=True)


class Layers:
    """The layers that both networks have, by name."""

    def __init__(self, w, scale):
        self.w, self.scale = w, scale

    def conv(self, x, name, **options):
        return F.conv1d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), **options)

    def bn(self, x, name):
        return F.batch_norm(x, *(self.w[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    def preprocess(self, wave):
        x = F.pad(wave.unsqueeze(1), (1, 0), "reflect")
        x = x[..., 1:] - float(np.float32(0.97)) * x[..., :-1]
        return F.instance_norm(x, weight=self.w["wave_norm.weight"], bias=self.w["wave_norm.bias"], eps=1e-4)

    def block(self, x, name, dilation, pool=1):
        groups = list(self.bn(self.conv(x, f"{name}.conv1").relu(), f"{name}.bn1").chunk(self.scale, 1))
        for i in range(self.scale - 1):
            y = groups[i] + (groups[i - 1] if i else 0)
            y = self.conv(y, f"{name}.convs.{i}", padding=dilation, dilation=dilation)
            groups[i] = self.bn(y.relu(), f"{name}.bns.{i}")
        y = self.bn(self.conv(torch.cat(groups, 1), f"{name}.conv3").relu(), f"{name}.bn3")
        y = y + (self.conv(x, f"{name}.shortcut") if f"{name}.shortcut.weight" in self.w else x)
        y = F.max_pool1d(y, pool)
        factor = F.linear(y.mean(2), self.w[f"{name}.afms.fc.weight"], self.w[f"{name}.afms.fc.bias"]).sigmoid()
        return (y + self.w[f"{name}.afms.alpha"]) * factor.unsqueeze(2)

    def embedding(self, maps, tanh):
        x = self.conv(torch.cat(maps, 1), "layer4").relu()
        deviation = x.var(2, keepdim=True).clamp(1e-4, 1e4).sqrt()
        h = torch.cat([x, x.mean(2, keepdim=True).expand_as(x), deviation.expand_as(x)], 1)
        h = self.bn(self.conv(h, "pooling.attention.0").relu(), "pooling.attention.2")
        weight = self.conv(h.tanh() if tanh else h, f"pooling.attention.{4 if tanh else 3}").softmax(2)
        mean = (weight * x).sum(2)
        variance = (weight * x**2).sum(2) - mean**2
        x = self.bn(torch.cat([mean, variance.clamp(1e-4, 1e4).sqrt()], 1), "bn5")
        return F.linear(x, self.w["fc6.weight"], self.w["fc6.bias"])


def rawnet3(wave, w, scale=8):
    """(B, T) -> (B, D)."""
    net = Layers(w, scale)
    x1 = net.block(sinc(net.preprocess(wave), w, "sinc", 251, 10, 0), "layer1", 2, 5)
    x2 = net.block(x1, "layer2", 3, 3)
    x1 = F.max_pool1d(x1, 3)
    return net.embedding([x1, x2, net.block(x1 + x2, "layer3", 4)], tanh=False)


def mr_rawnet(wave, w, blocks=(3, 3, 3), scale=4):
    """(B, T) -> (B, D)."""
    net = Layers(w, scale)
    wave = net.preprocess(wave)

    def normalised(x, name):
        mean, variance = x.mean((1, 2), keepdim=True), x.var((1, 2), keepdim=True, correction=0)
        return (x - mean) / (variance + 1e-8).sqrt() * w[f"{name}.gamma"] + w[f"{name}.beta"]

    def temporal(x, name, dilation):
        y = normalised(F.prelu(net.conv(x, f"{name}.reduce"), w[f"{name}.prelu1.weight"]), f"{name}.norm1")
        y = net.conv(y, f"{name}.depthwise", padding=dilation, dilation=dilation, groups=y.shape[1])
        return x + net.conv(normalised(F.prelu(y, w[f"{name}.prelu2.weight"]), f"{name}.norm2"), f"{name}.expand")

    def multi_resolution(x, name):
        up = F.conv_transpose1d(x, w[f"{name}.high_transposed.weight"], w[f"{name}.high_transposed.bias"], stride=2)
        down = net.block(F.avg_pool1d(x, 2, ceil_mode=True), f"{name}.low", 2)
        down = F.conv_transpose1d(down, w[f"{name}.low_transposed.weight"], w[f"{name}.low_transposed.bias"], stride=2)
        three = [net.block(x, f"{name}.original", 2), F.avg_pool1d(net.block(up, f"{name}.high", 2), 2),
                 down[..., : x.shape[2]]]
        v = torch.cat([y.mean(2) for y in three], 1).view(len(x), -1, 3)
        h = net.bn(net.conv(v, f"{name}.gate.attention.0").relu(), f"{name}.gate.attention.2")
        m = net.conv(h, f"{name}.gate.attention.3").softmax(2)
        return x + sum(m[:, :, j : j + 1] * three[j] for j in range(3))

    maps, finer = [], None
    for i in range(4):
        name = f"branches.{i}"
        x = net.conv(sinc(wave, w, f"{name}.sinc", 50 * 2**i + 1, 20 * 2**i, 25 * 2**i), f"{name}.project")
        x = x if finer is None else x + F.max_pool1d(finer, 2, ceil_mode=True)
        for number in range(12):
            x = temporal(x, f"{name}.tcn.{number}", 2 ** (number % 4))
        maps.append(net.bn(net.conv(x, f"{name}.conv", stride=8 // 2**i, padding=8 // 2**i).relu(), f"{name}.bn"))
        finer = x
    x, outputs = net.bn(net.conv(torch.cat(maps, 1), "conv3", padding=2).relu(), "bn3"), []
    for stage, num in enumerate(blocks):
        for number in range(num):
            x = multi_resolution(x, f"stages.{stage}.{number}")
        outputs.append(x)
        x = x if stage == 0 else outputs[0] + x
    return net.bn(net.embedding(outputs, tanh=True), "bn6")
