# SPDX-License-Identifier: Apache-2.0
"""Augmentation drawn for each utterance from (seed, epoch, utt): noise, rooms, signal changes, channels, drops.

An operation is a function `op(wave (T,), rng, banks) -> wave (T,)` in OPERATIONS; of a recording, only the segment that
is needed is read. SNR ranges, the power floor and the treatment of room responses are those of the released RawNeXt
code and related code (docs/reference/augmentation.md); the ranges of the other operations are the defaults of
audiomentations.
"""

import io
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import soundfile

from rawnext.data.cuts import SAMPLE_RATE, CutTable, tile
from rawnext.data.segment import AudioFault, read_segment
from rawnext.registry import Registry

Banks = Mapping[str, CutTable]
Draw = Callable[[int, random.Random, CutTable], np.ndarray]
OPERATIONS = Registry("operation")
POWER_FLOOR = 1e-4  # of the mean square
BLOCK = 8192  # samples; two blocks and their spectrum fit in a core's own cache


def rms(wave: np.ndarray) -> float:
    """Root mean square of (T,), with a power floor that bounds the gain of near-silence."""
    return math.sqrt(float(np.einsum("t,t", wave, wave)) / len(wave) + POWER_FLOOR)


def mix_noises(noises: Sequence[np.ndarray], snrs_db: Sequence[float]) -> np.ndarray:
    """The sum (T,) of noises (T,), each at its own SNR in dB to a wave with an RMS of 1."""
    gains = [np.float32(10 ** (-snr / 20) / rms(noise)) for noise, snr in zip(noises, snrs_db)]
    total = gains[0] * noises[0]
    for gain, noise in zip(gains[1:], noises[1:]):
        total += gain * noise
    return total


def add_noise(wave: np.ndarray, mix: np.ndarray) -> np.ndarray:
    """wave (T,) plus the result (T,) of mix_noises; neither clipped nor rescaled."""
    return wave + np.float32(rms(wave)) * mix


def unit_energy(response: np.ndarray) -> np.ndarray:
    return (response / np.sqrt(np.sum(np.square(response, dtype=np.float64)))).astype(np.float32)


