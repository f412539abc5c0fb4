# SPDX-License-Identifier: Apache-2.0
import random
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
from corpus import write_corpus
from scipy.signal import convolve

from rawnext.config import Config, load_config
from rawnext.data.cuts import CutTable
from rawnext.data.manifest import scan_audio, write_data_dir
from rawnext.data.segment import AudioFault
from rawnext.errors import InputError
from rawnext.training.augment import (
    BLOCK,
    CODECS,
    OPERATIONS,
    add_noise,
    augment,
    coder,
    mix_noises,
    needed_banks,
    parse_operation,
    reverberate,
    rms,
    stretch,
    unit_energy,
)
from rawnext.training.system import check_parts


def test_equals_released_code(parity):
    z = np.load(parity / "pipeline.npz")
    wave = z["aug/audio"]
    noises, snrs = z["aug/noise_files"][:, : len(wave)], z["aug/snr_db"]
    assert np.abs(add_noise(wave, mix_noises(noises[:1], snrs[:1])) - z["aug/noise_mix"]).max() < 1e-5
    assert np.abs(add_noise(wave, mix_noises(noises[1:], snrs[1:])) - z["aug/babble_mix"]).max() < 1e-5
    reference = z["aug/reverb"]
    assert np.abs(reverberate(wave, unit_energy(z["aug/rir"])) - reference).max() < 1e-5 * np.abs(reference).max()


@pytest.mark.parametrize("snr", [0, 7.5, 20])
def test_noise_has_the_requested_snr(snr):
    rng = np.random.default_rng(0)
    wave, noise = rng.standard_normal(16000).astype(np.float32), 3 * rng.standard_normal(16000).astype(np.float32)
    added = add_noise(wave, mix_noises([noise], [snr])) - wave
    assert 10 * np.log10(np.mean(wave**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.01)


@pytest.mark.parametrize("num", [90, BLOCK, BLOCK + 1, 3 * BLOCK + 77])
@pytest.mark.parametrize("length", [1, 90, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5, 9 * BLOCK])
def test_reverberation_equals_direct_convolution(num, length):
    """Computation in blocks gives the whole convolution, for responses longer than the wave too."""
    rng = np.random.default_rng([num, length])
    wave, response = rng.standard_normal(num), rng.standard_normal(length) * np.exp(-np.arange(length) / 4000)
    found = reverberate(wave.astype(np.float32), response.astype(np.float32))
    expected = convolve(wave, response)[:num]
    assert found.dtype == np.float32 and found.shape == wave.shape
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max() + 1e-6


def test_room_response_has_unit_energy_and_is_not_silent(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(np.arange(2000)), 16000)
    write_data_dir(scan_audio([("a", "a", str(tmp_path / "a.wav"))], 1)[0], tmp_path)
    click, bank = np.zeros(4000, np.float32), {"rirs": CutTable(tmp_path)}
    click[500] = 1
    reverberant = OPERATIONS["reverb"](click, random.Random(0), bank)
    assert np.sum(reverberant**2) == pytest.approx(1, abs=1e-5) and np.abs(reverberant[:500]).max() < 1e-7
    soundfile.write(tmp_path / "a.wav", np.zeros(2000), 16000)
    with pytest.raises(AudioFault, match="^a: a silent room response"):
        OPERATIONS["reverb"](click, random.Random(0), bank)


def test_rms_has_a_floor():
    assert rms(np.zeros(100, np.float32)) == pytest.approx(0.01)
    assert rms(np.full(100, 0.3, np.float32)) == pytest.approx(np.sqrt(0.09 + 1e-4))


def test_probabilities_equal_released_code(root):
    cases = load_config([root / "conf" / "augment.yaml"]).augment
    rng = random.Random(1)
    drawn = Counter(tuple(rng.choices(cases, [c["weight"] for c in cases])[0]["ops"]) for _ in range(24_000))
    expected = {(): 4, ("music",): 4, ("babble",): 4, ("noise",): 4, ("reverb",): 5, ("reverb", "music"): 1,
                ("reverb", "babble"): 1, ("reverb", "noise"): 1}
    assert {ops: round(num / 1000) for ops, num in drawn.items()} == expected
    assert needed_banks(cases) == {"musan_noise", "musan_music", "musan_speech", "rirs"}


def test_every_operation_is_reproducible(tmp_path):
    bank = CutTable(write_corpus(tmp_path / "bank", 3, 2, 0.4))
    banks = dict.fromkeys(("musan_noise", "musan_music", "musan_speech", "rirs"), bank)
    wave = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    for name in OPERATIONS:
        case = [{"ops": [name], "weight": 1}]
        one, again, other = (augment(wave, case, random.Random(seed), banks) for seed in (1, 1, 3))
        assert one.shape == wave.shape and one.dtype == np.float32 and np.isfinite(one).all()
        assert (one == again).all(), name
        assert (one != other).any() or name == "reverse", name
    assert augment(wave, [], random.Random(1), {}) is wave


def tone(frequency: float, num_samples: int = 32000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency / 16000 * np.arange(num_samples))).astype(np.float32)


def frequency_of(wave: np.ndarray) -> float:
    """Hz of the strongest tone, by a parabola through the logarithms of the window's main lobe."""
    inner = wave[3000:-3000]
    spectrum = np.log(np.abs(np.fft.rfft(inner * np.hanning(len(inner)))))
    peak = int(spectrum.argmax())
    left, top, right = spectrum[peak - 1 : peak + 2]
    return (peak + (left - right) / (2 * (left - 2 * top + right))) * 16000 / len(inner)


@pytest.mark.parametrize("frequency", [200, 1000])
@pytest.mark.parametrize(("speed", "semitones"), [(0.8, 0), (1.25, 0), (1, 4), (1, -4), (1, 0)])
def test_speed_and_pitch_have_the_requested_values(frequency, speed, semitones):
    wave = stretch(tone(frequency), speed, semitones)
    assert wave.dtype == np.float32 and len(wave) == 32000 / speed
    assert frequency_of(wave) == pytest.approx(frequency * 2 ** (semitones / 12), rel=0.01)  # low tones: 0.8 %
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_stretching_divides_times_by_speed(speed):
    wave = np.zeros(32000, np.float32)
    wave[16000:16100] = 1
    power = np.square(stretch(wave, speed))
    assert (np.arange(len(power)) * power).sum() / power.sum() == pytest.approx(16050 / speed, abs=160)


def draws(name: str, wave: np.ndarray, num: int) -> list[np.ndarray]:
    return [OPERATIONS[name](wave, random.Random(seed), {}) for seed in range(num)]


def test_draws_cover_their_whole_ranges():
    noises = [np.std(wave - tone(300)) for wave in draws("gaussian_noise", tone(300), 100)]
    assert 0.0009 < min(noises) < 0.002 and 0.014 < max(noises) < 0.0155
    pitches = [12 * np.log2(frequency_of(wave) / 500) for wave in draws("pitch_shift", tone(500, 16000), 60)]
    assert -4.1 < min(pitches) < -3.5 and 3.5 < max(pitches) < 4.1
    click = np.zeros(10000, np.float32)
    click[5000] = 1
    positions = [int(np.argmax(wave)) - 5000 for wave in draws("shift", click, 200)]
    assert -5000 <= min(positions) < -4500 and 4500 < max(positions) <= 5000
    click = np.pad(np.ones(100, np.float32), (12000, 4000))
    positions = [np.flatnonzero(np.abs(wave[9000:15800]) > 0.5)[0] + 9000 for wave in draws("time_stretch", click, 60)]
    assert 1.2 < 12000 / min(positions) < 1.27 and 0.78 < 12000 / max(positions) < 0.84


def test_shift_and_reverse():
    wave = np.arange(1, 1601, dtype=np.float32)
    (rolled,) = draws("shift", wave, 1)
    assert (np.roll(rolled, -int(rolled.argmin())) == wave).all()
    assert (draws("reverse", wave, 1)[0] == wave[::-1]).all()


def test_each_operation_has_its_own_probability(root):
    cases = load_config([root / "conf" / "csv" / "augment.yaml"]).augment
    assert [parse_operation(op) for op in cases[0]["ops"]] == [
        (name, 0.5) for name in ("gaussian_noise", "time_stretch", "pitch_shift", "shift", "reverse")]
    assert len(cases) == 1 and needed_banks(cases) == set()
    wave, rng = np.arange(1, 1601, dtype=np.float32), random.Random(1)
    case = [{"ops": [{"name": "reverse", "p": 0.25}]}]
    share = np.mean([augment(wave, case, rng, {})[0] == 1600 for _ in range(4000)])
    assert share == pytest.approx(0.25, abs=0.03)
    both = [{"ops": [{"name": "noise", "p": 0.5}, "shift"]}]
    assert needed_banks(both) == {"musan_noise"}


@pytest.mark.parametrize("op", [1, {"p": 0.5}, {"name": "shift", "p": 2}, {"name": "shift", "p": "a"}, {"name": 1},
                                {"name": "shift", "chance": 1}])
def test_malformed_operations_are_refused(op):
    with pytest.raises(ValueError, match="augment"):
        parse_operation(op)


def test_gain_covers_its_range():
    levels = [20 * np.log10(np.std(wave) / np.std(tone(300))) for wave in draws("gain", tone(300), 200)]
    assert -40 <= min(levels) < -38 and 4.5 < max(levels) <= 6.001


def test_dropped_spans_are_silent_and_short():
    wave = np.ones(16000, np.float32)
    for dropped in draws("drop_time", wave, 50):
        assert set(np.unique(dropped)) <= {0.0, 1.0} and 16000 - dropped.sum() <= 3 * 1600
    assert wave.all(), "the input is changed"