def reverberate(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The first T samples of wave (T,) convolved with a room response (R,).

    Overlap-save, with the response in blocks too: half the time of a single transform, a third for long responses.
    """
    num_blocks = -(-len(wave) // BLOCK)
    padded = np.zeros((num_blocks + 1) * BLOCK, np.float32)
    padded[BLOCK : BLOCK + len(wave)] = wave
    parts = np.zeros((-(-len(response) // BLOCK), BLOCK), np.float32)
    parts.reshape(-1)[: len(response)] = response
    spectra = scipy.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, 2 * BLOCK)[::BLOCK])
    filters = scipy.fft.rfft(parts, 2 * BLOCK)
    product = spectra * filters[0]
    for delay in range(1, len(filters)):
        product[delay:] += spectra[:-delay] * filters[delay]
    return scipy.fft.irfft(product, overwrite_x=True)[:, BLOCK:].reshape(-1)[: len(wave)]


def noise_segment(bank: CutTable, num_samples: int, rng: random.Random) -> np.ndarray:
    """A random segment of a random recording, repeated if the recording is shorter."""
    cut = bank[rng.randrange(len(bank))]
    return read_segment(cut, rng.randint(0, max(0, cut.num_samples - num_samples)), num_samples)


def noise_drawer(low_db: float, high_db: float, min_noises: int = 1, max_noises: int = 1) -> Draw:
    """A function that draws noises of a bank and their SNRs and mixes them."""
    def draw(num_samples: int, rng: random.Random, bank: CutTable) -> np.ndarray:
        num = rng.randint(min_noises, max_noises)
        snrs = [rng.uniform(low_db, high_db) for _ in range(num)]
        return mix_noises([noise_segment(bank, num_samples, rng) for _ in range(num)], snrs)

    return draw


def draw_response(num_samples: int, rng: random.Random, bank: CutTable) -> np.ndarray:
    """A random room response of unit energy."""
    cut = bank[rng.randrange(len(bank))]
    response = read_segment(cut, 0, cut.num_samples)
    if not response.any():
        raise AudioFault(f"{cut.utt}: a silent room response")
    return unit_energy(response)


@dataclass(frozen=True)
class BankOperation:
    """An operation that uses recordings of a bank, in two parts: `draw` reads them, `apply` changes the wave.

    bank: data directory.   draw: (T, rng, bank) -> array, independent of the wave.
    apply: (wave (T,), array) -> wave (T,).
    """

    bank: str
    draw: Draw
    apply: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def __call__(self, wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
        return self.apply(wave, self.draw(len(wave), rng, banks[self.bank]))


BANK_OPERATIONS = {
    "noise": BankOperation("musan_noise", noise_drawer(0, 15), add_noise),
    "music": BankOperation("musan_music", noise_drawer(5, 15), add_noise),
    "babble": BankOperation("musan_speech", noise_drawer(13, 20, 3, 7), add_noise),
    "reverb": BankOperation("rirs", draw_response, reverberate),
}
OPERATIONS.update(BANK_OPERATIONS)


@OPERATIONS.register("gaussian_noise")
def gaussian_noise(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Add white noise with a standard deviation of 0.001 to 0.015 of full scale."""
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(len(wave), dtype=np.float32)
    return wave + np.float32(rng.uniform(0.001, 0.015)) * noise


@OPERATIONS.register("time_stretch")
def time_stretch(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Play 0.8 to 1.25 times as fast at the same pitch; slower speech loses its end, faster speech is repeated."""
    return tile(stretch(wave, speed=rng.uniform(0.8, 1.25)), len(wave))


@OPERATIONS.register("pitch_shift")
def pitch_shift(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Shift the pitch, formants included, by up to 4 semitones down or up at the same speed."""
    return tile(stretch(wave, semitones=rng.uniform(-4, 4)), len(wave))


@OPERATIONS.register("shift")
def shift(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Rotate in time by up to half of the length in either direction."""
    return np.roll(wave, rng.randint(-(len(wave) // 2), len(wave) // 2))


@OPERATIONS.register("reverse")
def reverse(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Reverse in time."""
    return wave[::-1].copy()


@OPERATIONS.register("gain")
def gain(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Amplify by -40 to +6 dB, without clipping."""
    return wave * np.float32(10 ** (rng.uniform(-40, 6) / 20))


@OPERATIONS.register("drop_time")
def drop_time(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Silence 1 to 3 spans of up to 0.1 s: SpecAugment's masks in time, for any model."""
    wave = wave.copy()
    for _ in range(rng.randint(1, 3)):
        num = rng.randint(0, min(SAMPLE_RATE // 10, len(wave) // 4))
        start = rng.randint(0, len(wave) - num)
        wave[start : start + num] = 0
    return wave


@OPERATIONS.register("drop_band")
def drop_band(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Remove 1 to 3 bands of up to 400 Hz each: SpecAugment's masks in frequency, for any model."""
    size = scipy.fft.next_fast_len(len(wave), real=True)
    spectrum = scipy.fft.rfft(wave, size)
    per_hz = len(spectrum) / (SAMPLE_RATE / 2)
    for _ in range(rng.randint(1, 3)):
        width = round(rng.uniform(0, 400) * per_hz)
        start = rng.randint(0, len(spectrum) - width)
        spectrum[start : start + width] = 0
    return scipy.fft.irfft(spectrum, size)[: len(wave)]


@OPERATIONS.register("pause")
def pause(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """A pause of up to 60 % of the crop, before, after or around the speech: white noise 20 to 80 dB below the crop."""
    num = rng.randint(0, len(wave) * 6 // 10)
    before = rng.choice((0, num, rng.randint(0, num)))
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(len(wave), dtype=np.float32)
    noise *= np.float32(rms(wave) * 10 ** (-rng.uniform(20, 80) / 20))
    speech = slice(before, len(wave) - (num - before))
    noise[speech] = wave[speech]
    return noise


# --- what a voice passes through: microphones, the telephone, codecs; length and RMS are kept

# Format and subtype of libsndfile, sampling rate, and range of its compression level (0: best, 1: smallest file)
CODECS = (("OGG", "OPUS", 16000, (0.93, 0.99)), ("OGG", "OPUS", 8000, (0.93, 0.99)),
          ("OGG", "VORBIS", 16000, (0.5, 1.0)), ("MP3", "MPEG_LAYER_III", 16000, (0.5, 0.999)),
          ("WAV", "GSM610", 8000, None), ("WAV", "IMA_ADPCM", 8000, None), ("WAV", "G721_32", 8000, None))

AMR_ENCODER = "libopencore_amrnb"
AMR_KBITS = (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2)
AMR_FRAME = 160  # samples at 8 kHz
AMR_DELAY = 78  # samples at 16 kHz: the encoder looks 5 ms ahead


def like(changed: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """`changed` with the length and the RMS of wave (T,)."""
    out = np.zeros(len(wave), np.float32)
    out[: len(changed)] = changed[: len(wave)]
    power = float(np.einsum("t,t", out, out))
    return out * np.float32((float(np.einsum("t,t", wave, wave)) / power) ** 0.5) if power > 0 else wave


@OPERATIONS.register("microphone")
def microphone(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """A random first-order filter, (1 + a z^-1) / (1 + b z^-1) with a and b in -0.6...0.6: more bass or more treble."""
    zero, pole = rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6)
    return like(scipy.signal.lfilter([1, zero], [1, pole], wave).astype(np.float32), wave)


@OPERATIONS.register("telephone")
def telephone(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Narrow-band telephone: 8 kHz, a band from 50-400 Hz to 2.8-3.9 kHz, and G.711 (mu-law or A-law)."""
    narrow = scipy.signal.resample_poly(wave, 1, 2)
    band = scipy.signal.butter(2, [rng.uniform(50, 400), rng.uniform(2800, 3900)], "bandpass", fs=8000, output="sos")
    narrow = scipy.signal.sosfilt(band, narrow)
    peak = np.abs(narrow).max() / rng.uniform(0.1, 1) or 1.0  # calls use a part of the scale
    coded = coder(narrow / peak, "WAV", rng.choice(["ULAW", "ALAW"]), 8000, None)
    return like(scipy.signal.resample_poly(coded, 2, 1), wave)


@OPERATIONS.register("codec")
def codec(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Encode and decode by one of CODECS, at a random quality."""
    form, subtype, rate, levels = rng.choice(CODECS)
    peak = np.abs(wave).max() / 0.9 or 1.0
    return like(coded(wave / peak, form, subtype, rate, levels and rng.uniform(*levels)), wave)


@OPERATIONS.register("amr")
def amr(wave: np.ndarray, rng: random.Random, banks: Banks) -> np.ndarray:
    """Encode and decode by AMR-NB, the speech codec of mobile telephones, at one of its bit rates."""
    peak = np.abs(wave).max() / 0.9 or 1.0
    return like(amr_coded(wave / peak, rng.choice(AMR_KBITS)), wave)


def amr_coded(wave: np.ndarray, kbits: float) -> np.ndarray:
    """(T,) at 16 kHz -> (T,) after encoding and decoding by AMR-NB, 8 kHz, at one of AMR_KBITS; without its delay."""
    import av

    narrow = scipy.signal.resample_poly(wave, 1, 2)
    frames = np.pad(narrow, (0, -len(narrow) % AMR_FRAME + AMR_FRAME)).reshape(-1, 1, AMR_FRAME)
    frames = np.clip(np.rint(frames * 32768), -32768, 32767).astype(np.int16)
    encoder: Any = av.CodecContext.create(AMR_ENCODER, "w")
    decoder: Any = av.CodecContext.create("amrnb", "r")
    for context in (encoder, decoder):
        context.sample_rate, context.layout = 8000, "mono"
    encoder.format, encoder.bit_rate = "s16", round(1000 * kbits)
    parts = []
    for samples in [*frames, None]:  # None: what the encoder still holds
        frame = None
        if samples is not None:
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 8000
        parts += [part.to_ndarray()[0] for packet in encoder.encode(frame) for part in decoder.decode(packet)]
    out = scipy.signal.resample_poly(np.concatenate(parts), 2, 1)[AMR_DELAY : AMR_DELAY + len(wave)]
    return np.pad(out, (0, len(wave) - len(out)))


def check_amr() -> None:
    """Raise ValueError if AMR cannot be encoded: PyAV's wheels have an encoder, few builds of ffmpeg do."""
    try:
        import av

        av.codec.Codec(AMR_ENCODER, "w")
    except (ImportError, ValueError):
        raise ValueError("AMR needs PyAV's own wheel: pip install 'rawnext[amr]'") from None


def coded(wave: np.ndarray, form: str, subtype: str, rate: int, level: float | None = None,
          mode: str | None = None) -> np.ndarray:
    """(T,) at 16 kHz -> (T,) after encoding and decoding at `rate` in Hz; see coder."""
    step = SAMPLE_RATE // rate
    samples = scipy.signal.resample_poly(wave, 1, step) if step > 1 else wave
    out = coder(samples, form, subtype, rate, level, mode)
    out = (scipy.signal.resample_poly(out, step, 1) if step > 1 else out)[: len(wave)]
    return np.pad(out, (0, len(wave) - len(out)))


def coder(wave: np.ndarray, form: str, subtype: str, rate: int, level: float | None,
          mode: str | None = None) -> np.ndarray:
    """(T,) after encoding and decoding in memory by libsndfile, with its compression level and bit rate mode."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, subtype, format=form, compression_level=level, bitrate_mode=mode)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def stretch(wave: np.ndarray, speed: float = 1.0, semitones: float = 0.0) -> np.ndarray:
    """wave (T,) float32 -> about (T / speed,), `speed` times as fast and `semitones` higher."""
    from python_stretch.Signalsmith import Stretch

    stretcher = Stretch(0)  # the seed, as it may draw phases
    stretcher.preset(1, SAMPLE_RATE)
    stretcher.setTimeFactor(speed)
    stretcher.setTransposeSemitones(semitones)
    rows: np.ndarray = stretcher.process(wave.astype(np.float32)[None])  # type: ignore[assignment]
    return rows[0]


def parse_operation(op: str | Mapping[str, Any]) -> tuple[str, float]:
    """`name` or `{name: ..., p: 0.5}` -> name, and the probability of the operation if its case is drawn.

    Raises: ValueError: op is something else, or p is not a probability.
    """
    if isinstance(op, str):
        return op, 1.0
    if not isinstance(op, Mapping) or not isinstance(op.get("name"), str) or op.keys() - {"name", "p"}:
        raise ValueError(f"augment: want an operation's name, or {{name: ..., p: 0.5}}, got {op!r}")
    p = op.get("p", 1.0)
    if not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ValueError(f"augment: {op['name']}: p: 0...1, got {p!r}")
    return op["name"], float(p)


def needed_banks(cases: Sequence[Mapping[str, Any]]) -> set[str]:
    """Data directories that a configuration's augmentation reads."""
    names = {parse_operation(op)[0] for case in cases for op in case.get("ops", [])}
    return {BANK_OPERATIONS[name].bank for name in names & BANK_OPERATIONS.keys()}


def draw_operations(cases: Sequence[Mapping[str, Any]], rng: random.Random) -> Iterator[str]:
    """Draw a case by weight and yield the names of its operations, each with its own probability.

    Run an operation before taking the next name: its draws come between those of this function.
    """
    if not cases:
        return
    case = rng.choices(cases, [case.get("weight", 1) for case in cases])[0]
    for op in case.get("ops", []):
        name, p = parse_operation(op)
        if p == 1 or rng.random() < p:
            yield name


def augment(wave: np.ndarray, cases: Sequence[Mapping[str, Any]], rng: random.Random, banks: Banks) -> np.ndarray:
    """Draw a case and apply its operations in order."""
    for name in draw_operations(cases, rng):
        wave = OPERATIONS[name](wave, rng, banks)
    return wave