def test_pauses_are_quiet_and_at_the_ends():
    wave = tone(300)
    places, shares = set(), []
    for paused in draws("pause", wave, 200):
        assert paused.dtype == np.float32 and len(paused) == len(wave)
        speech = np.flatnonzero(paused == wave)
        first, last = speech.min(), speech.max() + 1
        assert (paused[first:last] == wave[first:last]).all(), "the pauses are at the ends"
        rest = np.concatenate([paused[:first], paused[last:]])
        shares.append(len(rest) / len(wave))
        places.add((first > 0, last < len(wave)))
        if len(rest) > 100:
            assert -81 < 20 * np.log10(np.std(rest) / np.std(wave)) < -18
    assert max(shares) <= 0.601 and max(shares) > 0.55 and min(shares) < 0.05
    assert {(True, False), (False, True), (True, True)} <= places


def test_dropped_bands_are_empty_and_narrow():
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    for dropped in draws("drop_band", noise, 20):
        power = np.abs(np.fft.rfft(dropped, 16000)) ** 2
        assert (power < 1e-3).sum() <= 3 * 400 + 3
    assert max((np.abs(np.fft.rfft(x)) < 1e-2).sum() for x in draws("drop_band", noise, 20)) > 300


@pytest.mark.parametrize("name", ["microphone", "telephone", "codec", "amr"])
@pytest.mark.parametrize("gain", [0.01, 1])
def test_channels_keep_time_length_and_level(name, gain):
    speech = gain * np.convolve(np.random.default_rng(0).standard_normal(16000), np.hanning(40), "same") / 20
    speech = (speech * np.hanning(16000)).astype(np.float32)
    for changed in draws(name, speech, 12):
        assert np.sqrt(np.mean(changed**2)) == pytest.approx(np.sqrt(np.mean(speech**2)), rel=1e-3)
        score = np.correlate(changed, speech[300:-300], "valid")
        assert abs(int(score.argmax()) - 300) <= 20 and (changed != speech).any()


def test_silence_passes_every_channel():
    for name in ("microphone", "telephone", "codec", "amr"):
        for wave in draws(name, np.zeros(4000, np.float32), 12):
            assert np.isfinite(wave).all() and len(wave) == 4000


def test_the_telephone_is_narrow_band():
    noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    for changed in draws("telephone", noise, 10):
        power = np.abs(np.fft.rfft(changed)) ** 2
        assert power[4200:].sum() < 0.01 * power.sum() and power[500:2500].sum() > 0.4 * power.sum()


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec[1]}-{codec[2]}")
def test_every_codec_changes_the_wave_a_little(codec, monkeypatch):
    monkeypatch.setattr("rawnext.training.augment.CODECS", (codec,))
    wave = tone(700)
    for changed in draws("codec", wave, 3):
        assert (changed != wave).any() and np.corrcoef(changed[800:-800], wave[800:-800])[0, 1] > 0.9


def test_amr_needs_its_encoder(monkeypatch):
    with pytest.raises(InputError, match=r"AMR needs PyAV's own wheel: pip install 'rawnext\[amr\]'"):
        monkeypatch.setattr("rawnext.training.augment.AMR_ENCODER", "libnothing")   # as in other builds of ffmpeg
        check_parts(Config(augment=[{"ops": ["amr"]}]), "x.yaml")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"x.yaml: AMR needs"):
        check_parts(Config(augment=[{"ops": ["amr"]}]), "x.yaml")


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec[3]], ids=lambda codec: f"{codec[1]}-{codec[2]}")
def test_every_quality_can_be_encoded(codec):
    """libsndfile refuses the highest quality of MP3."""
    *form, levels = codec
    for level in levels:
        assert len(coder(tone(700), *form, level)) >= len(tone(700))


def test_the_telephone_codes_by_the_formulas_of_g711():
    """ITU-T G.711: eight segments of 16 steps each, whose size doubles from one to the next."""
    wave = np.linspace(-0.95, 0.95, 4001).astype(np.float32)
    exponent, mantissa = np.meshgrid(np.arange(8), np.arange(16), indexing="ij")
    linear = exponent == 0  # the first two segments of A-law have steps of the same size
    a_half = 1 << np.maximum(exponent - 1, 0)
    for subtype, levels, half_step, scale in (
            ("ULAW", ((2 * mantissa + 33) << exponent) - 33, 1 << exponent, 8192),
            ("ALAW", (2 * mantissa + np.where(linear, 1, 33)) * a_half, a_half, 4096)):
        out = scale * coder(wave, "WAV", subtype, 8000, None)
        place = np.abs(np.abs(out)[:, None] - levels.ravel()).argmin(1)
        np.testing.assert_allclose(np.abs(out), levels.ravel()[place], atol=0.01)
        assert (np.abs(out - scale * wave) <= half_step.ravel()[place] + 1.5).all(), "rounded to integers before"
        assert len(set(place)) > 100, "of 128 levels"
